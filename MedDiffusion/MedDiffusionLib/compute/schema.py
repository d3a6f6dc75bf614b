"""Checks JSON against the part of JSON Schema (2020-12) that our schemas use.

Slicer users install what the engine needs, so this replaces a dependency with thirty lines; a test
holds its verdicts against the jsonschema library's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
        return f"{where} is {value!r}, not one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return f"{where} does not match {schema['pattern']}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
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
                return f"{where} has an unknown entry {key!r}"
    return None
