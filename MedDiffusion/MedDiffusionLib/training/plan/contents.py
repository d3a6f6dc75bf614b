"""Contrasts, labels and flips of a planned model, from the data (rules 10 to 12).

The rules are numbered as in :mod:`.planning`, which lists them.
"""

from __future__ import annotations

import colorsys
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from ...compute.errors import UserError
from ...compute.parsing import shortened
from ..data.findings import DataReport, Intensities

_MOST_LABELS = 256
_LONGEST_NAME = 64
_SIDES = {"left", "right", "l", "r", "lh", "rh"}


def model_name(text: str) -> str:
    """A text as a model's name may be like it; empty where nothing of it may be in one."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:_LONGEST_NAME].strip("._-")


def description_of(labels: list[dict[str, Any]], channels: list[dict[str, Any]]) -> str:
    """What such a model does, in a sentence."""
    volume = f"a volume ({listed([x['name'] for x in channels])})"
    if not labels:
        return f"Makes {volume}."
    return f"Turns a label map ({listed([x['name'] for x in labels])}) into {volume}."


def channels_of(
    names: Sequence[str], intensities: Sequence[Intensities]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The manifest's channels and intensity (rule 10)."""
    cleaned: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[: _LONGEST_NAME - 4].strip("-") or "image"
        cleaned.append(_distinct(base, cleaned, "{}-{}"))
    are_ct = [_is_ct(channel) for channel in intensities]
    if not any(are_ct):
        channels = [{"name": n, "units": "arbitrary", "range": [0, 1000]} for n in cleaned]
        return channels, {"percentiles": [0.5, 99.5]}
    windows = [_window(channel) for channel in intensities]
    channels = [
        {"name": name, "units": "HU" if is_ct else "arbitrary", "range": window}
        for name, is_ct, window in zip(cleaned, are_ct, windows, strict=True)
    ]
    return channels, {"window": windows}


def _is_ct(channel: Intensities) -> bool:
    return channel.channel.lower() == "ct" or (channel.whole_numbers and channel.whole[0] < -500)


def _window(channel: Intensities) -> list[int]:
    low = min(channel.whole[0], channel.labelled[0])
    high = max(channel.whole[2], channel.labelled[2])
    return [math.floor(low / 10) * 10, math.ceil(high / 10) * 10]


def labels_of(report: DataReport) -> list[dict[str, Any]]:
    """The manifest's labels (rule 11); raises UserError where they are too many."""
    values = report.label_values
    if len(values) > _MOST_LABELS:
        raise UserError(
            f"The label maps have {len(values)} different labels together",
            f"use at most {_MOST_LABELS}",
        )
    names: list[str] = []
    for value in values:
        known = shortened(report.label_names.get(value, ""), _LONGEST_NAME - 8).strip()
        names.append(_distinct(known or f"label {value}", names, "{} ({})"))
    return [
        {"value": value, "name": name, "color": _color(number), "code": ""}
        for number, (value, name) in enumerate(zip(values, names, strict=True))
    ]


def _distinct(name: str, taken: Sequence[str], pattern: str) -> str:
    """The name, numbered where it is taken; case does not tell two apart."""
    lower = {other.lower() for other in taken}
    numbered = (pattern.format(name, number) for number in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if n.lower() not in lower)


def _color(number: int) -> list[int]:
    """Of the labels' colors one that differs from the others: hues by the golden ratio."""
    hue = (0.05 + number * 0.618034) % 1
    saturation, value = (0.75, 0.55, 0.9)[number // 8 % 3], (0.9, 0.7)[number // 24 % 2]
    return [round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value)]


def may_flip(report: DataReport) -> bool:
    """Whether left and right may be exchanged (rule 12)."""
    names = [report.label_names.get(value, "") for value in report.label_values]
    words = {word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    # Of what has no names nobody knows whether it has sides.
    return bool(names) and all(names) and not words & _SIDES


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
