"""Whether a label map fits a model, in words; cheap enough to ask after every stroke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...bundles.manifest import Manifest
from ...synthesis.labels import BACKGROUND, Assignment, assign_labels
from ...volumes.volume import Segment
from ..wording import _


@dataclass(frozen=True)
class Drawn:
    """What a look at a label map node has found."""

    name: str
    values: Sequence[int] = ()
    """The values other than 0 that have voxels."""
    segments: Sequence[Segment] = ()
    """The names of the values of a segmentation; empty for a label map volume."""
    problem: str = ""
    """Why it cannot be used, whatever is drawn; empty where it can."""


@dataclass(frozen=True)
class Fit:
    """``ok`` says whether a synthesis can start, ``sentence`` why (not)."""

    ok: bool
    sentence: str
    foreign: tuple[str, ...] = ()
    """What the model does not know: segment names, or values of a label map volume."""
    overrides: Mapping[int | str, str] = field(default_factory=dict)
    """What the user says that these are, as SceneLogic.startSynthesis takes it."""

    @property
    def text(self) -> str:
        """The sentence with a mark where all is well."""
        return f"✓ {self.sentence}" if self.ok else self.sentence


def describe_fit(drawn: Drawn | None, manifest: Manifest, overrides: Mapping[str, str]) -> Fit:
    """Match what is drawn with the model's labels, by the engine's rule.

    ``overrides``: segment name, or value as a text -> label name, or background. What it says of
    other label maps or models does not matter.
    """
    if drawn is None:
        text = _("Choose a label map, or make one: begin with Example.")
        return Fit(False, text)
    if drawn.problem:
        return Fit(False, drawn.problem)
    if not drawn.values:
        known = ", ".join(label.name for label in manifest.labels)
        text = _("{name} is empty: draw at least one of {known}.")
        return Fit(False, text.format(name=drawn.name, known=known))
    named = {segment.value: segment.name for segment in drawn.segments}
    foreign = {
        value: named.get(value, str(value))
        for value in assign_labels(drawn.values, drawn.segments, manifest, {}).unknown
    }
    usable = {label.name for label in manifest.labels} | {BACKGROUND}
    by_value = {v: overrides[text] for v, text in foreign.items() if overrides.get(text) in usable}
    assigned = assign_labels(drawn.values, drawn.segments, manifest, by_value)
    ok, sentence = _judge(drawn.name, assigned, foreign, manifest)
    return Fit(
        ok,
        sentence,
        tuple(dict.fromkeys(foreign.values())),
        {named.get(value, value): name for value, name in by_value.items()},
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
    elif manifest.label_dropout:
        ok = True
        text = _(
            "{name} fits the model: {has}. Not drawn: {lacks}; the model puts it where it finds "
            "it plausible."
        )
    elif all(label.optional for label in assigned.missing):
        ok, text = True, _("{name} fits the model: {has}. Not drawn, and so not there: {lacks}.")
    else:
        lacks = ", ".join(label.name for label in assigned.missing if not label.optional)
        text = _("The model needs all its labels; {name} lacks {lacks}: draw it.")
    unknown = ", ".join(dict.fromkeys(foreign[value] for value in assigned.unknown[:20]))
    return ok, text.format(name=name, unknown=unknown, model=manifest.name, has=has, lacks=lacks)
