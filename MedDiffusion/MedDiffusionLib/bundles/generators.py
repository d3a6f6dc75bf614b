"""Label map generators: new label maps from nothing but a seed. A model's bundle has one, or none.

A kind is an entry of ``GENERATORS``, by which the manifest names it: how it is read from a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ..compute.errors import UserError
from ..compute.parsing import shortened
from ..volumes.variation import Limits
from ..volumes.volume import Volume
from . import shape_model, template_model
from .manifest import Manifest
from .names import MANIFEST_NAME


class Generator(Protocol):
    """Draws label maps of a model's labels on its grid, whose centre lies at RAS (0, 0, 0)."""

    @property
    def limits(self) -> Limits:
        """The labels' usual volumes in mm³."""

    def sample(self, seed: int) -> Volume:
        """A random label map, a function of ``seed`` (0 or above) alone; raises UserError."""


Read = Callable[[Path, Manifest], Generator]

GENERATORS: Mapping[str, Read] = {
    shape_model.KIND: shape_model.read_shape_model,
    template_model.KIND: template_model.read_template_model,
}


def load_generator(bundle_folder: Path, manifest: Manifest) -> Generator:
    """Load a bundle's generator, its segments named as in the manifest.

    Raises UserError when the bundle has none or one of an unknown kind, and when the file is
    damaged, is not the one that the manifest vouches for, or was fitted on another grid or to other
    labels than the manifest's.
    """
    if manifest.shape_model_sha256 is None:
        raise UserError(f"The model {manifest.name} has no shape model", "give a label map instead")
    read = GENERATORS.get(manifest.shape_model_kind)
    if read is None:
        kind = shortened(manifest.shape_model_kind)
        raise UserError(
            f"has an unknown kind of shape model, {kind}",
            "update MedDiffusion, or give a label map instead",
            path=bundle_folder / MANIFEST_NAME,
        )
    return read(bundle_folder, manifest)
