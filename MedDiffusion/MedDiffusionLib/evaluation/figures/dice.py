"""Label fidelity: how well labels that were found in a volume fit those it was made from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import Floats


def dice_per_label(
    found: NDArray[Any], labels: NDArray[Any], valid: NDArray[np.bool_], label_count: int
) -> Floats:
    """Dice (1945) of each label, ``[L]``; NaN for a label that is in neither.

    ``found`` and ``labels``: label indices 0..L of one shape; only voxels in ``valid`` count.
    Raises ValueError where shapes differ or an index is above L.
    """
    if not found.shape == labels.shape == valid.shape:
        raise ValueError(f"label maps of shapes {found.shape}, {labels.shape}, {valid.shape}")
    one = found[valid].astype(np.intp)
    other = labels[valid].astype(np.intp)
    if max(one.max(initial=0), other.max(initial=0)) > label_count:
        raise ValueError(f"a label index is above {label_count}")
    both = np.bincount(one[one == other], minlength=label_count + 1)
    sizes = np.bincount(one, minlength=label_count + 1)
    sizes = sizes + np.bincount(other, minlength=label_count + 1)
    with np.errstate(invalid="ignore"):
        return (2 * both / sizes)[1:]
