"""Kinds of options: what is no finite number, or no path, is said as wrong usage at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..compute.parsing import parse_integer, parse_number

_Value = TypeVar("_Value")


def number(text: str) -> float:
    """A finite number, for argparse."""
    return _of(text, parse_number)


def integer(text: str) -> int:
    """A whole number that 64 bits hold, for argparse."""
    return _of(text, parse_integer)


def path(text: str) -> Path:
    """A path, for argparse: an empty one would be the current folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("it is no path")
    return Path(text)


def words(text: str) -> str:
    """A text, for argparse: an empty one is a slip, as of a variable that is not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _of(text: str, parse: Callable[[str], _Value]) -> _Value:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
