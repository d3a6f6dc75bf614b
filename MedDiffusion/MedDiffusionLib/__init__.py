"""MedDiffusion's engine: a label map in, a synthetic MR or CT volume out.

>>> from MedDiffusionLib import load
>>> for volume in load("hippocampus-mr").synthesize("labels.nii.gz", samples=2, seed=7):
...     volume.save(f"volume-{volume.provenance.recipe.sample}.nii.gz")
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from .compute.version import __version__

__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from .synthesis.synthesizer import Synthesizer


def load(model: str | PathLike[str] = "hippocampus-mr", device: str = "auto") -> Synthesizer:
    """A model by its name or its bundle's folder, ready to synthesize.

    ``device`` is auto, cpu, cuda or mps. Raises ``compute.errors.UserError`` where there is no such
    model or device, or the bundle is damaged. Loads torch, which importing this package does not.
    """
    from .synthesis.synthesizer import load as load_model

    return load_model(model, device)
