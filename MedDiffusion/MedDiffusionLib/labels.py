"""Which label of a label map is which label of the model: by value, by name, or as told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .errors import UserError
from .manifest import Label, Manifest
from .volume import Segment, Volume

BACKGROUND = "background"
"""The name that ``--label 5=background`` uses to leave a label out."""


def match_labels(labels: Volume, manifest: Manifest, told: Mapping[int, str]) -> Volume:
    """The label map with the model's label values in place of its own.

    Each value is matched by ``told`` (value -> label name), else by the terminology code or name
    of its segment where the file has one, else by value. Raises UserError, listing what the file
    has and what the model knows, where a value matches nothing; also when ``told`` names a value
    or label that does not exist, when nothing labelled is left, and when labels are missing that
    the model needs.
    """
    by_name = {label.name.lower(): label for label in manifest.labels}
    by_value = {label.value: label for label in manifest.labels}
    by_code = {label.code: label for label in manifest.labels if label.code}
    found = [int(v) for v in np.unique(labels.array) if v != 0]
    segments = {segment.value: segment for segment in labels.segments}
    lists = f"the label map has {_listed(found, segments)}; {manifest.name} knows " + ", ".join(
        f"{label.value} ({label.name})" for label in manifest.labels
    )
    for value, name in told.items():
        if value not in found:
            raise UserError(f"--label {value}={name}: no voxel has the value {value}; {lists}.")
        if name.lower() not in by_name and name.lower() != BACKGROUND:
            raise UserError(f"--label {value}={name}: the model has no such label; {lists}.")

    target: dict[int, int] = {}
    unknown: list[int] = []
    for value in found:
        label: Label | None
        if value in told:
            label = by_name.get(told[value].lower())
        elif value in segments:
            segment = segments[value]
            label = by_code.get(segment.code) or by_name.get(segment.name.lower())
        else:
            label = by_value.get(value)
        if label is None and told.get(value, "").lower() != BACKGROUND:
            unknown.append(value)
        target[value] = label.value if label else 0
    if unknown:
        raise UserError(
            f"No label of the model matches {_listed(unknown, segments)}: {lists}; say which is "
            "which with --label VALUE=NAME (NAME may be background)."
        )
    _check_enough({v for v in target.values() if v}, manifest, lists)
    matched = np.zeros_like(labels.array)
    for value, new in target.items():
        matched[labels.array == value] = new
    kept = tuple(Segment(label.value, label.name, label.code) for label in manifest.labels)
    return Volume(matched, labels.affine, labels.kind, kept)


def _check_enough(present: set[int], manifest: Manifest, lists: str) -> None:
    if not present:
        raise UserError(f"Nothing labelled is left: {lists}.")
    missing = [label.name for label in manifest.labels if label.value not in present]
    if missing and not manifest.content["label_dropout"]:
        raise UserError(f"The model needs all its labels and lacks {', '.join(missing)}: {lists}.")


def _listed(values: list[int], segments: Mapping[int, Segment]) -> str:
    names = [f"{v} ({segments[v].name})" if v in segments else str(v) for v in values[:20]]
    return ", ".join(names) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
