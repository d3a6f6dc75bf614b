"""How large a study should be: cases for readers, in sentences. Needs scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..compute.errors import UserError
from ..evaluation import planning

_OTHERS = "for others like them, were their spread known"


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


def describe(wish: Wish) -> list[str]:
    """What the wishes need, a line each; raises UserError for wishes that cannot be."""
    _check(wish)
    lines = []
    if wish.half_width is not None:
        lines += _half_width(wish, wish.half_width)
    if wish.share is not None:
        lines += _share(wish, wish.share)
    if wish.margin is not None:
        lines += _margin(wish, wish.margin)
    if wish.cases is not None:
        lines += _cases(wish, wish.cases)
    if wish.readers > 1:
        lines.append(
            f"Assumed of several readers: their true shares differ by {wish.between:g} (standard "
            f"deviation), two readers' answers about one case correlate by {wish.correlation:g}."
        )
    return lines


def _half_width(wish: Wish, wished: float) -> list[str]:
    alone = planning.cases_for_half_width(wished, wish.chance)
    lines = [f"A 95 % interval of ± {wished:g} at {wish.chance:.3g}: {alone} cases, one reader."]
    if wish.readers > 1:
        needed = planning.cases_for_readers(
            wish.readers, wished, share=wish.chance, between=wish.between,
            correlation=wish.correlation,
        )  # fmt: skip
        analysed = _fewest(
            lambda cases: planning.analysed_half_width(
                wish.readers, cases, share=wish.chance, between=wish.between,
                correlation=wish.correlation,
            ) <= wished
        )  # fmt: skip
        lines.append(
            f"  {wish.readers} readers, {_OTHERS}: {_said(needed)}; as the analysis, which must "
            f"estimate it, gives it: {_said(analysed)}."
        )
    return lines


def _share(wish: Wish, share: float) -> list[str]:
    alone = planning.cases_for_power(share, wish.chance, wished=wish.power)
    lines = [
        f"To notice {share:.3g} right where guessing gives {wish.chance:.3g}, power "
        f"{wish.power:g}: {_said(alone, 'more than can be asked for')}, one reader."
    ]
    if wish.readers > 1:
        lines.append(
            f"  {wish.readers} readers, for these readers alone: {_said(_pooled(wish, share, 0))}."
        )
        lines.append(
            f"  {wish.readers} readers, {_OTHERS}: {_said(_pooled(wish, share, wish.between))}."
        )
    return lines


def _pooled(wish: Wish, share: float, between: float) -> int | None:
    """The fewest cases at which several readers have the power."""
    return _fewest(
        lambda cases: planning.readers_power(
            wish.readers, cases, share, between=between, correlation=wish.correlation,
            chance=wish.chance,
        ) >= wish.power
    )  # fmt: skip


def _margin(wish: Wish, margin: float) -> list[str]:
    alone = planning.equivalence_cases(margin, wish.chance, wish.chance, wished=wish.power)
    lines = [
        f"To say that {wish.chance:.3g} ± {margin:g} holds where readers guess, power "
        f"{wish.power:g}: {_said(alone, 'more than can be asked for')}, one reader."
    ]
    if wish.choices == 2:
        area = planning.auc_cases(margin, wished=wish.power)
        lines.append(f"  Of an area under the curve or visual grading: {area} cases of each arm.")
    if wish.readers > 1:
        spread = wish.chance * (1 - wish.chance)
        of_one = spread * (1 + (wish.readers - 1) * wish.correlation) / wish.readers
        for between, whom in ((0.0, "for these readers alone"), (wish.between, _OTHERS)):
            needed = planning.cases_for_verdict(
                wish.chance, of_one, between**2 / wish.readers, margin, wish.chance,
                wished=wish.power,
            )  # fmt: skip
            lines.append(f"  {wish.readers} readers, {whom}: {_said(needed)}.")
    return lines


def _cases(wish: Wish, cases: int) -> list[str]:
    alone = planning.half_width(cases, wish.chance)
    lines = [
        f"{cases} cases give a 95 % interval of ± {alone:.3f} at {wish.chance:.3g}, one reader."
    ]
    if wish.readers > 1:
        known = planning.readers_half_width(
            wish.readers, cases, share=wish.chance, between=wish.between,
            correlation=wish.correlation,
        )  # fmt: skip
        analysed = planning.analysed_half_width(
            wish.readers, cases, share=wish.chance, between=wish.between,
            correlation=wish.correlation,
        )  # fmt: skip
        lines.append(
            f"  {wish.readers} readers, {_OTHERS}: ± {known:.3f}; the analysis, which must "
            f"estimate it, gives about ± {analysed:.3f}."
        )
    return lines


def _fewest(is_enough: Callable[[int], bool]) -> int | None:
    """The fewest cases that are enough, by halving; None above the most."""
    low, high = 1, planning.MOST
    if not is_enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _said(cases: int | None, other: str = "no number of cases, only more readers") -> str:
    return other if cases is None else f"{cases} cases"


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
