"""Whether a label map node fits a model, in words; cheap enough to ask after every stroke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ..bundles.manifest import Manifest
from ..compute.errors import UserError
from ..scene.geometry import world_affine
from ..scene.label_maps import drawn_labels
from ..synthesis.labels import BACKGROUND, Assignment, assign_labels


@dataclass(frozen=True)
class Fit:
    """``ok`` says whether a synthesis can start, ``sentence`` why (not)."""

    ok: bool
    sentence: str
    foreign: tuple[str, ...] = ()
    """What the model does not know: segment names, or values of a label map volume."""
    told: Mapping[int | str, str] = field(default_factory=dict)
    """What was told about these, as SceneLogic.startSynthesis takes it."""


def describe_fit(node: Any, manifest: Manifest, told: Mapping[str, str]) -> Fit:
    """Match what is drawn with the model's labels, by the engine's rule.

    ``told``: segment name, or value as a text -> label name, or background. What it says of other
    label maps or models does not matter.
    """
    if node is None:
        return Fit(False, _("Choose a label map, or make one: New canvas, Example or Random."))
    try:
        world_affine(node, np.eye(4))
    except UserError as error:
        return Fit(False, str(error))
    found, segments = drawn_labels(node)
    known = ", ".join(label.name for label in manifest.labels)
    if not found:
        text = _("{name} is empty: draw at least one of {known}.")
        return Fit(False, text.format(name=node.GetName(), known=known))
    named = {segment.value: segment.name for segment in segments}
    foreign = {
        value: named.get(value, str(value))
        for value in assign_labels(found, segments, manifest, {}).unknown
    }
    usable = {label.name for label in manifest.labels} | {BACKGROUND}
    told_values = {v: told[text] for v, text in foreign.items() if told.get(text) in usable}
    assigned = assign_labels(found, segments, manifest, told_values)
    ok, sentence = _judge(node.GetName(), assigned, foreign, manifest)
    return Fit(
        ok,
        sentence,
        tuple(dict.fromkeys(foreign.values())),
        {named.get(value, value): name for value, name in told_values.items()},
    )


def _judge(
    name: str, assigned: Assignment, foreign: Mapping[int, str], manifest: Manifest
) -> tuple[bool, str]:
    lacks = ", ".join(label.name for label in assigned.missing)
    has = ", ".join(label.name for label in manifest.labels if label not in assigned.missing)
    ok = False
    if assigned.unknown:
        text = _("{name} has {unknown}, which {model} does not know: say below what it is.")
    elif not has:
        text = _("Nothing in {name} is a label of the model: draw at least one of {lacks}.")
    elif not lacks:
        ok, text = True, _("{name} fits the model: {has}.")
    elif manifest.content["label_dropout"]:
        ok = True
        text = _(
            "{name} fits the model: {has}. Not drawn: {lacks}; the model puts it where it finds "
            "it plausible."
        )
    else:
        text = _("The model needs all its labels; {name} lacks {lacks}: draw it.")
    unknown = ", ".join(dict.fromkeys(foreign[value] for value in assigned.unknown[:20]))
    return ok, text.format(name=name, unknown=unknown, model=manifest.name, has=has, lacks=lacks)
