"""The table that says what the labels are that the model does not know by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...bundles.manifest import Manifest
from ...synthesis.labels import BACKGROUND
from ..wording import _
from .fit import Fit

MOST_ROWS = 256
"""An image taken for a label map has thousands of values: nobody wants these as rows."""


@dataclass(frozen=True)
class Table:
    """A row per foreign label; each offers the same choices."""

    names: tuple[str, ...] = ()
    """The foreign labels: segment names, or values of a label map volume."""
    choices: tuple[tuple[str, str], ...] = ()
    """What is shown, and the name that an override gives; the first is no choice yet."""

    def chosen(self, name: str, overrides: Mapping[str, str]) -> int:
        """Which of the choices an override says; one that is not offered is none."""
        offered = [choice for _text, choice in self.choices]
        override = overrides.get(name, "")
        return offered.index(override) if override in offered else 0

    def with_the_rest_left_out(self, overrides: Mapping[str, str]) -> dict[str, str]:
        """The overrides, and the background for every row that has no choice yet."""
        open_rows = [name for name in self.names if self.chosen(name, overrides) == 0]
        return {**overrides, **dict.fromkeys(open_rows, BACKGROUND)}


def make_table(fit: Fit, manifest: Manifest | None) -> Table:
    """The table for what a fit has found; without rows where there is nothing to say."""
    if manifest is None or not 0 < len(fit.foreign) <= MOST_ROWS:
        return Table()
    offered = ((_("choose…"), ""), (_("leave out"), BACKGROUND))
    return Table(fit.foreign, (*offered, *((label.name, label.name) for label in manifest.labels)))


def row_tip(name: str) -> str:
    return _("Which label of the model {label} is.").format(label=name)
