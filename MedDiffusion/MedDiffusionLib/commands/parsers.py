"""Parsers of arguments that answer with one sentence; for the command and the CLI modules."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ..compute.parsing import parse_integer, parse_number, shortened
from .terminal import say, write

_Number = TypeVar("_Number", int, float)


class Parser(argparse.ArgumentParser):
    """Numbers are finite and bounded, whatever is wrong is one sentence and exit code 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register("type", int, _clause(parse_integer))
        self.register("type", float, _clause(parse_number))

    def error(self, message: str) -> NoReturn:
        say(f"error: {message} (see {self.prog} --help)")
        sys.exit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        write("stderr" if file is sys.stderr else "stdout", message)


def label(text: str) -> tuple[int, str]:
    """``3=anterior``: a label value and the model's name for it; for arguments of a parser."""
    value, separator, name = (word.strip() for word in text.partition("="))
    if not (separator and name and value.isascii() and value.isdecimal()):
        raise argparse.ArgumentTypeError(f"{shortened(text)} is not of the form VALUE=NAME")
    return _clause(parse_integer)(value), name


def _clause(parse: Callable[[str], _Number]) -> Callable[[str], _Number]:
    def parsed(text: str) -> _Number:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed
