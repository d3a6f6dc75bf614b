"""Results on disk: names, provenance, and files that appear whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..bundles.bundle import Bundle
from ..compute.errors import UserError
from ..compute.execution import Execution
from ..compute.files import write_json
from ..volumes.preview import write_preview
from ..volumes.reading import stem
from ..volumes.resampling import resample
from ..volumes.volume import Volume
from ..volumes.writing import write_volume
from .synthesizer import Sample, Settings


@dataclass(frozen=True)
class Request:
    """One label map to synthesize from, and where its results go."""

    source: Path
    output: Path
    preview: Path | None = None


def result_path(path: Path, index: int, samples: int, channel: str, channels: int) -> Path:
    """``out.nii.gz`` -> ``out_T1_sample-2.nii.gz``; a part is left out where there is but one."""
    name = stem(path)
    suffix = path.name[len(name) :]
    if channels > 1:
        name += f"_{channel}"
    if samples > 1:
        name += f"_sample-{index + 1}"
    return path.with_name(name + suffix)


def result_paths(path: Path, settings: Settings, bundle: Bundle) -> list[list[Path]]:
    """The path of every volume (or preview): a list per sample, an entry per channel."""
    channels = bundle.manifest.channels
    return [
        [result_path(path, index, settings.samples, c.name, len(channels)) for c in channels]
        for index in range(settings.samples)
    ]


def provenance_path(volume_path: Path) -> Path:
    """The JSON file beside a volume: ``out.nii.gz`` -> ``out.json``."""
    return volume_path.with_name(stem(volume_path) + ".json")


def provenance(
    label_map: str, settings: Settings, bundle: Bundle, index: int, channel: str
) -> dict[str, Any]:
    """What made one volume: enough to make it again.

    ``label_map`` is its name, without a path; ``settings`` are resolved.
    """
    content = bundle.manifest.content
    chosen = asdict(settings)
    del chosen["samples"]
    return {
        "synthetic": True,
        "label_map": label_map,
        "model": content["name"],
        "model_version": content["version"],
        "weights_sha256": bundle.sha256,
        "channel": channel,
        "sample": index + 1,
        **chosen,
        "meddiffusion_version": __version__,
        "license": content["license"],
        "attribution": content["attribution"],
    }


def made_on(execution: Execution) -> dict[str, Any]:
    """How one volume was computed: what may differ from machine to machine."""
    return {
        "device": execution.device.type,
        "precision": "bfloat16" if execution.bf16 else "float32",
        "torch_version": str(torch.__version__),
    }


def is_finished(
    paths: list[Path], request: Request, settings: Settings, bundle: Bundle, index: int
) -> bool:
    """Whether a sample's files are all there, made by just this request.

    Raises UserError when files are there that something else made.
    """
    files = [f for p in paths for f in (p, provenance_path(p))]
    if not any(f.exists() for f in files):
        return False
    for path, channel in zip(paths, bundle.manifest.channels, strict=True):
        wanted = provenance(request.source.name, settings, bundle, index, channel.name)
        try:
            found = json.loads(provenance_path(path).read_text("utf-8"))
            same = path.exists() and {k: found.get(k) for k in wanted} == wanted
        except (OSError, ValueError, AttributeError):
            same = False
        if not same:
            raise UserError(
                "or its .json exists and was not made with these settings",
                "allow it to be replaced, or choose another output",
                code="output-exists",
                path=path,
            )
    return True


def write_sample(
    sample: Sample,
    paths: list[Path],
    request: Request,
    settings: Settings,
    bundle: Bundle,
    execution: Execution,
    labels: Volume,
) -> None:
    """Write a sample's volumes, each with its provenance beside it, and its preview.

    ``labels`` carries the model's label values. Provenance comes first: a volume never stands
    without it.
    """
    for path, volume, channel in zip(paths, sample.volumes, bundle.manifest.channels, strict=True):
        facts = provenance(request.source.name, settings, bundle, sample.index, channel.name)
        write_json(provenance_path(path), {**facts, **made_on(execution)})
        try:
            write_volume(path, volume)
        except BaseException:
            provenance_path(path).unlink(missing_ok=True)
            raise
    if request.preview is not None:
        colors = {label.value: label.color for label in bundle.manifest.labels}
        previews = result_paths(request.preview, settings, bundle)[sample.index]
        for path, volume in zip(previews, sample.volumes, strict=True):
            write_preview(path, volume, resample(labels, volume.grid), colors)
