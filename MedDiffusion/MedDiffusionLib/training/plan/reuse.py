"""What was trained before: which models' representation and weights may be used, and for what."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ...bundles.bundle import read_bundle
from ...bundles.catalog import find_model
from ...bundles.manifest import Manifest, parse_plan_manifest, read_manifest
from ...bundles.membership import TrainingImages
from ...bundles.model import build_model
from ...compute.errors import UserError
from ...diffusion.denoiser import Denoiser
from ...diffusion.representations import Representation
from .settings import RepresentationSettings, TrainingSettings

_LEAST_LATENT = 3
"""Latent voxels of a patch along each axis. On 2 the gradients of oneDNN's convolutions in bfloat16
are wrong now and then, on a CPU (PyTorch 2.13)."""
_UNKNOWN = "image"
"""What a contrast is called that nobody named."""


def is_learned(manifest: Manifest) -> bool:
    """Whether a model's representation has weights of its own."""
    with torch.device("meta"):
        return any(True for _ in build_model(manifest).representation.parameters())


def with_representation_of(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """A plan that was made from data, with a model's representation and all that goes with it: the
    intensities, and the contrasts' ranges and units.

    Raises UserError where there is no such model, or it has other contrasts.
    """
    source = read_manifest(find_model(name))
    planned = copy.deepcopy(plan)
    manifest = planned["manifest"]
    _check_contrasts(source, [channel["name"] for channel in manifest["channels"]])
    own = source.to_json()
    manifest["channels"] = own["channels"]
    manifest["intensity"] = own["intensity"]
    manifest["architecture"]["representation"] = own["architecture"]["representation"]
    multiples = _multiples(manifest)
    manifest["grid"]["size"] = [
        -(-n // m) * m for n, m in zip(manifest["grid"]["size"], multiples, strict=True)
    ]
    return planned


def with_model(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """A plan that was made from data, for the training of a model from its own weights on.

    What the model is stays, its card's license and attribution too: they go with its weights.
    Raises UserError where there is no such model, or the data have other contrasts or labels.
    """
    source = read_manifest(find_model(name))
    planned = copy.deepcopy(plan)
    manifest, training = planned["manifest"], planned["training"]
    _check_contrasts(source, [channel["name"] for channel in manifest["channels"]])
    values = [label.value for label in source.labels]
    found = [label["value"] for label in manifest["labels"]]
    if others := [value for value in found if value not in values]:
        raise UserError(
            f"{source.name} has the labels {_listed(values)}, and the data have {_listed(others)}",
            "change the label maps, or train a model from the beginning",
        )
    own = source.to_json()
    kept = {"name", "version", "title"}
    planned["manifest"] = {k: manifest[k] if k in kept else own[k] for k in manifest}
    training["start_from"] = name
    training.pop("representation", None)
    if is_learned(source):
        training["representation"] = {"from": name}
    return planned


def check_start(manifest: Manifest, name: str) -> None:
    """Raise UserError unless what is planned can begin with the weights of a model; ``name`` may
    be empty."""
    if not name:
        return
    source = read_manifest(find_model(name))
    _check_contrasts(source, [channel.name for channel in manifest.channels])
    own, planned = source.architecture, manifest.architecture
    values, others = ([x.value for x in m.labels] for m in (source, manifest))
    if own != planned or values != others:
        what = "network, representation or schedule" if own != planned else "labels"
        raise UserError(
            f"The plan's {what} are not those of {source.name}, whose weights it is to begin with",
            "copy them from the model's manifest, or train from the beginning",
        )


def read_denoiser(name: str) -> Denoiser:
    """The denoiser of a model, with its weights; raises UserError where it cannot be read."""
    return read_bundle(find_model(name)).denoiser


def training_images(images: Sequence[str], settings: TrainingSettings) -> TrainingImages | None:
    """The record of a run's images (by their ``voxels_sha256``) and of those that the models saw
    whose weights it takes; None where one of these models has none, or they are of several."""
    own = settings.representation
    names = {settings.start_from, own.source if own else None} - {"", None}
    records = set()
    for name in names:
        try:
            facts = read_manifest(find_model(str(name))).training
        except UserError:
            # It was there when the run began.
            return None
        if facts is None or facts.images is None:
            return None
        records.add(facts.images)
    return TrainingImages.of(images, *records) if len(records) < 2 else None


def check_reuse(source: Manifest, planned: Manifest) -> None:
    """Raise UserError unless the representation of a model suits what is planned."""
    _check_contrasts(source, [channel.name for channel in planned.channels])
    if source.intensity != planned.intensity:
        raise UserError(
            f"The representation of {source.name} was trained on other intensities than the "
            f"plan's ({_intensity(source)}, not {_intensity(planned)})",
            "give the plan its intensity, or train a representation",
        )
    own, wanted = source.architecture.representation, planned.architecture.representation
    if own != wanted:
        raise UserError(
            f"The plan's representation is not that of {source.name}",
            "copy architecture.representation from the model's manifest, or leave it out",
        )
    values, others = ([x.value for x in m.labels] for m in (source, planned))
    if own.options.get("labels") and values != others:
        raise UserError(
            f"The representation of {source.name} sees the labels {_listed(values)}, and the plan "
            f"has {_listed(others)}",
            "use label maps with the same labels, or train a representation",
        )


def read_representation(name: str, planned: Manifest) -> Representation:
    """The representation of a model, with its weights; raises UserError where it does not suit."""
    folder = find_model(name)
    check_reuse(read_manifest(folder), planned)
    return read_bundle(folder).representation


def check_representation(manifest: Manifest, own: RepresentationSettings | None) -> None:
    """Raise UserError where a plan does not say how its representation is trained, or cannot be
    followed."""
    name = manifest.architecture.representation.name
    learned = is_learned(manifest)
    if learned != (own is not None):
        lacks = "needs training.representation" if learned else "has training.representation"
        raise UserError(
            f"The plan {lacks}, and its representation {name} {'has' if learned else 'has no'} "
            "weights",
            "correct the preset",
        )
    if own is None:
        return
    if own.source is not None:
        check_reuse(read_manifest(find_model(own.source)), manifest)
        return
    with torch.device("meta"):
        representation = build_model(manifest).representation
    if not hasattr(representation, "reconstruct"):
        raise UserError(
            f"The representation {name} cannot be trained here",
            'take it from a model, by "from" in training.representation',
        )
    factors = representation.factors
    size = manifest.grid.size
    fits = [
        p % f == 0 and _LEAST_LATENT * f <= p <= n
        for p, f, n in zip(own.patch, factors, size, strict=True)
    ]
    if not all(fits):
        raise UserError(
            f"The plan's training.representation.patch is {_times(own.patch)}",
            f"give multiples of {_times(factors)}, {_LEAST_LATENT} times as much or more, up to "
            f"the grid's {_times(size)}",
        )


def _check_contrasts(source: Manifest, planned: list[str]) -> None:
    own = [channel.name for channel in source.channels]
    same = len(own) == len(planned) and all(
        b.lower() in (a.lower(), _UNKNOWN) for a, b in zip(own, planned, strict=True)
    )
    if not same:
        raise UserError(
            f"The representation of {source.name} is of the contrasts {', '.join(own)}, and the "
            f"data have {', '.join(planned)}",
            "use one of the same contrasts, or train a representation",
        )


def _multiples(manifest: dict[str, Any]) -> list[int]:
    """What the grid's sizes are to be multiples of, whatever they are now."""
    at_any = copy.deepcopy(manifest)
    at_any["grid"]["size"] = [256] * 3
    with torch.device("meta"):
        model = build_model(parse_plan_manifest(at_any))
    multiple: int = model.denoiser.network.multiple  # type: ignore[assignment]
    return [f * multiple for f in model.representation.factors]


def _intensity(manifest: Manifest) -> str:
    content = manifest.to_json()["intensity"]
    return ", ".join(f"{name} {value}" for name, value in content.items())


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "") or "none"


def _times(values: tuple[int, ...]) -> str:
    return " x ".join(map(str, values))
