"""Arrays as numbers that JSON holds, and back: few digits, and null for NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGITS = 7


def listed(values: NDArray[Any] | float) -> Any:
    """Nested lists of an array's numbers, seven digits each; or a single number.

    Figures are computed from these, so that whoever has the JSON gets the same.
    """
    if isinstance(values, np.ndarray) and values.ndim:
        return [listed(each) for each in values]
    number = float(values)
    return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else None


def array(content: Any) -> NDArray[np.float64]:
    """The inverse of :func:`listed`: NaN for null."""
    return np.array(content, dtype=np.float64)
