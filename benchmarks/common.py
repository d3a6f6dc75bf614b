"""What the benchmarks share: the hippocampus cases and tables in Markdown."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from MedDiffusionLib.volumes.reading import read_image, read_label_map
from MedDiffusionLib.volumes.volume import Volume

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class HippocampusCase:
    """One real scan and its label map, as they come."""

    name: str
    image: Volume
    labels: Volume


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="hippocampus-mr", metavar="NAME|PATH")
    parser.add_argument("--cases", type=int, metavar="N", help="use only the first N cases")
    return parser


def data_folder() -> Path:
    """``MEDDIFFUSION_DATA`` or ``../shared/data``, where the folder ``hippocampus`` lies."""
    folder = Path(os.environ.get("MEDDIFFUSION_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "hippocampus").is_dir():
        raise SystemExit(f"{folder} has no folder hippocampus: set MEDDIFFUSION_DATA.")
    return folder


def hippocampus_names(part: str, count: int | None = None) -> list[str]:
    """The names of the "train" or "validation" cases of the hippocampus data."""
    split = data_folder() / "hippocampus" / "split.json"
    names: list[str] = json.loads(split.read_text("utf-8"))[part]
    return names[:count]


def hippocampus_cases(part: str, count: int | None = None) -> list[HippocampusCase]:
    """The "train" or "validation" cases of the hippocampus data, in the order of its split."""
    folder = data_folder() / "hippocampus"
    return [
        HippocampusCase(
            name,
            read_image(folder / "images" / f"{name}.nii.gz"),
            read_label_map(folder / "labels" / f"{name}.nii.gz"),
        )
        for name in hippocampus_names(part, count)
    ]


def report(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table and write it to ``benchmarks/results/NAME.md``."""
    lines = [f"# {title}", ""]
    lines += ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))
