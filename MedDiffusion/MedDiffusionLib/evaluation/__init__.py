"""How good a model is, how useful, whether it copies: figures of volumes, real beside synthetic.

Most files of this room need scipy, and MONAI's segmenter needs monai (extra ``evaluation``); this
one needs neither. Call ``require_scipy`` before the first import of any of them.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..compute.errors import UserError


def require_scipy() -> None:
    """Raise UserError (code ``no-scipy``) where scipy is missing."""
    if find_spec("scipy") is None:
        raise UserError(
            "The evaluation of models needs scipy, which is not installed",
            'install it with pip install "meddiffusion[evaluation]"',
            code="no-scipy",
        )
