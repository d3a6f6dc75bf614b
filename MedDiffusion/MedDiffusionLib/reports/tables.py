"""Sections of a report and their tables, as HTML for the eye and as CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ..compute.parsing import printable
from ..statistics.estimate import Estimate
from .spreadsheets import no_formula

Cell = str | int | float | Estimate | None

P_COLUMNS = ("p", "Holm")
"""How the names of columns with p values begin."""
_MOST_OPEN = 30
"""Rows of a table that is seen at once; a longer one is folded."""


@dataclass(frozen=True)
class Table:
    """A table. ``name``: of its CSV file; an Estimate is one cell of a page, and in the CSV file
    columns with its interval and the number of independent cases or label maps. Its p has a column
    of its own where it means something."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def html(self) -> str:
        """The table as HTML; all text is escaped."""
        head = "".join(f'<th scope="col">{shown_text(name)}</th>' for name in self.columns)
        rows = "".join(
            "<tr>" + "".join(map(self._cell, self.columns, row)) + "</tr>" for row in self.rows
        )
        caption = f"<caption>{shown_text(self.title)}</caption>"
        whole = (
            f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
        if len(self.rows) <= _MOST_OPEN:
            return whole
        said = f"{shown_text(self.title)} ({len(self.rows)} rows)"
        return f"<details><summary>{said}</summary>{whole}</details>"

    def csv(self) -> str:
        """The table as CSV; what is not determined is empty."""
        has_interval = [
            any(isinstance(row[n], Estimate) for row in self.rows) for n in range(len(self.columns))
        ]
        names: list[str] = []
        for name, several in zip(self.columns, has_interval, strict=True):
            names.append(name)
            names += [f"{name} {end}" for end in ("low", "high", "n")] if several else []
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(map(no_formula, names))
        for row in self.rows:
            rows.writerow(
                part
                for cell, several in zip(row, has_interval, strict=True)
                for part in _parts(cell, several)
            )
        return text.getvalue()

    def _cell(self, column: str, cell: Cell) -> str:
        if isinstance(cell, str):
            return f"<td>{shown_text(cell)}</td>"
        if isinstance(cell, float) and column.startswith(P_COLUMNS):
            return f'<td class="n">{shown_p(cell)}</td>'
        return f'<td class="n">{shown(cell)}</td>'


@dataclass(frozen=True)
class Section:
    """A part of the report: plain sentences, then plots, then tables."""

    title: str
    sentences: tuple[str, ...]
    plots: tuple[str, ...] = ()
    """Figures in HTML, escaped already."""
    tables: tuple[Table, ...] = ()


def table(name: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """A table of rows as they come."""
    return Table(name, title, tuple(columns), tuple(tuple(row) for row in rows))


def shown(cell: int | float | Estimate | None) -> str:
    """A number for the eye: "0.56 [0.42, 0.69]", a dash where it is not determined."""
    if isinstance(cell, Estimate):
        if math.isnan(cell.estimate):
            return "-"
        if math.isnan(cell.low):
            return _fixed(cell.estimate)
        return f"{_fixed(cell.estimate)} [{_fixed(cell.low)}, {_fixed(cell.high)}]"
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    if isinstance(cell, int):
        return str(cell)
    return f"{cell:.3g}" if 0 < abs(cell) < 0.01 else _fixed(cell)


def _fixed(number: float) -> str:
    if math.isinf(number):
        return "∞" if number > 0 else "-∞"
    return f"{number:.3f}" if abs(number) < 10 else f"{number:.1f}"


def shown_p(p: float) -> str:
    """A p value for the eye."""
    if math.isnan(p):
        return "-"
    return "&lt; 0.0001" if p < 0.0001 else f"{p:.4f}"


def shown_text(text: str) -> str:
    """Any text within HTML: escaped, without control characters."""
    return escape(printable(text))


def _parts(cell: Cell, several: bool) -> list[str]:
    if isinstance(cell, Estimate):
        numbers = (cell.estimate, cell.low, cell.high)
        return [*map(_number, numbers), str(cell.n)]
    text = no_formula(printable(cell)) if isinstance(cell, str) else _number(cell)
    return [text, "", "", ""] if several else [text]


def _number(number: float | None) -> str:
    if number is None or math.isnan(number):
        return ""
    return repr(number if isinstance(number, int) else float(number))
