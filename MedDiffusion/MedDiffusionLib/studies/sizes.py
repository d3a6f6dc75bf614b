"""How large a study should be: cases for readers, in sentences. Needs scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..compute.errors import UserError
from ..statistics import planning, planning_readers

_THESE, _OTHERS = "these readers alone", "readers like these"
_IsEnough = Callable[[int, int], bool]
MOST_READERS = 100
"""The largest number of readers that is looked for."""


@dataclass(frozen=True)
class Wish:
    """What a study should tell; what is None is not asked. ``half_width`` of the 95 % interval,
    ``share``: the share of right answers that should be noticed, ``margin`` of equivalence, all in
    [0, 1]; ``cases``: what a study of so many tells.

    ``between``: standard deviation of the readers' true shares; ``correlation`` of two readers'
    answers about one case.
    """

    half_width: float | None = None
    share: float | None = None
    margin: float | None = None
    cases: int | None = None
    readers: int = 1
    choices: int = 2
    power: float = planning.POWER
    between: float = 0.05
    correlation: float = 0.2

    @property
    def chance(self) -> float:
        """Of one that is real among ``choices``; of a single volume 1/2."""
        return 1 / self.choices


@dataclass(frozen=True)
class _Aim:
    """One of the wishes: in words, the cases that one reader needs, and whether so many readers and
    cases are enough for these readers alone and for readers like these."""

    sentence: str
    alone: int | None
    these: _IsEnough
    others: _IsEnough
    besides: tuple[str, ...] = ()


def describe(wish: Wish) -> list[str]:
    """What the wishes need, a line each; raises UserError for wishes that cannot be."""
    _check(wish)
    aims = []
    if wish.half_width is not None:
        aims.append(_half_width(wish, wish.half_width))
    if wish.share is not None:
        aims.append(_share(wish, wish.share))
    if wish.margin is not None:
        aims.append(_margin(wish, wish.margin))
    lines = [line for aim in aims for line in _needed(wish, aim)]
    if wish.cases is not None:
        lines += _precision(wish, wish.cases)
    if wish.readers > 1 or (wish.cases is not None and aims):
        lines.append(
            f"Assumed of several readers: their true shares differ by {wish.between:g} (standard "
            f"deviation), two readers' answers about one case correlate by {wish.correlation:g}."
        )
    return lines


def _needed(wish: Wish, aim: _Aim) -> list[str]:
    alone = "more than can be asked for" if aim.alone is None else f"{aim.alone} cases"
    lines = [f"{aim.sentence}: {alone}, one reader.", *aim.besides]
    return [*lines, *_several(wish, _THESE, aim.these), *_several(wish, _OTHERS, aim.others)]


def _several(wish: Wish, whom: str, is_enough: _IsEnough) -> Iterator[str]:
    """The cases for the readers that there are, and the readers for the cases that there are."""
    if wish.readers > 1:
        found = _fewest(lambda cases: is_enough(wish.readers, cases), planning.MOST)
        said = "no number of cases, only more readers" if found is None else f"{found} cases"
        yield f"  {wish.readers} readers, for {whom}: {said}."
    if (cases := wish.cases) is not None:
        found = _fewest(lambda readers: is_enough(readers, cases), MOST_READERS)
        said = "no number of readers, only more cases" if found is None else f"{found} readers"
        yield f"  {cases} cases, for {whom}: {said}."


def _half_width(wish: Wish, wished: float) -> _Aim:
    def half(readers: int, cases: int) -> float:
        return planning_readers.readers_half_width(
            readers, cases, share=wish.chance, between=0, correlation=wish.correlation
        )

    def analysed(readers: int, cases: int) -> float:
        return planning_readers.analysed_half_width(
            readers, cases, share=wish.chance, between=wish.between, correlation=wish.correlation
        )

    return _Aim(
        f"A 95 % interval of ± {wished:g} at {wish.chance:.3g}",
        planning.cases_for_half_width(wished, wish.chance),
        lambda readers, cases: half(readers, cases) <= wished,
        lambda readers, cases: analysed(readers, cases) <= wished,
    )


def _share(wish: Wish, share: float) -> _Aim:
    def power(readers: int, cases: int) -> float:
        return planning_readers.readers_power(
            readers, cases, share, correlation=wish.correlation, chance=wish.chance
        )

    return _Aim(
        f"To notice {share:.3g} right where guessing gives {wish.chance:.3g}, power {wish.power:g}",
        planning.cases_for_power(share, wish.chance, wished=wish.power),
        lambda readers, cases: power(readers, cases) >= wish.power,
        lambda readers, cases: _others_power(wish, readers, cases, share) >= wish.power,
    )


def _margin(wish: Wish, margin: float) -> _Aim:
    def these(readers: int, cases: int) -> bool:
        of_one = wish.chance * (1 - wish.chance) * (1 + (readers - 1) * wish.correlation) / readers
        needed = planning.cases_for_verdict(
            wish.chance, of_one, 0.0, margin, wish.chance, wished=wish.power
        )
        return needed is not None and cases >= needed

    besides: tuple[str, ...] = ()
    if wish.choices == 2:
        area = planning.auc_cases(margin, wished=wish.power)
        besides = (f"  Of an area under the curve or visual grading: {area} cases of each arm.",)
    return _Aim(
        f"To say that {wish.chance:.3g} ± {margin:g} holds where readers guess, "
        f"power {wish.power:g}",
        planning.equivalence_cases(margin, wish.chance, wish.chance, wished=wish.power),
        these,
        lambda readers, cases: (
            _others_power(wish, readers, cases, wish.chance, margin) >= wish.power
        ),
        besides,
    )


def _others_power(
    wish: Wish, readers: int, cases: int, share: float, margin: float | None = None
) -> float:
    return planning_readers.others_power(
        readers, cases, share, margin=margin, between=wish.between,
        correlation=wish.correlation, chance=wish.chance,
    )  # fmt: skip


def _precision(wish: Wish, cases: int) -> list[str]:
    """The intervals of a study of so many cases."""
    alone = planning.half_width(cases, wish.chance)
    lines = [
        f"{cases} cases give a 95 % interval of ± {alone:.3f} at {wish.chance:.3g}, one reader."
    ]
    if wish.readers > 1:
        known = planning_readers.readers_half_width(
            wish.readers, cases, share=wish.chance, between=wish.between,
            correlation=wish.correlation,
        )  # fmt: skip
        analysed = planning_readers.analysed_half_width(
            wish.readers, cases, share=wish.chance, between=wish.between,
            correlation=wish.correlation,
        )  # fmt: skip
        lines.append(
            f"  {wish.readers} readers, for {_OTHERS}: about ± {analysed:.3f} (± {known:.3f}, were "
            "it known how readers differ, which the analysis must estimate)."
        )
    return lines


def _fewest(is_enough: Callable[[int], bool], most: int) -> int | None:
    """The fewest that are enough, two at least, by halving; None above the most."""
    low, high = 1, most
    if not is_enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _check(wish: Wish) -> None:
    if (wish.half_width, wish.share, wish.margin, wish.cases) == (None,) * 4:
        raise UserError(
            "There is nothing to plan for", "give --half-width, --share, --margin or --cases"
        )
    largest = min(wish.chance, 1 - wish.chance)
    bounds: list[tuple[str, float | None, float, float]] = [
        ("half-width", wish.half_width, 0.005, 0.499),
        ("share", wish.share, 0.001, 0.999),
        ("margin", wish.margin, 0.01, largest - 0.001),
        ("number of cases", wish.cases, 2, 1_000_000),
        ("number of readers", wish.readers, 1, 1000),
        ("number of choices", wish.choices, 2, 9),
        ("power", wish.power, 0.5, 0.99),
        ("readers' standard deviation", wish.between, 0, 0.5),
        ("correlation", wish.correlation, 0, 0.99),
    ]
    for name, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            raise UserError(f"The {name} is {value:g}", f"it must lie between {low:g} and {high:g}")
    if wish.share is not None and abs(wish.share - wish.chance) < 0.01:
        raise UserError(
            f"A share of {wish.share:g} is what guessing gives",
            "give one that differs by 0.01 at least; to show that there is no difference give "
            "--margin",
        )
