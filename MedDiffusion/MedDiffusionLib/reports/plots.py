"""Plots as figures of a page, in SVG: no library, no script, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from ..compute.parsing import shortened
from ..statistics.estimate import Estimate

_WIDTH = 720
_LEFT = 190
_RIGHT = 24
_ROW = 26
_COLORS = ("#1b6ca8", "#c4561c", "#3d8b45", "#7d4fa3", "#a3811f", "#2a8f96", "#a83a5b", "#5c6570")
_RAMP = ("#8c2d04", "#d9733a", "#f2c194", "#cfd8e3", "#8fb3d9", "#4a86bd", "#154f87")
_MOST_ROWS = 60


def intervals(
    rows: Sequence[tuple[str, Estimate]],
    title: str,
    *,
    chance: float,
    margin: float | None = None,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> str:
    """Estimates with their intervals, a row each, a line at ``chance`` and a band of +- ``margin``.

    ``limits`` of the axis; None takes what is there.
    """
    rows = [row for row in rows if not math.isnan(row[1].estimate)][:_MOST_ROWS]
    if not rows:
        return ""
    ends = [x for _, e in rows for x in (e.estimate, e.low, e.high) if math.isfinite(x)]
    low, high = limits or (min(*ends, chance), max(*ends, chance))
    pad = 0.0 if limits else 0.05 * (high - low or 1.0)
    axis = _Axis(low - pad, high + pad)
    bottom = 12 + _ROW * len(rows)
    parts = []
    if margin is not None:
        left, right = axis.at(chance - margin), axis.at(chance + margin)
        parts.append(_rect(left, 4, right - left, bottom - 4, "#e3efe0"))
    parts.append(_line(axis.at(chance), 4, axis.at(chance), bottom, "#888", dash=True))
    for n, (name, found) in enumerate(rows):
        y = 12 + _ROW * n + _ROW / 2
        parts.append(_text(_LEFT - 10, y + 4, shortened(name, 28), "end"))
        if not math.isnan(found.low):
            parts.append(_line(axis.at(found.low), y, axis.at(found.high), y, _COLORS[0], 2))
        parts.append(f'<circle cx="{axis.at(found.estimate):.1f}" cy="{y:.1f}" r="4" '
                     f'fill="{_COLORS[0]}"/>')  # fmt: skip
    parts += axis.ticks(bottom)
    return _figure(bottom + 24, title, parts)


def stacked(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], title: str) -> str:
    """The shares of the answers, from the lowest to the highest, a bar for each row of counts."""
    rows = [row for row in rows if sum(row[1])][:_MOST_ROWS]
    if not rows:
        return ""
    axis = _Axis(0.0, 1.0)
    colors = [_RAMP[round(n * (len(_RAMP) - 1) / max(len(names) - 1, 1))]
              for n in range(len(names))]  # fmt: skip
    parts = []
    for n, (name, counts) in enumerate(rows):
        y, start, total = 8 + _ROW * n, 0.0, float(sum(counts))
        parts.append(_text(_LEFT - 10, y + 15, shortened(name, 28), "end"))
        for count, color in zip(counts, colors, strict=True):
            left, right = axis.at(start / total), axis.at((start + count) / total)
            parts.append(_rect(left, y, right - left, _ROW - 6, color))
            start += count
    bottom = 8 + _ROW * len(rows)
    parts += axis.ticks(bottom)
    for n, (name, color) in enumerate(zip(names, colors, strict=True)):
        y = bottom + 32 + 18 * n
        parts += [_rect(10, y, 12, 12, color), _text(28, y + 10, shortened(name, 100))]
    return _figure(bottom + 36 + 18 * len(names), title, parts)


def curves(found: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str) -> str:
    """ROC curves by name, each the false and the true positive rates."""
    size, left, top = 320, 60, 10

    def at(false: float, true: float) -> str:
        return f"{left + size * false:.1f},{top + size * (1 - true):.1f}"

    parts = [_rect(left, top, size, size, "none", "#999")]
    parts.append(f'<polyline points="{at(0, 0)} {at(1, 1)}" fill="none" stroke="#999" '
                 'stroke-dasharray="4 4"/>')  # fmt: skip
    for n, (name, (false, true)) in enumerate(list(found.items())[:_MOST_ROWS]):
        color = _COLORS[n % len(_COLORS)]
        points = " ".join(at(*point) for point in zip(false, true, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" '
                     'stroke-width="2"/>')  # fmt: skip
        y = top + 14 + 18 * n
        parts += [_rect(left + size + 24, y - 9, 12, 12, color),
                  _text(left + size + 42, y + 1, shortened(name, 40))]  # fmt: skip
    for value in (0.0, 0.5, 1.0):
        parts.append(_text(left + size * value, top + size + 18, f"{value:g}", "middle"))
        parts.append(_text(left - 8, top + size * (1 - value) + 4, f"{value:g}", "end"))
    parts.append(_text(left + size / 2, top + size + 36, "real, called synthetic", "middle"))
    middle = top + size / 2
    parts.append(f'<text transform="rotate(-90 20 {middle:g})" x="20" y="{middle:g}" '
                 'text-anchor="middle">synthetic, called synthetic</text>')  # fmt: skip
    height = top + max(size + 44, 14 + 18 * min(len(found), _MOST_ROWS))
    return _figure(height, title, parts)


class _Axis:
    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * float(np.clip(share, 0, 1))

    def ticks(self, y: float) -> list[str]:
        parts = [_line(_LEFT, y, _WIDTH - _RIGHT, y, "#555")]
        for value in _round_values(self.low, self.high):
            x = self.at(value)
            parts += [_line(x, y, x, y + 4, "#555"), _text(x, y + 17, f"{value:g}", "middle")]
        return parts


def _round_values(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * f for f in (1, 2, 5, 10) if unit * f >= rough * 0.99)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def _figure(height: float, title: str, parts: Sequence[str]) -> str:
    name = escape(shortened(title, 200))
    return (
        f'<figure><figcaption>{name}</figcaption><svg viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" role="img" aria-label="{name}">{"".join(parts)}</svg></figure>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(
    x: float, y: float, to_x: float, to_y: float, color: str, width: int = 1, *, dash: bool = False
) -> str:
    dashes = ' stroke-dasharray="4 4"' if dash else ""
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{color}" '
        f'stroke-width="{width}"{dashes}/>'
    )


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str = "none") -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )
