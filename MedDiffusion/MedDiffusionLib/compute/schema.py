"""Checks JSON against the part of JSON Schema (2020-12) that our schemas use.

Slicer users install what the engine needs, so this replaces a dependency with some lines; a test
holds its verdicts against the jsonschema library's. Beyond a schema, numbers are finite, and texts
have no control characters but line ends and tabs: no schema of ours can say either.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from .parsing import shortened

Schema = Mapping[str, Any]
"""A JSON Schema, as far as :func:`validate` knows them."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def validate(value: Any, schema: Schema, where: str = "model.json") -> str | None:
    """The first thing wrong with ``value``, in words, or None."""
    kind = schema.get("type")
    if kind and (
        not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        return f"{where} is not of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        shown = shortened(repr(value))
        return f"{where} is {shown}, not one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str) and (problem := _text_problem(value, schema)):
        return f"{where} {problem}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            return f"{where} is no finite number"
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            return f"{where} is {value}, out of range"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return f"{where} is {value}, out of range"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{where} has {len(value)} entries"
        for number, item in enumerate(value):
            if problem := validate(item, schema.get("items", {}), f"{where}[{number}]"):
                return problem
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for key in schema.get("required", []):
            if key not in value:
                return f"{where} lacks {key!r}"
        for key, item in value.items():
            if key in known:
                if problem := validate(item, known[key], f"{where}: {key}"):
                    return problem
            elif schema.get("additionalProperties", True) is False:
                return f"{where} has an unknown entry {shortened(repr(key))}"
    return None


def _text_problem(text: str, schema: Schema) -> str | None:
    if len(text) > schema.get("maxLength", len(text)):
        return f"is longer than {schema['maxLength']} characters"
    if any(c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs") for c in text):
        return "has control characters"
    # As in JSON Schema, where $ is the end alone; Python's is also the place before a line end.
    pattern = re.sub(r"\$$", r"\\Z", schema.get("pattern", ""))
    if not re.search(pattern, text):
        return f"does not match {schema['pattern']}"
    return None
