"""Whether a volume that is asked for is there already: made from the same, with the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...bundles.manifest import Manifest
from ...synthesis.settings import Settings
from ..wording import _

Attributes = Mapping[str, str | None]
"""What is known of a result: its provenance, by the names of the recipe's fields."""
LABELS, STATE, OVERRIDES = "labels", "state", "overrides"
"""Beside the recipe: what its :class:`Source` was."""


@dataclass(frozen=True)
class Source:
    """What a synthesis starts from."""

    labels: str
    """The ID of the label map's node."""
    state: str
    """A text that changes with the label map; empty: not known."""
    overrides: str
    """What its labels were said to be."""


@dataclass(frozen=True)
class Again:
    """What remains to be made, and which of the results are there already."""

    settings: Settings | None
    """None: nothing."""
    found: tuple[int, ...]
    """The indices of the results that are there, in their order."""

    @property
    def sentence(self) -> str:
        """What to say where nothing remains."""
        if len(self.found) == 1:
            return _("This volume is there already: it was chosen. Dice makes another.")
        return _("These volumes are there already: the first was chosen. Dice makes others.")


def what_remains(
    wanted: Settings,
    manifest: Manifest,
    source: Source,
    device: str,
    results: Sequence[Attributes],
) -> Again:
    """Compare with the results of the scene.

    Sample i of seed s is sample 0 of seed s + i: so it does not matter in which run it was made.
    """
    by_seed: dict[int, dict[str, int]] = {}
    for index, result in enumerate(results):
        if source.state and _made_so(result, wanted, manifest, source, device):
            seed = _seed(result)
            if seed is not None:
                by_seed.setdefault(seed, {}).setdefault(str(result.get("channel")), index)
    seeds = range(wanted.seed, wanted.seed + wanted.samples)
    channels = {channel.name for channel in manifest.channels}
    lacking = [seed for seed in seeds if not channels <= set(by_seed.get(seed, {}))]
    found = tuple(index for seed in seeds for index in by_seed.get(seed, {}).values())
    if not lacking:
        return Again(None, found)
    first, last = lacking[0], lacking[-1]
    return Again(replace(wanted, seed=first, samples=last - first + 1), found)


def _made_so(
    result: Attributes, wanted: Settings, manifest: Manifest, source: Source, device: str
) -> bool:
    settings = wanted.resolve(manifest)
    recipe = {
        "model": manifest.name,
        "weights_sha256": manifest.weights.sha256 if manifest.weights else "",
        "steps": str(settings.steps),
        "sampler": settings.sampler,
        "guidance": str(settings.guidance),
        "native": str(settings.native),
        LABELS: source.labels,
        STATE: source.state,
        OVERRIDES: source.overrides,
    }
    same_device = device == "auto" or result.get("device") == device
    return same_device and all((result.get(name) or "") == text for name, text in recipe.items())


def _seed(result: Attributes) -> int | None:
    try:
        return int(result.get("seed") or "") + int(result.get("sample") or "") - 1
    except ValueError:
        return None
