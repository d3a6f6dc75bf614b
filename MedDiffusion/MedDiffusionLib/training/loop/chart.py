"""A line chart as a PNG, drawn with numpy: the run's own machine need not have a plot library."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...compute.files import atomic

Picture = NDArray[np.uint8]
"""``[row, column, RGB]``."""

_HEIGHT, _WIDTH = 480, 800
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 40, 60
"""Pixels around the axes."""
_PAPER, _INK, _GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
_COLORS = ((60, 120, 200), (220, 110, 40))
_TICKS = 5
_DOTTED = 40
"""Up to so many points are marked by dots; a single one would not show otherwise."""
# Glyphs of 3 x 5 pixels, a row after the other.
_GLYPHS = {
    "0": "111101101101111", "1": "010110010010111", "2": "111001111100111",
    "3": "111001111001111", "4": "101101111001001", "5": "111100111001111",
    "6": "111100111101111", "7": "111001001010010", "8": "111101111101111",
    "9": "111101111001111", ".": "000000000000010", "-": "000000111000000",
    "+": "000010111010000", "A": "010101111101101", "D": "110101101101110",
    "E": "111100110100111", "G": "011100101101011", "I": "111010010010111",
    "L": "100100100100111", "N": "110101101101101", "O": "010101101101010",
    "R": "110101110101101", "S": "011100010001110", "T": "111010010010010",
    "V": "101101101101010", " ": "000000000000000",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A named line; NaN and infinite points are left out."""

    name: str
    x: list[float]
    y: list[float]


def write_chart(path: Path, x_name: str, y_name: str, curves: list[Curve]) -> None:
    """Draw curves, their names in their colors, over axes with numbers.

    Names consist of the letters in ``_GLYPHS``. The y axis reaches from 0, or the least value if
    negative, to a little above the 98th percentile, so that a steep start does not flatten the
    rest; what lies above is drawn at the edge.
    """
    picture = np.full((_HEIGHT, _WIDTH, 3), _PAPER, np.uint8)
    points = [_finite(curve) for curve in curves]
    every = np.concatenate([*points, np.zeros((0, 2))])
    x_end = max(1.0, float(every[:, 0].max(initial=1)))
    low = min(0.0, float(every[:, 1].min(initial=0)))
    high = float(np.percentile(every[:, 1], 98)) * 1.1 if len(every) else 1.0
    high = high if high > low else low + 1
    for value in _round_numbers(low, high):
        row = _row((value - low) / (high - low))
        picture[row, _LEFT : _WIDTH - _RIGHT] = _GRID
        text = f"{value:.3g}".upper()
        _write(picture, text, row - 5, _LEFT - 8 - _width(text), _INK)
    for value in _round_numbers(0.0, x_end):
        column = _column(value / x_end)
        picture[_TOP : _HEIGHT - _BOTTOM, column] = _GRID
        text = f"{value:.0f}" if x_end >= _TICKS else f"{value:.1f}"
        _write(picture, text, _HEIGHT - _BOTTOM + 8, column - _width(text) // 2, _INK)
    picture[_row(0), _LEFT : _WIDTH - _RIGHT] = _INK
    picture[_TOP : _HEIGHT - _BOTTOM, _LEFT] = _INK
    _write(picture, y_name, 14, 14, _INK)
    _write(picture, x_name, _HEIGHT - 22, (_WIDTH - _width(x_name)) // 2, _INK)
    name_at = _LEFT
    for curve, line, color in zip(curves, points, _COLORS, strict=False):
        _write(picture, curve.name, 14, name_at + 40, color)
        name_at += _width(curve.name) + 40
        shares = np.column_stack([line[:, 0] / x_end, (line[:, 1] - low) / (high - low)])
        _draw_line(picture, shares.clip(0, 1), color)
    write_png(path, picture)


def _round_numbers(low: float, high: float) -> list[float]:
    """At most ``_TICKS`` + 1 multiples of 1, 2 or 5 times a power of 10 in a range."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def write_png(path: Path, picture: Picture) -> None:
    """Write ``[row, column]`` or ``[row, column, RGB]``; raises OSError where there is no room."""
    image = sitk.GetImageFromArray(picture, isVector=picture.ndim == 3)
    with atomic(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(errno.EIO, "it could not be written", str(path)) from error


def _finite(curve: Curve) -> NDArray[np.float64]:
    points = np.array([curve.x, curve.y], float).T.reshape(-1, 2)
    return points[np.isfinite(points).all(1)]


def _row(share: float) -> int:
    return round(_HEIGHT - _BOTTOM - 1 - share * (_HEIGHT - _BOTTOM - _TOP - 1))


def _column(share: float) -> int:
    return round(_LEFT + share * (_WIDTH - _RIGHT - _LEFT - 1))


def _draw_line(picture: Picture, shares: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    """A line two pixels wide through points ``[N, 2]`` (x, y as shares of the axes)."""
    pixels = [(_row(y), _column(x)) for x, y in shares]
    for (r0, c0), (r1, c1) in zip(pixels, [*pixels[1:], *pixels[-1:]], strict=True):
        count = max(abs(r1 - r0), abs(c1 - c0)) + 1
        rows = np.rint(np.linspace(r0, r1, count)).astype(int)
        columns = np.rint(np.linspace(c0, c1, count)).astype(int)
        picture[rows, columns] = picture[rows - 1, columns] = color
        if len(pixels) <= _DOTTED:
            picture[r0 - 2 : r0 + 3, c0 - 2 : c0 + 3] = color


def _width(text: str) -> int:
    return 8 * len(text)


def _write(picture: Picture, text: str, row: int, column: int, color: tuple[int, int, int]) -> None:
    """Write a text with its upper left corner at a pixel, each glyph pixel 2 x 2."""
    for number, letter in enumerate(text):
        bits = np.array([bit == "1" for bit in _GLYPHS[letter]]).reshape(5, 3)
        glyph = bits.repeat(2, 0).repeat(2, 1)
        left = column + 8 * number
        picture[row : row + 10, left : left + 6][glyph] = color
