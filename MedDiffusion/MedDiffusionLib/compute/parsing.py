"""Numbers and JSON out of text that may hold anything: finite and bounded, or refused.

Everything that comes from a file, an option or another process is read by these.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from .errors import printable as printable
from .files import read_regular

MAX_DEPTH = 64
"""Levels of lists and objects within each other."""
MAX_JSON_BYTES = 2**26
_MAX_INTEGER = 2**63 - 1


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text; raises ValueError with a clause.

    Beside what JSON forbids, NaN and infinity, numbers that no float64 or int64 holds, and more
    than :data:`MAX_DEPTH` levels are refused.
    """
    try:
        content = json.loads(
            text, parse_float=parse_number, parse_int=parse_integer, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_depth(content)
    return content


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file; raises OSError, or ValueError as :func:`parse_json` does."""
    return parse_json(read_regular(path, most))


def parse_number(text: str) -> float:
    """A finite number; raises ValueError with a clause."""
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError(f"{shortened(text)} is no number") from error
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text)} is no finite number")
    return number


def parse_integer(text: str) -> int:
    """A whole number that 64 bits hold; raises ValueError with a clause."""
    try:
        # Python itself refuses more than some thousand digits, in words of its own.
        number = int(text) if len(text) < 100 else _MAX_INTEGER + 1
    except ValueError as error:
        raise ValueError(f"{shortened(text)} is no whole number") from error
    if abs(number) > _MAX_INTEGER:
        raise ValueError(f"{shortened(text)} is too large a number")
    return number


def shortened(text: str, most: int = 40) -> str:
    """A text for a sentence: no longer than ``most`` characters, and without control characters."""
    plain = printable(text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no finite number")


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [item for part in level for item in _parts(part)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _parts(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return list(content.values())
    return content if isinstance(content, list) else []
