"""The worker: a process that keeps a model loaded and synthesizes on request (``protocol``).

    python -m MedDiffusionLib.worker

A front end starts it with ``worker_client``; the computing is the engine's, as everywhere.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..compute.errors import Cancelled, UserError
from ..compute.threads import wait_passively
from .protocol import PROTOCOL, decode, encode, put_volume, take_volume

if TYPE_CHECKING:
    from ..synthesis.synthesizer import Step, Synthesizer
    from ..volumes.volume import Volume

IDLE_SECONDS = 600.0
Send = Callable[[dict[str, Any]], None]


class Worker:
    """Does one request after the other; ``send`` takes the events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._warm: tuple[tuple[str, str, str], Synthesizer] | None = None
        self._cancelled: set[int] = set()

    def cancel(self, job: int) -> None:
        """Stop a job after its current step, or before its first; from any thread."""
        self._cancelled.add(job)

    def handle(self, request: dict[str, Any]) -> None:
        """Do a request; whatever goes wrong becomes the event ``failed``."""
        from ..synthesis.batch import out_of_memory_as_user_error

        job = request.get("job")
        try:
            with out_of_memory_as_user_error():
                self._REQUESTS[request["do"]](self, request)
            self._send({"event": "finished", "job": job})
        except Cancelled:
            self._send({"event": "cancelled", "job": job})
        except UserError as error:
            self._send({"event": "failed", "job": job, "message": str(error)})
        except Exception as error:
            traceback.print_exc()
            sentence = f"The synthesis failed ({type(error).__name__}: {error}): please report it."
            self._send({"event": "failed", "job": job, "message": sentence})

    def _synthesize(self, request: dict[str, Any]) -> None:
        from ..synthesis.labels import match_labels
        from ..synthesis.results import made_on, provenance
        from ..synthesis.synthesizer import Settings

        job = request["job"]
        self._stop_if_cancelled(job)
        synthesizer = self._synthesizer(request["model"], request["device"])
        bundle, execution = synthesizer.bundle, synthesizer.execution
        channels = bundle.manifest.channels
        described = [{"name": c.name, "units": c.units, "range": c.range} for c in channels]
        settings = Settings(**request["settings"]).resolved(bundle)
        told = {int(value): name for value, name in request["told"].items()}
        labels = match_labels(take_volume(request["labels"]), bundle.manifest, told)

        def put(name: str, volumes: list[Volume]) -> list[dict[str, Any]]:
            folder = Path(request["folder"])
            return [put_volume(folder / f"{name}-{n}.npy", v) for n, v in enumerate(volumes)]

        def on_step(step: Step) -> None:
            self._stop_if_cancelled(job)
            volumes = put(f"step-{step.sample}-{step.step}", step.estimate())
            self._send(
                {"event": "step", "job": job, "sample": step.sample, "step": step.step,
                 "steps": step.steps, "volumes": volumes, "channels": described}
            )  # fmt: skip

        for sample in synthesizer.synthesize(labels, settings, on_step):
            self._stop_if_cancelled(job)
            facts = [
                provenance(request["label_map"], settings, bundle, sample.index, c.name)
                for c in channels
            ]
            self._send(
                {"event": "sample", "job": job, "sample": sample.index,
                 "volumes": put(f"sample-{sample.index}", sample.volumes), "channels": described,
                 "provenance": [{**f, **made_on(execution)} for f in facts]}
            )  # fmt: skip

    def _label_map(self, request: dict[str, Any]) -> None:
        from ..bundles.catalog import find_model
        from ..bundles.manifest import read_manifest
        from ..bundles.shape_model import load_shape_model
        from ..synthesis.synthesizer import check_seed

        check_seed(request["seed"])
        folder = find_model(request["model"])
        labels = load_shape_model(folder, read_manifest(folder)).sample(request["seed"])
        path = Path(request["folder"]) / "labelmap.npy"
        self._send({"event": "labelmap", "job": request["job"], "volume": put_volume(path, labels)})

    def _synthesizer(self, model: str, device_name: str) -> Synthesizer:
        """The loaded model: the one of last time where it is the same still, else a new one."""
        from ..bundles.bundle import load_bundle
        from ..bundles.catalog import find_model
        from ..bundles.manifest import read_manifest
        from ..compute.execution import choose_device, choose_execution
        from ..synthesis.synthesizer import Synthesizer

        folder = find_model(model)
        key = (str(folder), read_manifest(folder).content["weights"]["sha256"], device_name)
        if self._warm is None or self._warm[0] != key:
            self._warm = None  # lets go of the old model before the new one is loaded
            bundle = load_bundle(folder)
            execution = choose_execution(choose_device(device_name), bundle.manifest)
            self._warm = key, Synthesizer(bundle, execution)
        return self._warm[1]

    def _stop_if_cancelled(self, job: int) -> None:
        if job in self._cancelled:
            self._cancelled.discard(job)
            raise Cancelled

    _REQUESTS: ClassVar[dict[str, Callable[[Worker, dict[str, Any]], None]]] = {
        "synthesize": _synthesize,
        "labelmap": _label_map,
    }


def main(idle_seconds: float = IDLE_SECONDS) -> int:
    """Speak the protocol over stdin and stdout until stdin ends or nothing is asked for long."""
    wait_passively()
    # Whatever a library prints must not come between the events.
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        events.write(encode(message))

    try:
        import safetensors  # noqa: F401
        import SimpleITK  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        send({"event": "unusable", "message": f"{error.name} cannot be imported ({error})."})
        return 1
    worker = Worker(send)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        # Unbuffered: a reader that waits in a buffer's lock keeps the interpreter from ending.
        for line in os.fdopen(0, "rb", buffering=0, closefd=False):
            try:
                request = decode(line)
            except ValueError:
                continue
            if request.get("do") == "cancel":
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
