"""What the worker process and its client say to each other: JSON lines, arrays in files.

One JSON object per line, UTF-8. Requests go to the worker's stdin, events come from its stdout.

Requests:

- ``{"do": "synthesize", "job": 1, "model": NAME|PATH, "device": "auto", "labels": VOLUME,
  "label_map": NAME, "overrides": {"3": "anterior"}, "settings": {...}, "folder": PATH}``:
  ``settings`` are the fields of ``synthesis.settings.Settings``, ``overrides`` say which value is
  which label of the model, results go to ``folder``; ``"previews": false`` leaves out the events
  ``step``;
- ``{"do": "generate", "job": 1, "model": NAME|PATH, "device": "auto", "settings": {...}, "folder":
  PATH}``: the same without a label map;
- ``{"do": "labelmap", "job": 2, "model": NAME|PATH, "seed": 0, "folder": PATH}``: draws a random
  label map;
- ``{"do": "vary", "job": 4, "model": NAME|PATH, "labels": VOLUME, "overrides": {...}, "strength":
  0.5, "seed": 0, "folder": PATH}``: makes a label map of another shape, with the model's labels;
- ``{"do": "import", "job": 3, "source": PATH, "name": NAME, "license": TEXT or null, "options":
  ["KEY=VALUE", ...], "overwrite": false, "folder": PATH}``: makes a checkpoint of another program a
  model of the user's;
- ``{"do": "cancel", "job": 1}``: taken at once, between two steps; all else waits for its turn.

The end of stdin ends the worker at once, whatever it does. So does being idle for ten minutes.

Events:

- ``{"event": "ready", "protocol": 2}`` once, or ``{"event": "unusable", "message": SENTENCE}``
  and the end;
- ``{"event": "started", "job": 1, "channels": [{"name", "units", "range"}, ...]}``: the model is
  loaded, and these are the channels of the volumes to come;
- ``{"event": "step", "job": 1, "sample": 0, "step": 3, "steps": 8, "volumes": [VOLUME, ...]}``: the
  current estimate on the model's own grid, a volume per channel; none at some of the steps where
  making them takes long;
- ``{"event": "sample", "job": 1, "sample": 0, "volumes": [...], "provenance": [{...}, ...]}``: a
  finished sample;
- ``{"event": "labelmap", "job": 2, "volume": VOLUME}``: one that was drawn or varied;
- ``{"event": "imported", "job": 3, "model": NAME}``;
- then one of ``finished``, ``cancelled`` and ``failed`` per job, the last with the fields of the
  error: ``problem``, ``remedy``, ``path`` (a text or null), ``code`` and ``detail``.

VOLUME is ``{"file": PATH, "affine": 4 x 4, "kind": "intensity" or "label", "segments": [[value,
name, code], ...]}`` with the array ``[i, j, k]`` in a ``.npy`` file. The receiver deletes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..compute.errors import UserError
from ..compute.parsing import parse_json
from ..volumes.volume import Kind, Segment, Volume

PROTOCOL = 2
ENDINGS = ("finished", "cancelled", "failed")
"""The events that end a job."""
EVENTS = ("ready", "unusable", "started", "step", "sample", "labelmap", "imported", *ENDINGS)


def encode(message: dict[str, Any]) -> bytes:
    """The line of a message."""
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line; raises ValueError when it is none."""
    message = parse_json(line)
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def decode_request(line: bytes) -> dict[str, Any]:
    """The request of a line; raises ValueError when it is none that could be answered."""
    message = decode(line)
    if not isinstance(message.get("job"), int) or not isinstance(message.get("do"), str):
        raise ValueError("not a request")
    return message


def decode_event(line: bytes) -> dict[str, Any]:
    """The event of a line; raises ValueError when it is none that a worker sends."""
    message = decode(line)
    if message.get("event") not in EVENTS:
        raise ValueError("not an event")
    return message


def put_error(error: UserError) -> dict[str, Any]:
    """An error's fields, as the event ``failed`` carries them."""
    path = None if error.path is None else str(error.path)
    return {
        "problem": error.problem, "remedy": error.remedy, "path": path, "code": error.code,
        "detail": error.detail,
    }  # fmt: skip


def take_error(event: Mapping[str, Any]) -> UserError:
    """The error of an event ``failed``."""
    return UserError(
        event["problem"], event["remedy"], path=event["path"], code=event["code"],
        detail=event.get("detail", ""),
    )  # fmt: skip


def put_volume(path: Path, volume: Volume) -> dict[str, Any]:
    """Write the array to ``path`` (``.npy``) and describe the volume.

    In the memory layout of VTK's images, so that Slicer copies whole lines.
    """
    np.save(path, np.asfortranarray(volume.array), allow_pickle=False)
    return {
        "file": str(path),
        "affine": volume.affine.tolist(),
        "kind": volume.kind.value,
        "segments": [[s.value, s.name, s.code] for s in volume.segments],
    }


def take_volume(described: dict[str, Any]) -> Volume:
    """The volume of a description; its file is deleted. Raises OSError and ValueError."""
    path = Path(described["file"])
    array = np.load(path, allow_pickle=False)
    path.unlink()
    segments = tuple(Segment(int(v), str(n), str(c)) for v, n, c in described["segments"])
    return Volume(array, np.array(described["affine"], float), Kind(described["kind"]), segments)
