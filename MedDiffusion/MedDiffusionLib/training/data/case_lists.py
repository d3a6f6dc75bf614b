"""The text files that describe a data set: tables of cases, and nnU-Net's ``dataset.json``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...compute.errors import UserError
from ...compute.files import read_regular
from ...compute.parsing import parse_integer, read_json, shortened
from ...compute.schema import Schema, validate
from ...volumes.reading import stem

_LABEL, _NAME, _GROUP = "label", "name", "group"
_MOST_BYTES = 2**26
_NAMES_FILE: Schema = {
    "type": "object",
    "required": ["labels"],
    "properties": {
        "channel_names": {"type": "object"},
        "modality": {"type": "object"},
        "labels": {"type": "object"},
    },
}
_SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Row:
    """A line of a table; ``images`` in the order of the contrasts, without the empty cells."""

    name: str
    images: tuple[Path, ...]
    label: Path
    group: str


@dataclass(frozen=True)
class NamesFile:
    """What a ``dataset.json`` says: channel names in order, label names without background."""

    channels: tuple[str, ...]
    labels: Mapping[int, str]


def read_rows(table: Path) -> tuple[tuple[str, ...], list[Row]]:
    """The contrasts of a table, sorted, and its rows; see ``cases.read_table``."""
    lines = _lines(table)
    header = [cell.strip() for cell in lines[0][1]]
    special = {name.lower(): n for n, name in enumerate(header) if _is_special(name)}
    contrasts = {name: n for n, name in enumerate(header) if name and not _is_special(name)}
    if len(special) + len(contrasts) < len([name for name in header if name]):
        raise UserError("has two columns of one name", "rename one of them", path=table)
    if _LABEL not in special or not contrasts:
        raise UserError(
            f"needs a header line with the column {_LABEL} and a column per contrast, and has "
            f"{', '.join(header)}",
            "add them",
            path=table,
        )
    channels = tuple(sorted(contrasts))
    rows = [
        _row(table, number, cells, special, [contrasts[name] for name in channels])
        for number, cells in lines[1:]
    ]
    if not rows:
        raise UserError("lists no case", "add a line per case below the header", path=table)
    return channels, rows


def _lines(table: Path) -> list[tuple[int, list[str]]]:
    """Numbered lines that are not empty, each split into its cells."""
    if table.suffix.lower() not in _SUFFIXES:
        raise UserError("is no folder and no table", "give a .csv or .tsv file", path=table)
    try:
        # The BOM that spreadsheet programs write would become part of the first column's name.
        text = read_regular(table, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", "check the path", path=table
        ) from error
    except UnicodeDecodeError as error:
        raise UserError("is not UTF-8 text", "save it as CSV in UTF-8", path=table) from error
    first = text.partition("\n")[0]
    # Spreadsheet programs write semicolons where the comma is the decimal sign.
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(
            f"is no table that can be read ({error}, in line {reader.line_num})",
            "correct it",
            path=table,
        ) from error
    for number, row in lines:
        if any("\0" in cell for cell in row):
            raise UserError(f"has NUL characters in line {number}", "correct it", path=table)
    if not lines:
        raise UserError("is empty", "list the cases in it", path=table)
    return lines


def _row(
    table: Path, number: int, cells: list[str], special: Mapping[str, int], columns: list[int]
) -> Row:
    def cell(column: int | None) -> str:
        return cells[column].strip() if column is not None and column < len(cells) else ""

    label = cell(special[_LABEL])
    if not label:
        raise UserError(f"{table}, line {number}, names no label map", f"fill the column {_LABEL}")
    folder = table.parent
    images = tuple(folder / cell(column) for column in columns if cell(column))
    name = cell(special.get(_NAME)) or stem(Path(label))
    return Row(name, images, folder / label, cell(special.get(_GROUP)))


def _is_special(name: str) -> bool:
    return name.lower() in (_LABEL, _NAME, _GROUP)


def read_names_file(path: Path) -> NamesFile:
    """Channel and label names of a ``dataset.json``, of nnU-Net 1 or 2 or of the Decathlon."""
    try:
        content = read_json(path)
        if problem := validate(content, _NAMES_FILE, "it"):
            raise ValueError(problem)
        channels = content.get("channel_names", content.get("modality", {}))
        numbered = sorted((parse_integer(number), str(name)) for number, name in channels.items())
        labels = dict(_label(key, value, path) for key, value in content["labels"].items())
    except (OSError, ValueError) as error:
        raise UserError(
            f"does not name the channels and labels ({error})",
            "write it as nnU-Net does, or take it away",
            path=path,
        ) from error
    names = tuple(name for _, name in numbered)
    return NamesFile(names, {value: name for value, name in labels.items() if value != 0})


def _label(key: str, value: Any, path: Path) -> tuple[int, str]:
    """nnU-Net 2 writes ``"name": value``, version 1 and the Decathlon ``"value": "name"``."""
    if isinstance(value, list):
        raise UserError(
            f"makes the label {key} of several values {value}",
            "regions are not supported; name each value by itself",
            path=path,
        )
    if isinstance(value, str) and not value.isdigit():
        return parse_integer(key), value
    if isinstance(value, (dict, bool)) or value is None:
        raise ValueError(f"the label {shortened(key)} has no number")
    return parse_integer(str(value)), key
