"""What a synthesis from a label map node, or its variation, asks of the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..bundles.catalog import find_model
from ..synthesis.labels import BACKGROUND
from ..synthesis.settings import Settings
from ..worker.client import Event
from ..worker.protocol import put_volume
from .label_maps import LabelInput, no_such_segment, read_label_node


@dataclass(frozen=True, eq=False)
class Prepared:
    """A label map as read, and all that a request says beside the settings."""

    source: LabelInput
    name: str
    folder: Path
    by_value: Mapping[int, str]

    def request(self, files: Path, settings: Settings, device: str) -> Event:
        """The worker's request; the label map is written to the folder ``files``."""
        return {
            "do": "synthesize", "model": str(self.folder), "device": device,
            "labels": put_volume(files / "labels.npy", self.source.labels),
            "label_map": self.name, "overrides": self.by_value, "settings": asdict(settings),
        }  # fmt: skip

    def variation(self, files: Path, strength: float, seed: int) -> Event:
        """The worker's request for a label map of another shape."""
        return {
            "do": "vary", "model": str(self.folder), "overrides": self.by_value,
            "labels": put_volume(files / "labels.npy", self.source.labels),
            "strength": strength, "seed": seed,
        }  # fmt: skip


def prepare(
    label_node: Any,
    model: str,
    segments: Sequence[str] | None,
    overrides: Mapping[int | str, str] | None,
) -> Prepared:
    """Find the model and read the label map; see :meth:`SceneLogic.startSynthesis`."""
    folder = find_model(model)
    kept, left_out = _without_left_out(overrides or {})
    source = read_label_node(label_node, segments, left_out)
    return Prepared(source, label_node.GetName(), folder, _by_value(kept, source))


def _without_left_out(
    overrides: Mapping[int | str, str],
) -> tuple[dict[int | str, str], frozenset[str]]:
    """The overrides but those that leave segments out, and these segments' names."""
    names = {
        key
        for key, name in overrides.items()
        if isinstance(key, str) and name.lower() == BACKGROUND
    }
    return {k: v for k, v in overrides.items() if k not in names}, frozenset(names)


def _by_value(overrides: Mapping[int | str, str], source: LabelInput) -> dict[int, str]:
    """The table with label values in place of segment names."""
    segments = source.labels.segments
    by_value: dict[int, str] = {}
    for key, name in overrides.items():
        values = [s.value for s in segments if s.name == key] if isinstance(key, str) else [key]
        if not values:
            raise no_such_segment(str(key), [segment.name for segment in segments])
        by_value |= dict.fromkeys(values, name)
    return by_value
