"""What the worker does: one request after the other, with a model that stays loaded."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from ..bundles.catalog import find_model
from ..bundles.generators import load_generator
from ..bundles.importers import import_checkpoint, parse_options
from ..bundles.manifest import read_manifest
from ..compute.errors import Cancelled, UserError
from ..compute.memory import out_of_memory_as_user_error
from ..synthesis.labels import match_labels
from ..synthesis.settings import MAX_STEPS, Settings, check_seed
from ..synthesis.synthesis import Step
from ..synthesis.synthesizer import Synthesizer, load
from ..synthesis.variants import prepare_variation
from ..volumes.volume import Volume
from .protocol import put_error, put_volume, take_volume

Send = Callable[[dict[str, Any]], None]
SLOW_PREVIEWS = 6
"""About so many estimates are shown of a sample whose decoding takes long."""


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
        job = request.get("job")
        try:
            with out_of_memory_as_user_error():
                self._REQUESTS[request["do"]](self, request)
            self._send({"event": "finished", "job": job})
        except Cancelled:
            self._send({"event": "cancelled", "job": job})
        except UserError as error:
            self._send({"event": "failed", "job": job, **put_error(error)})
        except Exception as error:
            traceback.print_exc()
            unknown = UserError(
                f"The synthesis failed ({type(error).__name__}: {error})", "please report it"
            )
            self._send({"event": "failed", "job": job, **put_error(unknown)})

    def _synthesize(self, request: dict[str, Any]) -> None:
        """Volumes from a label map, or from none."""
        job, folder = request["job"], Path(request["folder"])
        self._stop_if_cancelled(job)
        synthesizer = self._synthesizer(request["model"], request["device"])
        channels = [asdict(channel) for channel in synthesizer.model.channels]
        self._send({"event": "started", "job": job, "channels": channels})

        slow = synthesizer.model.representation.decodes_slowly
        previews = SLOW_PREVIEWS if slow else MAX_STEPS

        def put(name: str, volumes: Sequence[Volume]) -> list[dict[str, Any]]:
            return [put_volume(folder / f"{name}-{n}.npy", v) for n, v in enumerate(volumes)]

        def on_step(step: Step) -> None:
            self._stop_if_cancelled(job)
            if not request.get("previews", True):
                return
            shown = step.step % (-(-step.steps // previews)) == 0
            volumes = put(f"step-{step.sample}-{step.step}", step.estimate()) if shown else []
            self._send(
                {"event": "step", "job": job, "sample": step.sample, "step": step.step,
                 "steps": step.steps, "volumes": volumes}
            )  # fmt: skip

        settings = Settings(**request["settings"])
        if request["do"] == "generate":
            prepared = synthesizer.prepare_without_labels(settings)
        else:
            prepared = synthesizer.prepare(
                take_volume(request["labels"]), settings, name=request["label_map"],
                overrides={int(value): name for value, name in request["overrides"].items()},
            )  # fmt: skip
        for sample in prepared.samples(on_step=on_step):
            self._stop_if_cancelled(job)
            self._send(
                {"event": "sample", "job": job, "sample": sample.index,
                 "volumes": put(f"sample-{sample.index}", sample.volumes),
                 "provenance": [volume.provenance.to_json() for volume in sample.volumes]}
            )  # fmt: skip

    def _label_map(self, request: dict[str, Any]) -> None:
        check_seed(request["seed"])
        folder = find_model(request["model"])
        labels = load_generator(folder, read_manifest(folder)).sample(request["seed"])
        path = Path(request["folder"]) / "labelmap.npy"
        self._send({"event": "labelmap", "job": request["job"], "volume": put_volume(path, labels)})

    def _vary(self, request: dict[str, Any]) -> None:
        check_seed(request["seed"])
        folder = find_model(request["model"])
        overrides = {int(value): name for value, name in request["overrides"].items()}
        labels = match_labels(take_volume(request["labels"]), read_manifest(folder), overrides)
        variation = prepare_variation(labels, folder)
        varied = variation.sample(request["strength"], request["seed"]).labels
        path = Path(request["folder"]) / "labelmap.npy"
        self._send({"event": "labelmap", "job": request["job"], "volume": put_volume(path, varied)})

    def _import(self, request: dict[str, Any]) -> None:
        name = import_checkpoint(
            Path(request["source"]),
            request["name"],
            parse_options(request["options"]),
            license=request["license"],
            overwrite=request["overwrite"],
        )
        self._send({"event": "imported", "job": request["job"], "model": name})

    def _synthesizer(self, model: str, device: str) -> Synthesizer:
        """The loaded model: the one of last time where it is the same still, else a new one."""
        folder = find_model(model)
        weights = read_manifest(folder).weights
        key = (str(folder), weights.sha256 if weights else "", device)
        if self._warm is None or self._warm[0] != key:
            self._warm = None  # lets go of the old model before the new one is loaded
            self._warm = key, load(folder, device)
        return self._warm[1]

    def _stop_if_cancelled(self, job: int) -> None:
        if job in self._cancelled:
            self._cancelled.discard(job)
            raise Cancelled

    _REQUESTS: ClassVar[dict[str, Callable[[Worker, dict[str, Any]], None]]] = {
        "synthesize": _synthesize,
        "generate": _synthesize,
        "labelmap": _label_map,
        "vary": _vary,
        "import": _import,
    }
