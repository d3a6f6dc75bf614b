"""The worker: a process that keeps a model loaded and synthesizes on request (``protocol``).

    python -m MedDiffusionLib.worker

A front end starts it with ``worker.client``; the computing is the engine's, as everywhere.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

from ..compute.threads import wait_passively
from .protocol import PROTOCOL, decode_request, encode

IDLE_SECONDS = 600.0


def main(idle_seconds: float = IDLE_SECONDS) -> int:
    """Speak the protocol over stdin and stdout until stdin ends or nothing is asked for long."""
    wait_passively()
    # Whatever a library prints must not come between the events.
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        events.write(encode(message))

    try:
        from .jobs import Worker
    except (ImportError, OSError) as error:  # A DLL that does not load is an OSError on Windows.
        send({"event": "unusable", "message": str(error) or type(error).__name__})
        return 1
    worker = Worker(send)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        # Unbuffered: a reader that waits in a buffer's lock keeps the interpreter from ending.
        for line in os.fdopen(0, "rb", buffering=0, closefd=False):
            try:
                request = decode_request(line)
            except ValueError:
                continue
            if request["do"] == "cancel":
                worker.cancel(request["job"])
            else:
                requests.put(request)
        os._exit(0)

    send({"event": "ready", "protocol": PROTOCOL})
    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            request = requests.get(timeout=idle_seconds)
        except queue.Empty:
            return 0
        worker.handle(request)
