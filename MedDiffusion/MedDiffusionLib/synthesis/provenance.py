"""What made a synthetic volume: it hangs on the volume, and goes with it wherever it is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..bundles.manifest import Manifest
from ..compute.execution import Execution
from ..compute.version import __version__
from .settings import ResolvedSettings


@dataclass(frozen=True)
class Recipe:
    """Enough to make a volume again. ``label_map`` is its name, without a path; ``sample`` is
    counted from 1, and its noise is that of ``seed + sample - 1``."""

    label_map: str
    model: str
    model_version: str
    weights_sha256: str
    channel: str
    sample: int
    seed: int
    steps: int
    sampler: str
    guidance: float
    native: bool
    meddiffusion_version: str
    license: str
    attribution: str


@dataclass(frozen=True)
class Provenance:
    """A volume's recipe, and how it was computed: what may differ from machine to machine."""

    recipe: Recipe
    device: str
    precision: str
    torch_version: str

    def to_json(self) -> dict[str, Any]:
        """One flat object, first of all that the volume is synthetic."""
        computed = {
            "device": self.device,
            "precision": self.precision,
            "torch_version": self.torch_version,
        }
        return {"synthetic": True, **asdict(self.recipe), **computed}


def recipe_of(
    label_map: str, settings: ResolvedSettings, manifest: Manifest, index: int, channel: str
) -> Recipe:
    """The recipe of a channel of sample ``index`` (from 0), known before it is made."""
    return Recipe(
        label_map=label_map,
        model=manifest.name,
        model_version=manifest.version,
        weights_sha256=manifest.weights.sha256 if manifest.weights else "",
        channel=channel,
        sample=index + 1,
        seed=settings.seed,
        steps=settings.steps,
        sampler=settings.sampler,
        guidance=settings.guidance,
        native=settings.native,
        meddiffusion_version=__version__,
        license=manifest.license,
        attribution=manifest.attribution,
    )


def provenance_of(recipe: Recipe, execution: Execution) -> Provenance:
    """The provenance of a volume that is made now."""
    precision = "bfloat16" if execution.bf16 else "float32"
    return Provenance(recipe, execution.device.type, precision, str(torch.__version__))
