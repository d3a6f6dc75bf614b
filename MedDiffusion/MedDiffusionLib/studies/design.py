"""The design of a study: which volumes become which cases, and who sees them.

All of it is drawn out of the key's nonce, which readers do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..compute.errors import UserError
from ..statistics.area import Area, area
from .order import Draws
from .sources import Source

APART = 10
"""Presentations between repeats, and between volumes of one label map."""
_TRIES = 100
_TOGETHER = 2
"""Label maps whose volumes are put into one group, so that a group does not tell a pair."""


@dataclass(frozen=True)
class Design:
    """Cases, each of one volume or of a choice's alternatives in the order shown, in the order of
    their numbers; training cases; and who sees which, by index. ``groups``: cases that are kept
    apart; ``tells_pairs``: each group is of one label map, which who reads them then knows."""

    cases: tuple[tuple[Source, ...], ...]
    training: tuple[tuple[Source, ...], ...]
    pool: tuple[int, ...]
    rotating: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    tells_pairs: bool


def design(
    real: Sequence[Source],
    synthetic: Sequence[Source],
    *,
    per_arm: int | None,
    alternatives: int,
    training: int,
    pool_percent: int,
    readers: int,
    repeats_percent: int,
    draws: Draws,
) -> Design:
    """Draw a design. ``per_arm``: cases of each arm (of a choice: cases, each with one real
    volume); None takes all, as many as the arm that has fewer.

    Of label maps that both arms have both volumes are taken, but for a small study, where they
    could not be kept apart. Raises UserError where there are fewer volumes than asked for.
    """
    # How many volumes of each arm a case takes, and a training case.
    needs = (1, alternatives - 1) if alternatives > 1 else (1, 1)
    extra = training if alternatives > 1 else -(-training // 2)
    spare = min(len(real) // needs[0], len(synthetic) // needs[1]) - extra
    count = spare if per_arm is None else per_arm
    for arm, found, need in zip(("real", "synthetic"), (real, synthetic), needs, strict=True):
        wanted = need * (max(count, 1) + extra)
        if len(found) < wanted:
            raise UserError(
                f"There are {len(found)} {arm} volumes, and {wanted} are asked for"
                + (f" ({need * extra} of them for training)" if extra else ""),
                "give more volumes, or ask for fewer cases or less training",
                code="study-too-few",
            )
    chosen = _paired(real, synthetic, draws)
    first, second = chosen[0][: count + extra], chosen[1]
    if alternatives == 1 and not _can_be_apart([[0, 1]], 2 * count, repeats_percent):
        # Two of one label map would be seen soon after each other: others are taken if there are.
        taken = {source.label_map for source in first}
        second = sorted(second, key=lambda source: source.label_map in taken)
    second = second[: needs[1] * (count + extra)]
    cases: list[tuple[Source, ...]]
    practice: list[tuple[Source, ...]]
    if alternatives > 1:
        rows = _choices(first, second, needs[1])
        cases, practice = rows[:count], rows[count:]
    else:
        cases = _alone([*first[:count], *second[:count]])
        rest = zip(first[count:], second[count:], strict=True)
        practice = _alone([source for pair in rest for source in pair][:training])
    cases = _balanced(cases, draws)
    pool, rotating = _shares(cases, pool_percent, readers, draws)
    practice = _balanced(practice, draws) if practice else []
    groups, are_joined = _groups(cases, repeats_percent, draws)
    tells_pairs = bool(groups) and not are_joined
    return Design(tuple(cases), tuple(practice), pool, rotating, groups, tells_pairs)


def _paired(
    real: Sequence[Source], synthetic: Sequence[Source], draws: Draws
) -> tuple[list[Source], list[Source]]:
    """Both arms in a random order, label maps that both have first, at the same places."""
    names = draws.shuffled(sorted({s.label_map for s in real} & {s.label_map for s in synthetic}))
    parts = []
    for arm in (real, synthetic):
        waiting = draws.shuffled(arm)
        first = []
        for name in names:
            source = next(s for s in waiting if s.label_map == name)
            waiting.remove(source)
            first.append(source)
        parts.append([*first, *waiting])
    return parts[0], parts[1]


def _alone(sources: Sequence[Source]) -> list[tuple[Source, ...]]:
    """A case of each volume."""
    return [(source,) for source in sources]


def _balanced(cases: Sequence[tuple[Source, ...]], draws: Draws) -> list[tuple[Source, ...]]:
    """The cases in a random order, by which, and by the places in a choice, no arm is told.

    By chance one order in twenty would look as if it did.
    """
    for _ in range(_TRIES):
        order = draws.shuffled([tuple(draws.shuffled(case)) for case in cases])
        numbers, places = _telling(order)
        if not (numbers.tells or places.tells):
            break
    return order


def _telling(cases: Sequence[tuple[Source, ...]]) -> tuple[Area, Area]:
    """How well the number of a case, and the place in it, tell the arm."""
    numbered = [(number, place, source.arm) for number, case in enumerate(cases)
                for place, source in enumerate(case)]  # fmt: skip
    real = [row[:2] for row in numbered if row[2] == "real"]
    synthetic = [row[:2] for row in numbered if row[2] != "real"]
    number, place = (
        area([row[column] for row in real], [row[column] for row in synthetic]) for column in (0, 1)
    )
    return number, place


def _choices(
    real: Sequence[Source], synthetic: Sequence[Source], others: int
) -> list[tuple[Source, ...]]:
    """Each real volume with its others."""
    # The first other of the n-th real one is the n-th, which shows the same label map if any does.
    columns = [synthetic[n * len(real) : (n + 1) * len(real)] for n in range(others)]
    return list(zip(real, *columns, strict=True))


def _shares(
    cases: Sequence[tuple[Source, ...]], pool_percent: int, readers: int, draws: Draws
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The cases of all readers, and a share of the rest for each, with the arms evenly in each."""
    pool: list[int] = []
    shares: list[list[int]] = [[] for _ in range(readers)]
    dealt = 0
    for arm in sorted({case[0].arm if len(case) == 1 else "choice" for case in cases}):
        of_arm = [n for n, case in enumerate(cases) if len(case) > 1 or case[0].arm == arm]
        mixed = draws.shuffled(of_arm)
        common = (len(mixed) * pool_percent + 50) // 100
        pool += mixed[:common]
        for number in mixed[common:]:
            shares[dealt % readers].append(number)
            dealt += 1
    return tuple(sorted(pool)), tuple(tuple(sorted(share)) for share in shares)


