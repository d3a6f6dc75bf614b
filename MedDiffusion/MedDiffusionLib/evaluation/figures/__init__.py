"""Figures of volumes and of sets of feature vectors: pure functions on arrays, no files, no models.

Bad data are a UserError with a code: ``too-few-cases``, ``too-few-values``, ``not-finite``,
``constant``, ``too-small``. Arrays of shapes that do not fit each other are a ValueError: the
caller's mistake.
"""

from __future__ import annotations

from collections.abc import Mapping

FEWEST_CASES: Mapping[str, int] = {"frechet": 4, "kernel": 4, "diversity": 4, "neighbours": 12}
"""How many real cases a figure of sets needs, so that each half of them still has one."""
