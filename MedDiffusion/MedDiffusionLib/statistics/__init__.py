"""Statistics of reader studies as pure functions on arrays: no files, no study, no torch.

The files of this room but ``area`` need scipy (extra ``study``); this one does not. Call
``require_scipy`` before the first import of any of them.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..compute.errors import UserError


def require_scipy() -> None:
    """Raise UserError (code ``no-scipy``) where the statistics' only dependency is missing."""
    if find_spec("scipy") is None:
        raise UserError(
            "The analysis of reader studies needs scipy, which is not installed",
            'install it with pip install "meddiffusion[study]"',
            code="no-scipy",
        )
