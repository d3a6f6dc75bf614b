"""Numbers and JSON from outside are finite and bounded, or refused with a clause."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from MedDiffusionLib.compute.parsing import (
    MAX_DEPTH,
    parse_integer,
    parse_json,
    parse_number,
    read_json,
    shortened,
)

BAD = {
    "NaN": "NaN is no finite number",
    '{"a": [-Infinity]}': "-Infinity is no finite number",
    "[1e999]": "1e999 is no finite number",
    "9223372036854775808": "9223372036854775808 is too large a number",
    "1" * 5000: "is too large a number",
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1): "nested too deeply",
    '{"a":' * 100_000: "nested too deeply",
    '{"a": 1': "Expecting",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:12])
def test_json_that_python_would_take_or_choke_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=BAD[text]):
        parse_json(text)


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        parse_json(b'"\xff"')


@pytest.mark.parametrize("text", ['{"a": [1, -2.5e3, "é", true, null]}', str(2**63 - 1), "[[]]"])
def test_other_json_is_what_the_standard_library_makes_of_it(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_a_json_file_larger_than_allowed_or_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_json(path, 6) == [1, 2]
    with pytest.raises(OSError, match="larger than 5 bytes"):
        read_json(path, 5)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        read_json(tmp_path / "fifo")


def test_numbers_are_finite() -> None:
    assert (parse_number(" 2.5e3 "), parse_integer("-7")) == (2500.0, -7)
    for text in ("nan", "inf", "-1e400", "1,5", ""):
        with pytest.raises(ValueError):
            parse_number(text)
    for text in ("1e3", "0x10", "9" * 30, "9" * 6000, ""):
        with pytest.raises(ValueError):
            parse_integer(text)


def test_what_is_quoted_in_a_sentence_is_short_and_has_no_control_characters() -> None:
    assert shortened("a\x1b[31mb\nc") == "a [31mb c"
    assert shortened("x" * 100, 10) == "xxxxxxx..."
