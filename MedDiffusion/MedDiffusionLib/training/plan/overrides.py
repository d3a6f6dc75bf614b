"""A user's own settings over a plan: part of a preset, as JSON, checked before anything runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ...compute.errors import UserError
from .settings import check_manifest, read_settings

_WHOLE = {
    "manifest.intensity",
    "manifest.architecture.representation",
    "manifest.architecture.schedule",
}
"""Settings with alternatives: what is given replaces them instead of adding to them."""
_LABELS = "manifest.labels"


def merge(
    plan: dict[str, Any], overrides: Mapping[str, Any], source: str = "the plan file"
) -> dict[str, Any]:
    """The plan with a user's settings in place of its own; the plan itself stays as it is.

    Objects are merged, lists and values replaced; labels are merged by their value, so that a name
    or a color can be given alone. Raises UserError, naming ``source``, for settings that do not
    exist (with those that do), that are of the wrong kind, or that do not fit together.
    """
    merged = _merge(plan, overrides, "", source)
    try:
        check_manifest(merged["manifest"])
        read_settings(merged["training"])
    except UserError as error:
        raise UserError(f"does not fit ({error.problem})", error.remedy, path=source) from error
    return merged


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], where: str, source: str) -> Any:
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        path = f"{where}.{key}" if where else key
        if key not in base:
            raise UserError(
                f"has the unknown setting {path}", f"known there are {', '.join(base)}", path=source
            )
        if path == _LABELS and isinstance(value, list):
            result[key] = _merge_labels(base[key], value, source)
        elif isinstance(base[key], Mapping) and path not in _WHOLE:
            if not isinstance(value, Mapping):
                raise UserError(
                    f"has {value!r} for {path}",
                    f"give an object of {', '.join(base[key])}, or some of them",
                    path=source,
                )
            result[key] = _merge(base[key], value, path, source)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_labels(planned: list[dict[str, Any]], given: list[Any], source: str) -> list[Any]:
    values = [label["value"] for label in planned]
    changes: dict[int, Mapping[str, Any]] = {}
    for entry in given:
        if not isinstance(entry, Mapping) or entry.get("value") not in values:
            raise UserError(
                f"has {entry!r} among {_LABELS}",
                "give objects with a value that occurs in the label maps "
                f"({', '.join(map(str, values))})",
                path=source,
            )
        changes[entry["value"]] = entry
    return [
        _merge(label, changes.get(label["value"], {}), f"{_LABELS}[{label['value']}]", source)
        for label in planned
    ]
