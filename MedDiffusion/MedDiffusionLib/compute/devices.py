"""The devices that may be asked for. Needs torch only to choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What a front end offers; auto takes a GPU where there is one."""


def choose_device(name: str) -> torch.device:
    """The device of a name in ``DEVICES``; raises UserError where it is absent."""
    import torch

    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(n for n in ("cuda", "mps", "cpu") if available[n]))
    if not available.get(name, False):
        raise UserError(
            f"No {name} device is available here", "choose auto or cpu", code="device-missing"
        )
    return torch.device(name)
