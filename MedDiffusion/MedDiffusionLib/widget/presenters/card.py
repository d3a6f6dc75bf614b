"""A model's card as rich text for labels."""

from __future__ import annotations

from collections.abc import Sequence

from ...bundles.manifest import Manifest
from ..wording import _, rich


def short_card(manifest: Manifest) -> str:
    """What one wants to know before drawing: what it makes, from which labels, how large."""
    labels = "&nbsp; ".join(
        f'<span style="background-color:rgb{label.color}">&nbsp;&nbsp;&nbsp;</span>&nbsp;'
        f"{rich(label.name)}"
        for label in manifest.labels
    )
    spacing = manifest.grid.spacing
    size = [n * s for n, s in zip(manifest.grid.size, spacing, strict=True)]
    makes = ", ".join(f"{c.name}, {_units(c.units)}" for c in manifest.channels)
    licensed = _("{license} (the model, and the volumes that it makes)")
    rows = [
        (_("Makes"), rich(makes)),
        (_("Labels"), labels or _("none: it makes volumes by itself")),
        (_("Field of view"), f"{_product(size)} mm, {_product(spacing)} mm " + _("voxels")),
        (_("License"), rich(licensed.format(license=manifest.license))),
    ]
    title = f"<b>{rich(manifest.title)}</b><br>{rich(manifest.description)}"
    return title + table(rows)


def full_card(manifest: Manifest) -> str:
    """The rest: where the model comes from, and what was measured."""
    sampling, training = manifest.sampling, manifest.training
    recommended = _("{sampler}, {steps} steps, label strength {guidance}").format(
        sampler=rich(sampling.sampler),
        steps=sampling.steps,
        guidance=f"{sampling.guidance:g}",
    )
    rows = [(_("Version"), rich(manifest.version)), (_("Recommended"), recommended)]
    if training is not None:
        rows += [(_("Trained on"), rich(training.data)), (_("Cases"), str(training.cases))]
    if manifest.source is not None:
        rows.append((_("Imported from"), rich(manifest.source.file)))
    rows.append((_("Copies of training cases"), _audit(manifest)))
    rows.append((_("Attribution"), rich(manifest.attribution)))
    rows += [(rich(figure.name), rich(figure.value)) for figure in manifest.figures]
    return table(rows)


def _audit(manifest: Manifest) -> str:
    audit = manifest.valid_audit
    if audit is None:
        return _("not audited")
    verdicts = {
        "passed": _("audit passed on {date}"),
        "failed": _("audit failed on {date}: its volumes may be copies"),
        "inconclusive": _("audit inconclusive on {date}"),
    }
    return verdicts[audit.verdict].format(date=audit.date)


def _units(units: str) -> str:
    return _("in arbitrary units") if units == "arbitrary" else units


def _product(numbers: list[float] | tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, both rich text, in two columns."""
    cells = "".join(
        f'<tr><td style="padding-right:8px">{name}</td><td>{value}</td></tr>'
        for name, value in rows
    )
    return f"<table>{cells}</table>"
