"""What can be chosen in the panel: the limits, and the choices that have names."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ...compute.devices import DEVICES
from ...diffusion.samplers import SAMPLERS
from ..wording import _

MAX_SEED = 999_999
MAX_SAMPLES = 16
GONE = ("HEUN",)
"""Samplers that a scene may name which an earlier version has saved."""


class Quality(Enum):
    """How many steps a synthesis takes, as a multiple of what the model's author recommends."""

    FAST = 0.5
    BALANCED = 1.0
    BEST = 2.5

    def label(self) -> str:
        return {
            Quality.FAST: _("Fast"),
            Quality.BALANCED: _("Balanced"),
            Quality.BEST: _("Best"),
        }[self]

    def steps(self, recommended: int) -> int:
        """The number of steps for a model that recommends so many."""
        return max(1, round(recommended * self.value))


class _Sampler(Enum):
    def label(self) -> str:
        return self.value or _("As the model recommends")


class _Device(Enum):
    def label(self) -> str:
        names = {
            "auto": _("Automatic"),
            "cpu": _("CPU"),
            "cuda": _("NVIDIA GPU (CUDA)"),
            "mps": _("Apple GPU (MPS)"),
        }
        return names.get(self.value, self.value)


def _member(name: str) -> str:
    """The name of a registry as a scene keeps it: ``DPMPP_2M`` for ``dpmpp-2m``."""
    return name.upper().replace("-", "_")


def _made(kind: type[Enum], members: dict[str, str]) -> Any:
    make: Any = kind  # Type checkers know enumerations only as they are written out.
    return make(kind.__name__.lstrip("_"), members)


Sampler = _made(
    _Sampler,
    {"AUTO": "", **{_member(name): name for name in SAMPLERS}, **dict.fromkeys(GONE, "")},
)
"""The engine's samplers; AUTO is the one that the model's card names, and stands for those gone."""
Device = _made(_Device, {_member(name): name for name in DEVICES})
"""What computes; AUTO takes the fastest that is there."""
