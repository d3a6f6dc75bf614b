"""Presets and splits: JSON files that say how to train, and on which cases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundles import version_1
from ...bundles.catalog import resources_folder
from ...compute.errors import UserError

_PARTS = {"manifest", "training"}


@dataclass(frozen=True)
class Split:
    """The names of the cases to train on and, where given, of those to validate with."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()


def read_preset(name: str) -> dict[str, Any]:
    """A preset by name (``Resources/Presets``) or from a JSON file, whole or in part.

    A part is merged over an automatic plan; see :func:`is_complete`. Raises UserError for a file
    that cannot be read or is no preset.
    """
    path = resources_folder() / "Presets" / f"{name}.json"
    path = path if path.is_file() else Path(name)
    try:
        preset = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"There is no preset {name}", "give a preset's name or JSON file"
        ) from error
    except ValueError as error:
        raise UserError(f"is no training preset ({error})", "correct it", path=path) from error
    if (
        not isinstance(preset, dict)
        or not preset
        or set(preset) - _PARTS
        or not all(isinstance(part, dict) for part in preset.values())
    ):
        raise UserError(
            "is no training preset",
            'it needs the objects "manifest" and "training", or one of them',
            path=path,
        )
    if "manifest" in preset:
        # Presets of version 0.1 say the schedule as manifests did then.
        preset["manifest"] = version_1.upgrade(preset["manifest"])
    return preset


def is_complete(preset: dict[str, Any]) -> bool:
    """Whether a preset says all there is to say, so that no plan is made from the data."""
    return set(preset) == _PARTS and {"architecture", "labels", "channels", "grid"} <= set(
        preset["manifest"]
    )


def label_names(preset: dict[str, Any]) -> dict[int, str]:
    """The names that a preset gives to label values; none where it gives them in a wrong way.

    What is wrong is said where the preset becomes a plan.
    """
    try:
        return {int(label["value"]): str(label["name"]) for label in preset["manifest"]["labels"]}
    except (KeyError, TypeError, ValueError):
        return {}


def load_preset(name: str) -> dict[str, Any]:
    """A complete preset; raises UserError where it is not."""
    preset = read_preset(name)
    if not is_complete(preset):
        raise UserError(f"{name} is no training preset by itself", "it names but a part of a plan")
    return preset


def read_split(path: Path) -> Split:
    """A split file: case names under "train" and, where wanted, under "validation"."""
    try:
        content = json.loads(path.read_text("utf-8"))
        parts = [content["train"], content.get("validation", [])]
    except OSError as error:
        raise UserError("cannot be read", "check the path", path=path) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "is no split file", 'it needs a JSON list under "train"', path=path
        ) from error
    if not all(isinstance(part, list) for part in parts) or not parts[0]:
        raise UserError("is no split file", 'it needs a JSON list under "train"', path=path)
    train, validation = (tuple(str(name) for name in part) for part in parts)
    if both := sorted(set(train) & set(validation)):
        raise UserError(f"has {both[0]} under train and under validation", "remove one", path=path)
    return Split(train, validation)
