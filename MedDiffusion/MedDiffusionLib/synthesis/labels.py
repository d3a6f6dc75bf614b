"""Which label of a label map is which label of the model: by value, by name, or by an override."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..bundles.manifest import Label, Manifest
from ..compute.errors import UserError
from ..volumes.label_statistics import slices_in_memory
from ..volumes.volume import Segment, Volume

BACKGROUND = "background"
"""The name that an override uses to leave a label out."""
_TABLE_SIZE = 2**16
"""Values from 0 to below this are replaced by table, others one by one."""


@dataclass(frozen=True)
class Assignment:
    """What each value of a label map stands for."""

    labels: Mapping[int, Label | None]
    """The label of the model, or None where it is overridden as background or unknown."""
    unknown: tuple[int, ...]
    """The values that match nothing."""
    missing: tuple[Label, ...]
    """The labels of the model that no value stands for."""

    def describe(self) -> str:
        """As a label table is written: ``1=anterior,9=background``."""
        names = {value: label.name if label else BACKGROUND for value, label in self.labels.items()}
        return ",".join(f"{value}={name}" for value, name in sorted(names.items()))


def overrides_from(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Overrides by value; raises UserError where a value is given twice."""
    overrides: dict[int, str] = {}
    for value, name in pairs:
        if value in overrides:
            raise UserError(
                f"The label value {value} is given twice, as {overrides[value]} and as {name}",
                "give each value once",
            )
        overrides[value] = name
    return overrides


def assign_labels(
    found: Sequence[int],
    segments: Sequence[Segment],
    manifest: Manifest,
    overrides: Mapping[int, str],
) -> Assignment:
    """Match the values of a label map with the labels of the model; never by order.

    A value is matched by ``overrides`` (value -> label name or background), else by the terminology
    code or name of its segment where it has one, else by value.
    """
    by_name = {label.name.lower(): label for label in manifest.labels}
    by_value = {label.value: label for label in manifest.labels}
    by_code = {label.code: label for label in manifest.labels if label.code}
    segment_of = {segment.value: segment for segment in segments}
    labels: dict[int, Label | None] = {}
    unknown: list[int] = []
    for value in found:
        if value in overrides:
            label = by_name.get(overrides[value].lower())
        elif value in segment_of:
            segment = segment_of[value]
            label = by_code.get(segment.code) or by_name.get(segment.name.lower())
        else:
            label = by_value.get(value)
        if label is None and overrides.get(value, "").lower() != BACKGROUND:
            unknown.append(value)
        labels[value] = label
    present = {label.value for label in labels.values() if label}
    missing = tuple(label for label in manifest.labels if label.value not in present)
    return Assignment(labels, tuple(unknown), missing)


def checked_assignment(
    labels: Volume, manifest: Manifest, overrides: Mapping[int, str]
) -> Assignment:
    """The assignment of a label map's values, all of them known and enough for the model.

    Raises UserError, listing what the file has and what the model knows, where a value matches
    nothing (see :func:`assign_labels`); also when ``overrides`` name a value or label that does not
    exist, when nothing labelled is left, and when labels are missing that the model needs.
    """
    refuse_label_map(manifest)
    found = labels.label_statistics.values
    segments = {segment.value: segment for segment in labels.segments}
    lists = f"the label map has {_listed(found, segments)}; {manifest.name} knows " + ", ".join(
        f"{label.value} ({label.name})" for label in manifest.labels
    )
    names = {label.name.lower() for label in manifest.labels} | {BACKGROUND}
    for value, name in overrides.items():
        # Of a segment that was left out while it was read, nothing is found.
        if value not in found and not (value in segments and value in left_out(overrides)):
            raise UserError(
                f"No voxel has the value {value} that is to be {name} ({lists})",
                "correct the value",
                code="label-override",
            )
        if name.lower() not in names:
            raise UserError(
                f"The model has no label {name} that the value {value} is to be ({lists})",
                "correct the name",
                code="label-override",
            )

    assigned = assign_labels(found, labels.segments, manifest, overrides)
    if assigned.unknown:
        raise UserError(
            f"No label of the model matches {_listed(assigned.unknown, segments)} ({lists})",
            "say which is which, or leave labels out",
            code="label-unknown",
        )
    if len(assigned.missing) == len(manifest.labels):
        raise UserError(f"Nothing labelled is left ({lists})", "label at least one voxel")
    needed = [label.name for label in assigned.missing if not label.optional]
    if needed and not manifest.label_dropout:
        lacking = ", ".join(needed)
        raise UserError(
            f"The model needs all its labels and lacks {lacking} ({lists})", "add what is lacking"
        )
    # What was left out while the file was read is not found any more, and yet was assigned.
    unread: dict[int, Label | None] = dict.fromkeys(left_out(overrides))
    return replace(assigned, labels={**unread, **assigned.labels})


def refuse_label_map(manifest: Manifest) -> None:
    """Raise UserError for a model that knows no labels."""
    if not manifest.labels:
        raise UserError(
            f"{manifest.name} knows no labels: it makes volumes without a label map",
            "generate volumes with it, or take another model",
            code="model-without-labels",
        )


def refuse_no_label_map(manifest: Manifest) -> None:
    """Raise UserError for a model that makes nothing without a label map."""
    if manifest.labels and not manifest.label_dropout:
        raise UserError(
            f"{manifest.name} was always trained with its labels: it makes nothing without a label "
            "map",
            "give it one and synthesize, or take another model",
            code="model-needs-labels",
        )


def left_out(overrides: Mapping[int, str]) -> frozenset[int]:
    """The values that overrides leave out."""
    return frozenset(value for value, name in overrides.items() if name.lower() == BACKGROUND)


def match_labels(labels: Volume, manifest: Manifest, overrides: Mapping[int, str]) -> Volume:
    """The label map with the model's label values in place of its own, in the smallest type.

    Raises UserError as :func:`checked_assignment` does.
    """
    return replace_labels(labels, manifest, checked_assignment(labels, manifest, overrides))


def replace_labels(labels: Volume, manifest: Manifest, assigned: Assignment) -> Volume:
    """The label map, or a part of it, with the values that an assignment gives it."""
    statistics = labels.label_statistics
    targets = {
        value: label.value if (label := assigned.labels[value]) else 0
        for value in statistics.values
    }
    kept = tuple(Segment(label.value, label.name, label.code) for label in manifest.labels)
    matched = Volume(_replaced(labels.array, targets), labels.affine, labels.kind, kept)
    if 0 not in targets.values():
        matched.remember(statistics.replaced(targets))
    return matched


def _replaced(array: NDArray, targets: Mapping[int, int]) -> NDArray:
    """The array with its values other than 0 replaced, in the smallest unsigned type; itself where
    nothing changes."""
    if all(value == target for value, target in targets.items()):
        return array
    # Of the same memory order, and filled in parts: a table's index takes eight bytes a voxel.
    replaced = np.zeros_like(array, np.min_scalar_type(max(targets.values())))
    parts = zip(slices_in_memory(array), slices_in_memory(replaced), strict=True)
    if min(targets) >= 0 and max(targets) < _TABLE_SIZE:
        table = np.zeros(max(targets) + 1, replaced.dtype)
        for value, target in targets.items():
            table[value] = target
        for part, result in parts:
            result[...] = table[part]
    else:
        for value, target in targets.items():
            replaced[array == value] = target
    return replaced


def _listed(values: Sequence[int], segments: Mapping[int, Segment]) -> str:
    names = [f"{v} ({segments[v].name})" if v in segments else str(v) for v in values[:20]]
    return ", ".join(names) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
