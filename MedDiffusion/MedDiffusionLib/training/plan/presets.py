"""Presets and splits: JSON files that say how to train, and on which cases."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundles import version_1
from ...bundles.catalog import resources_folder
from ...compute.errors import UserError
from ...compute.parsing import read_json
from ...compute.schema import Schema, validate
from .settings import part_problem

_PARTS = {"manifest", "training"}
_NAMES: Schema = {"type": "array", "items": {"type": "string", "maxLength": 4096}}
_SPLIT: Schema = {
    "type": "object",
    "required": ["train"],
    "properties": {"train": {**_NAMES, "minItems": 1}, "validation": _NAMES},
}


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
    path = preset_path(name)
    try:
        preset = read_json(path)
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
    if problem := part_problem(preset):
        raise UserError(f"cannot be used ({problem})", "correct it", path=path)
    return preset


def preset_path(name: str) -> Path:
    """The file of a preset by its name, or a file itself."""
    path = resources_folder() / "Presets" / f"{name}.json"
    return path if os.path.lexists(path) else Path(name)


def check_card(card: dict[str, str | None]) -> None:
    """Raise UserError for what a model's card cannot say of its name, license or attribution."""
    given = {name: text for name, text in card.items() if text is not None}
    if problem := part_problem({"manifest": given}):
        raise UserError(f"The model card cannot be used ({problem})", "correct it")


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
        content = read_json(path)
    except OSError as error:
        raise UserError("cannot be read", "check the path", path=path) from error
    except ValueError as error:
        raise UserError(f"is no split file ({error})", "correct it", path=path) from error
    if problem := validate(content, _SPLIT, "it"):
        raise UserError(
            f"is no split file ({problem})", 'it needs a JSON list under "train"', path=path
        )
    train, validation = tuple(content["train"]), tuple(content.get("validation", []))
    if both := sorted(set(train) & set(validation)):
        raise UserError(f"has {both[0]} under train and under validation", "remove one", path=path)
    for part, names in (("train", train), ("validation", validation)):
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise UserError(f"has {twice[0]} twice under {part}", "remove one", path=path)
    return Split(train, validation)
