"""Geometry: does each volume lie on the grid of its label map?"""

from __future__ import annotations

from typing import Any, ClassVar

from ..cases import Pair, keeps_geometry
from ..figure import AS_REAL, DIFFERS, Figure
from ..figures.intervals import Interval
from ..results import Results
from .base import Subject, Tools


class Geometry(Subject):
    """The share of volumes whose size, spacing, direction and origin are their label map's."""

    name: ClassVar[str] = "geometry"
    title: ClassVar[str] = "Geometry"
    meaning: ClassVar[str] = (
        "The share of cases whose volume lies on just the grid of its label map: 1, or something "
        "is broken."
    )
    fewest: ClassVar[int] = 1

    def of_case(self, pair: Pair, tools: Tools) -> dict[str, Any]:
        return {"geometry": float(keeps_geometry(tools.synthesizer, pair))}

    def figures(self, results: Results) -> list[Figure]:
        share = float(results.real("geometry").mean())
        verdict = AS_REAL if share == 1 else DIFFERS
        words = "Share of cases whose volume lies on the grid of its label map"
        return [
            Figure(f"{self.name}/share", words, Interval(share, share, share), (), None, verdict)
        ]
