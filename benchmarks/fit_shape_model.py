"""Fit the shape model of a bundle to its training label maps.

    python benchmarks/fit_shape_model.py --labels DIR --split FILE --model BUNDLE_FOLDER

Uses the "train" cases of the split (a JSON object of lists of file names without suffix), writes
``shape.safetensors`` into the bundle and its hash into the bundle's ``model.json``, and prints
how much of the training maps' variance each mode explains.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from MedDiffusionLib.bundle import MANIFEST_NAME, read_manifest
from MedDiffusionLib.errors import UserError
from MedDiffusionLib.files import write_json
from MedDiffusionLib.reading import has_image_suffix, read_label_map, stem
from MedDiffusionLib.shape_model import SHAPE_MODEL_NAME, fit_shape_model, save_shape_model


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the shape model of a bundle.")
    parser.add_argument("--labels", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", type=Path, required=True, metavar="BUNDLE_FOLDER")
    options = parser.parse_args()
    try:
        fit(options.labels, options.split, options.model)
    except UserError as error:
        raise SystemExit(f"error: {error}") from error


def fit(labels: Path, split: Path, bundle_folder: Path) -> None:
    manifest = read_manifest(bundle_folder)
    paths = training_files(labels, json.loads(split.read_text("utf-8"))["train"])
    values = [label.value for label in manifest.labels]
    model = fit_shape_model(map(read_label_map, paths), manifest.grid, values)
    sha256 = save_shape_model(model, bundle_folder)
    write_json(
        bundle_folder / MANIFEST_NAME, {**manifest.content, "shape_model": {"sha256": sha256}}
    )
    print(f"{len(paths)} label maps, {(bundle_folder / SHAPE_MODEL_NAME).stat().st_size:,} bytes")
    for number, share in enumerate(model.explained, start=1):
        print(f"mode {number:2}: {share:6.1%} of the variance")
    print(f"together: {model.explained.sum():6.1%}")


def training_files(folder: Path, names: list[str]) -> list[Path]:
    """The label map file of each case, whatever its suffix; UserError where one is missing."""
    found = {stem(path): path for path in sorted(folder.iterdir()) if has_image_suffix(path)}
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{folder} has no label map {missing[0]}: check --labels and --split.")
    return [found[name] for name in names]


if __name__ == "__main__":
    main()
