"""Training of segmenters on real cases, once: what is trained is kept and found by its key.

The run is that of any training (:mod:`...training.loop.run`): it saves where it is, and goes on
from there when it was interrupted, however that was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...bundles.manifest import Manifest
from ...compute.distributed import Ranks
from ...compute.errors import Cancelled, UserError
from ...compute.execution import Execution
from ...compute.files import atomic
from ...compute.locks import folder_lock
from ...training.data.cases import CaseFiles
from ...training.data.fingerprint import digest_of, take_stamps
from ...training.data.patches import PatchSamples
from ...training.data.samples import Augmentation
from ...training.data.store import FINGERPRINT_NAME, CaseStore
from ...training.loop.checkpoint import load_checkpoint, save_checkpoint
from ...training.loop.log import TrainingReport
from ...training.loop.names import CHECKPOINT_NAME
from ...training.loop.run import ENDLESS, OnReport, Run
from ...training.loop.stage import Stage
from ...training.loop.state import initial_state
from ...training.loop.stopping import StopWatch
from ...training.plan.settings import Limits, TrainingSettings
from . import SEGMENTERS
from .network import patch_of, strides_of
from .objective import Segmentation
from .segmenter import Segmenter

WEIGHTS_NAME = "weights.safetensors"
FEWEST_CASES = 5
"""Real cases to train on, without which a segmenter judges nothing."""
_VERSION = 2
"""Of what is trained, and how: part of the key."""
_VOXELS = 2**18
"""About so many voxels a step."""
_MOST_BATCH = 8
_ITERATIONS, _MORE_ITERATIONS = 1000, 1600
"""Steps where a patch is a whole field of view, and where it is a part. On two cores the first take
about 6 minutes and the others 12."""


@dataclass(frozen=True)
class Effort:
    """How long a segmenter is trained."""

    iterations: int
    seed: int = 0


def usual_effort(manifest: Manifest) -> Effort:
    """How long a segmenter for a model's grid is trained, unless told otherwise: some minutes."""
    whole = patch_of(manifest.grid.size) == manifest.grid.size
    return Effort(_ITERATIONS if whole else _MORE_ITERATIONS)


def case_digest(case: CaseFiles) -> str:
    """SHA-256 over the contents of a case's files, whatever their names."""
    return digest_of(take_stamps(case))


def require_segmenter(name: str) -> None:
    """Raise UserError for a segmenter that is unknown, or whose package is not installed."""
    if name not in SEGMENTERS:
        raise UserError(f"There is no segmenter {name}", f"use {' or '.join(SEGMENTERS)}")
    package = SEGMENTERS[name].REQUIRES
    if package and find_spec(package) is None:
        raise UserError(
            f"The segmenter {name} needs {package}, which is not installed",
            'install it with pip install "meddiffusion[evaluation]", or judge with another',
            code="no-segmenter",
        )


def installed_segmenters() -> tuple[str, ...]:
    """The names of those that need nothing that is missing here."""
    needs = {name: network.REQUIRES for name, network in SEGMENTERS.items()}
    return tuple(name for name, package in needs.items() if not package or find_spec(package))


