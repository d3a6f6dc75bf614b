"""A model as one object: manifest, denoiser, representation, shape model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from torch import nn

from ..compute.errors import UserError
from ..compute.registry import build
from ..diffusion.denoiser import Denoiser
from ..diffusion.networks import NETWORKS
from ..diffusion.parameterizations import PARAMETERIZATIONS
from ..diffusion.representations import REPRESENTATIONS, Representation
from ..diffusion.schedules import SCHEDULES
from .generators import Generator, load_generator
from .manifest import Channel, Label, Manifest


class Model(nn.Module):
    """A model with all its weights, float32; ``folder`` is its bundle's, None for a new one."""

    denoiser: Denoiser
    representation: Representation

    def __init__(
        self,
        manifest: Manifest,
        denoiser: Denoiser,
        representation: Representation,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.manifest = manifest
        self.denoiser = denoiser
        self.representation = representation
        self.folder = folder

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.manifest.labels

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.manifest.channels

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """Latent voxels of the field of view along x, y and z."""
        return self.representation.latent_size(self.manifest.grid.size)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """``(C, x, y, z)`` of a field of view's latent."""
        return self.representation.latent_channels, *self.latent_size

    @property
    def sha256(self) -> str:
        """Of the weights' file; empty for a new model."""
        return self.manifest.weights.sha256 if self.manifest.weights else ""

    @cached_property
    def shape_model(self) -> Generator:
        """Read when first needed; raises UserError where the bundle has none."""
        if self.folder is None:
            raise UserError(
                f"The model {self.manifest.name} has no shape model", "give a label map instead"
            )
        return load_generator(self.folder, self.manifest)


def build_model(manifest: Manifest, folder: Path | None = None) -> Model:
    """The model that a manifest describes, its weights untrained, on torch's default device.

    Within ``torch.device("meta")`` it has shapes alone. Raises ValueError with a clause where a
    part of the architecture is unknown, its options are wrong, or the grid does not fit.
    """
    architecture = manifest.architecture
    if architecture.parameterization not in PARAMETERIZATIONS:
        raise ValueError(f"unknown parameterization {architecture.parameterization!r}")
    representation: Representation = build(
        REPRESENTATIONS,
        architecture.representation,
        "representation",
        image_channels=len(manifest.channels),
        label_count=len(manifest.labels),
    )
    network = build(
        NETWORKS,
        architecture.network,
        "network",
        latent_channels=representation.latent_channels,
        label_count=len(manifest.labels),
        factors=representation.factors,
    )
    coarsest = smallest_latent(network)
    multiples = [f * n for f, n in zip(representation.factors, coarsest, strict=True)]
    if any(n % m for n, m in zip(manifest.grid.size, multiples, strict=True)):
        same = len(set(multiples)) == 1
        words = f"{multiples[0]} along every axis" if same else " x ".join(map(str, multiples))
        raise ValueError(f"its grid size is no multiple of {words}")
    schedule = build(SCHEDULES, architecture.schedule, "schedule")
    denoiser = Denoiser(network, schedule, PARAMETERIZATIONS[architecture.parameterization])
    return Model(manifest, denoiser, representation, folder)


def smallest_latent(network: nn.Module) -> tuple[int, int, int]:
    """The smallest latent that a network can take; all others are multiples of it."""
    each = network.multiple
    x, y, z = (each, each, each) if isinstance(each, int) else each  # type: ignore[misc]
    return x, y, z
