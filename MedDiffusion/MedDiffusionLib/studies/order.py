"""The order in which a reader sees the cases: seeded, and the same on all systems.

Drawn with whole numbers out of SHA-256 alone, whatever the versions of Python and numpy.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
_BITS = 64
_PASSES = 50


class Draws:
    """A stream of whole numbers that a text determines."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode("utf-8")
        self._count = 0

    def below(self, limit: int) -> int:
        """The next number from 0 to ``limit - 1``, each as probable as the others."""
        # The last, incomplete round of the remainders would favour the low numbers.
        whole = 2**_BITS - 2**_BITS % limit
        while True:
            block = self._seed + b"\n" + str(self._count).encode("ascii")
            self._count += 1
            number = int.from_bytes(hashlib.sha256(block).digest()[: _BITS // 8], "big")
            if number < whole:
                return number % limit

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """The items in an order of which each is as probable as the others (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


def spread(
    items: Sequence[_Item],
    groups: Sequence[int],
    apart: int,
    draws: Draws,
    before: Sequence[int] = (),
) -> list[_Item]:
    """The items in a random order, those of one group at least ``apart`` places from each other.

    ``groups`` ``[N]``: the group of each item; ``before``: those of what was shown just before, of
    which as many count as leave the order to chance, a quarter of the items. Where so few items
    allow it not, they are as far apart as a search finds.
    """
    numbered = list(range(len(items)))
    shown = list(before)[-(len(items) // 4) :] if len(items) >= 4 else []
    largest = max(Counter(groups).values(), default=1)
    most = (len(items) - 1) // (largest - 1) if largest > 1 else apart
    for distance in range(max(1, min(apart, most)), 0, -1):
        for earlier in (shown, []):
            order = draws.shuffled(numbered)
            if _separate(order, groups, distance, draws, earlier):
                return [items[number] for number in order]
    raise AssertionError("any order has its items 1 apart")


def distance(groups: Sequence[object]) -> int:
    """The least number of places between two of one group in an order of groups ``[N]``."""
    last: dict[object, int] = {}
    least = len(groups)
    for place, group in enumerate(groups):
        least = min(least, place - last.get(group, place - least))
        last[group] = place
    return least


def _separate(
    order: list[int], groups: Sequence[int], apart: int, draws: Draws, before: list[int]
) -> bool:
    """Swap until no two of a group are too near; whether that was reached."""

    def too_near(place: int) -> int:
        group = groups[order[place]]
        near = range(max(0, place - apart + 1), min(len(order), place + apart))
        # Of what was shown before, its end.
        earlier = before[max(0, len(before) + place - apart + 1) :]
        return sum(groups[order[other]] == group for other in near) - 1 + earlier.count(group)

    for _ in range(_PASSES):
        if not any(too_near(place) for place in range(len(order))):
            return True
        for place in range(len(order)):
            for _ in range(len(order)):
                if not too_near(place):
                    break
                other = draws.below(len(order))
                crowded = too_near(place) + too_near(other)
                order[place], order[other] = order[other], order[place]
                if too_near(place) + too_near(other) > crowded:
                    order[place], order[other] = order[other], order[place]
    return False