def segmenter_key(name: str, manifest: Manifest, digests: Sequence[str], effort: Effort) -> str:
    """SHA-256 of all that a segmenter depends on: its make, the model's grid, labels and
    intensities, the training cases' digests in any order, and how long it is trained."""
    grid = manifest.grid
    content = {
        "version": _VERSION,
        "name": name,
        "grid": [grid.orientation, grid.spacing, grid.size],
        "labels": [label.value for label in manifest.labels],
        "channels": len(manifest.channels),
        "intensity": asdict(manifest.intensity),
        "cases": sorted(digests),
        "effort": asdict(effort),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_trained(
    name: str, manifest: Manifest, digests: Sequence[str], folder: Path, effort: Effort
) -> bool:
    """Whether a segmenter is there already."""
    key = segmenter_key(name, manifest, digests, effort)
    return (_place(folder, name, key) / WEIGHTS_NAME).exists()


def trained_segmenter(
    name: str,
    manifest: Manifest,
    cases: Sequence[CaseFiles],
    digests: Sequence[str],
    folder: Path,
    execution: Execution,
    effort: Effort,
    stop: StopWatch,
    on_report: OnReport = lambda report: None,
) -> Segmenter:
    """The segmenter of this make for a model's data, out of ``folder`` or trained into it.

    ``digests`` are the cases' own, see :func:`case_digest`. Raises UserError where it cannot be
    trained, and Cancelled where it was asked to stop; it then goes on the next time.
    """
    require_segmenter(name)
    key = segmenter_key(name, manifest, digests, effort)
    place = _place(folder, name, key)
    patch = patch_of(manifest.grid.size)
    torch.manual_seed(effort.seed)
    network = SEGMENTERS[name](len(manifest.channels), 1 + len(manifest.labels), strides_of(patch))
    if not (place / WEIGHTS_NAME).exists():
        if len(cases) < FEWEST_CASES:
            raise UserError(
                f"A segmenter needs at least {FEWEST_CASES} training cases, and {len(cases)} are "
                "given",
                "give more of the cases that the model was trained on",
                code="too-few-cases",
            )
        network = execution.prepare(network)
        with _made(place), folder_lock(folder):
            _train(network, manifest, cases, place, key, execution, effort, stop, on_report)
    _load(network, place / WEIGHTS_NAME, key)
    return Segmenter(name, key, network, patch, execution)


def _train(
    network: torch.nn.Module,
    manifest: Manifest,
    cases: Sequence[CaseFiles],
    place: Path,
    key: str,
    execution: Execution,
    effort: Effort,
    stop: StopWatch,
    on_report: OnReport,
) -> None:
    settings, limits = _settings(manifest, effort), Limits(iterations=effort.iterations)
    store = CaseStore(place.parent)
    stored = []
    for number, case in enumerate(cases, start=1):
        if stop.reason:
            raise Cancelled
        stored.append(store.prepare(case, manifest))
        on_report(TrainingReport("reading", number / len(cases), part=place.name))
    store.save()
    objective = Segmentation(network)  # type: ignore[arg-type]
    state = initial_state(objective.players, settings)
    identity = {
        "plan": {"manifest": {}, "training": {}}, "seed": effort.seed, "cases": {"key": key},
        "validation": {},
    }  # fmt: skip
    if (place / CHECKPOINT_NAME).exists():
        load_checkpoint(place, state)
    else:
        save_checkpoint(place, state, identity)
    samples = PatchSamples(
        stored, manifest.grid, patch_of(manifest.grid.size),
        [label.value for label in manifest.labels], settings.augmentation, 0.0, ENDLESS,
        effort.seed,
    )  # fmt: skip

    def report(said: TrainingReport) -> None:
        # What it notes stands in its log; that nothing validates it is no news here.
        if not said.note:
            on_report(replace(said, part=place.name))

    stage = Stage(place, settings, limits, limits)
    run = Run(stage, execution, objective, state, identity, Ranks(), stop, report)
    outcome = run.to_the_end(objective.samples(samples, settings.batch))
    if outcome.reason is not None:
        raise Cancelled
    tensors = {
        name: tensor.to(memory_format=torch.contiguous_format).contiguous().cpu()
        for name, tensor in state.average.state_dict().items()
    }
    with atomic(place / WEIGHTS_NAME) as temporary:
        temporary.write_bytes(save(tensors, {"key": key}))
    (place / CHECKPOINT_NAME).unlink(missing_ok=True)


def _place(folder: Path, name: str, key: str) -> Path:
    return folder / f"{name}-{key[:16]}"


def _settings(manifest: Manifest, effort: Effort) -> TrainingSettings:
    patch = math.prod(patch_of(manifest.grid.size))
    return TrainingSettings(
        data="",
        batch=max(1, min(_MOST_BATCH, round(_VOXELS / patch))),
        learning_rate=3e-3,
        weight_decay=1e-3,
        warmup=20,
        ema=0.99,
        clip=1.0,
        outside_weight=0.0,
        augmentation=Augmentation(far_shift=0.1, affine=0.4),
        checkpoint_minutes=1.0,
        log_seconds=10.0,
    )


@contextlib.contextmanager
def _made(place: Path) -> Iterator[None]:
    """A segmenter's folder, made where there is none; raises UserError where it cannot be."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            "make room or choose another folder for the segmenters",
            path=place,
        ) from error


def _load(network: torch.nn.Module, path: Path, key: str) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                raise ValueError("it is of other data")
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(
            f"is no segmenter for this ({shortened_reason(error)})",
            "remove its folder, so that it is trained anew",
            path=path,
        ) from error


def shortened_reason(error: Exception) -> str:
    """An error's own words, its first line."""
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__


def remove_training_voxels(folder: Path) -> None:
    """Remove the patients' voxels and names that a training has left among the segmenters."""
    store = CaseStore(folder)
    store.remove_voxels()
    (store.folder / FINGERPRINT_NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        # Where it holds nothing else.
        store.folder.rmdir()
