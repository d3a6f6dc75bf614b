"""What a figure is between real cases and other real cases: the row beside each figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from .checks import Floats, enough

_Items = TypeVar("_Items", NDArray[Any], Sequence[Any])
_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class NullBand:
    """A figure between two parts of one real set, for many ways to part it."""

    values: Floats
    """``[count]``, in the order in which they were drawn."""
    low: float
    high: float
    sizes: tuple[int, int]
    """How many cases the parts have."""

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    def contains(self, value: float) -> bool:
        """Whether a figure of sets of these sizes is as real against real."""
        return self.low <= value <= self.high


def split_halves(
    items: _Items,
    figure: Callable[[_Items, _Items], float],
    count: int = 400,
    seed: int = 0,
    *,
    sizes: tuple[int, int] | None = None,
    level: float = 0.95,
) -> NullBand:
    """The band of ``figure`` between two random parts of real cases that have none in common.

    ``items``: an array with cases first (features ``[n, d]``; numbers of cases, for figures that
    look into a table of pairs), or a sequence. ``sizes``: of the parts, halves unless given; what
    is compared with the band should have the same (``compare_alike``). The band is between order
    statistics, so that with 95 % confidence a share ``level`` of all splits lies within (Wilks
    1941); with few splits it is from the least to the greatest. Raises UserError (code
    ``too-few-cases``) for fewer cases than both parts need, and what the figure raises.
    """
    half = len(items) // 2
    first, second = sizes or (half, half)
    enough(len(items), max(first + second, 2), "A split of real cases")
    random = np.random.default_rng(seed)
    values = np.empty(count)
    for draw in range(count):
        order = random.permutation(len(items))
        one, other = order[:first], order[first : first + second]
        values[draw] = figure(_chosen(items, one), _chosen(items, other))
    outside = _outside(count, level)
    ascending = np.sort(values)
    return NullBand(
        values, float(ascending[outside]), float(ascending[-1 - outside]), (first, second)
    )


def compare_alike(
    real: _Items,
    synthetic: _Items,
    figure: Callable[[_Items, _Items], float],
    band: NullBand,
    count: int = 100,
    seed: int = 0,
    *,
    paired: bool = False,
) -> Floats:
    """``figure`` between random parts of the real and of the synthetic cases, of the band's sizes,
    ``[count]``: what ``NullBand.values`` are compared with.

    ``paired``: synthetic case i was made from real case i's label map; then no case of the one part
    belongs to a case of the other, as in the band. Raises as ``split_halves``, and ValueError where
    paired sets differ in size.
    """
    first, second = band.sizes
    if paired and len(real) != len(synthetic):
        raise ValueError(f"{len(real)} cases paired with {len(synthetic)}")
    enough(len(real), first + (second if paired else 0), "A comparison of parts")
    enough(len(synthetic), second, "A comparison of parts")
    random = np.random.default_rng(seed)
    values = np.empty(count)
    for draw in range(count):
        order = random.permutation(len(real))
        other = order[first:] if paired else random.permutation(len(synthetic))
        values[draw] = figure(_chosen(real, order[:first]), _chosen(synthetic, other[:second]))
    return values


def _chosen(items: Any, order: NDArray[np.intp]) -> Any:
    if isinstance(items, np.ndarray):
        return items[order]
    return [items[int(number)] for number in order]


def _outside(count: int, level: float) -> int:
    """How many of the least, and of the greatest, values lie outside of the band.

    Between the order statistics r + 1 from below and from above lies a share ``level`` at least,
    with a chance of P(B >= 2 (r + 1)), B binomial with ``count`` trials of 1 - level.
    """
    outside = 0
    while binom.sf(2 * outside + 3, count, 1 - level) >= _CONFIDENCE:
        outside += 1
    return outside