def _groups(
    cases: Sequence[tuple[Source, ...]], repeats_percent: int, draws: Draws
) -> tuple[tuple[tuple[int, ...], ...], bool]:
    """Cases that show one label map, those of several label maps in a group, and whether they are.

    Where there are too few cases to keep larger groups apart, a group is one label map's.
    """
    by_name: list[list[int]] = []
    left = set(range(len(cases)))
    while left:
        group, names = {min(left)}, _label_maps(cases[min(left)])
        while more := {n for n in left - group if names & _label_maps(cases[n])}:
            group |= more
            names |= {name for n in more for name in _label_maps(cases[n])}
        left -= group
        by_name.append(sorted(group))
    by_name = draws.shuffled(by_name)
    joined = [
        sorted(case for group in by_name[n : n + _TOGETHER] for case in group)
        for n in range(0, len(by_name), _TOGETHER)
    ]
    are_joined = _can_be_apart(joined, len(cases), repeats_percent)
    groups = joined if are_joined else by_name
    return tuple(tuple(group) for group in groups if len(group) > 1), are_joined


def _label_maps(case: tuple[Source, ...]) -> set[str]:
    """The label maps that a case is known by: of a choice of many the real one's, since else all
    cases would be linked by the others."""
    if len(case) <= 2:
        return {source.label_map for source in case}
    return {source.label_map for source in case if source.arm == "real"}


def _can_be_apart(groups: Sequence[Sequence[int]], cases: int, repeats_percent: int) -> bool:
    """Whether all of a group, a repeat included, can be :data:`APART` with room to spare, so that
    orders vary."""
    repeats = (cases * repeats_percent + 50) // 100
    largest = max(map(len, groups)) + bool(repeats)
    most = repeats or len(groups)
    return 3 * ((largest - 1) * APART + most) <= 2 * (cases + repeats)
