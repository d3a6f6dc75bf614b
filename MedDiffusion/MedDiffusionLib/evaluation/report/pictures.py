"""Pictures of the best, the median and the worst case."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bundles.manifest import Manifest
from ...volumes.preview import write_preview
from ...volumes.volume import Kind, Volume
from ..measuring import kept
from ..results import Results
from ..subjects.label_fidelity import nanmean


@dataclass(frozen=True)
class Shown:
    """A case with pictures of its first contrast, as PNG."""

    words: str
    name: str
    real: bytes
    synthetic: bytes


def pictures(results: Results, manifest: Manifest, folder: Path) -> list[Shown]:
    """Of the cases that were measured into ``folder``; of fewer than three cases, all."""
    made = []
    colors = {n: label.color for n, label in enumerate(manifest.labels, start=1)}
    for words, number in chosen_cases(results).items():
        case = results.content["cases"][number]
        volumes = kept(folder, case)
        affine = volumes.grid.affine
        labels = Volume(volumes.labels, affine, Kind.LABEL) if manifest.labels else None
        images = (volumes.real[0], volumes.synthetic[0][0])
        real, synthetic = (
            _png(Volume(np.where(volumes.valid, image, -1.0), affine, Kind.INTENSITY),
                 labels, colors)
            for image in images
        )  # fmt: skip
        made.append(Shown(words, case["name"], real, synthetic))
    return made


def chosen_cases(results: Results) -> dict[str, int]:
    """The numbers of the best, the median and the worst case, by their words."""
    order = _order(results)
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {words: n for words, n in places.items() if list(places.values()).count(n) == 1} or {
        "case": order[0]
    }


def _order(results: Results) -> Sequence[int]:
    """Case numbers from the best to the worst."""
    cases = results.content["cases"]
    by_name = sorted(range(len(cases)), key=lambda number: cases[number]["name"])
    if not results.segmenters or not all("dice" in case["real"] for case in cases):
        return by_name
    scores = []
    for case in cases:
        differences = []
        for segmenter in results.segmenters:
            real = np.array(case["real"]["dice"][segmenter], np.float64)
            made = [np.array(v["dice"][segmenter], np.float64) for v in case["synthetic"]]
            differences.append(float(nanmean((np.array(made) - real).ravel(), 0)))
        scores.append(np.mean(differences))
    return sorted(by_name, key=lambda number: -np.nan_to_num(scores[number], nan=-np.inf))


def _png(image: Volume, labels: Volume | None, colors: Mapping[int, tuple[int, int, int]]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        write_preview(path, image, labels, colors)
        return path.read_bytes()
