"""Where models lie: those bundled with the extension and those in the user's folder."""

from __future__ import annotations

import os
from pathlib import Path

from ..compute.errors import UserError
from ..compute.files import user_folder
from ..compute.parsing import shortened
from .manifest import Manifest, Sampling, read_manifest
from .names import MANIFEST_NAME

DEFAULT_MODEL = "hippocampus-mr"
"""The bundled model."""


def resources_folder() -> Path:
    """The folder of presets, examples and bundled models.

    It lies in the package once pip or CMake installed it, and at the top level of the source tree.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "Resources", package.parents[1] / "Resources"):
        if (folder / "Models").is_dir():
            return folder
    raise UserError("is installed without its Resources folder", "install it anew", path=package)


def model_folders() -> dict[str, Path]:
    """Model bundles by folder name, the user's over the bundled ones."""
    found: dict[str, Path] = {}
    home = user_folder()
    for root in (resources_folder() / "Models", *([home / "models"] if home else [])):
        try:
            folders = sorted(path for path in root.iterdir() if _may_be_model(path))
        except OSError:
            # There is none, or none that can be looked into.
            continue
        found |= {path.name: path for path in folders}
    return found


def _may_be_model(folder: Path) -> bool:
    """Whether a folder is to be listed: also one of which then is said why it cannot be used."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    try:
        (folder / MANIFEST_NAME).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        pass  # It may not be looked into.
    return True


def find_model(name: str) -> Path:
    """The bundle folder of a model's name or path; raises UserError when there is none."""
    folders = model_folders()
    if name in folders:
        return folders[name]
    # These answer no, and raise nothing, for names that no file can have.
    if name and os.path.lexists(Path(name) / MANIFEST_NAME):
        return Path(name)
    if name and os.path.lexists(name):
        raise UserError(
            f"is no model bundle (it has no {MANIFEST_NAME})", "give the folder of one", path=name
        )
    raise UserError(
        f"There is no model {shortened(name, 200)}",
        f"use one of {', '.join(folders)} or a bundle folder",
    )


def describe(folder: Path, manifest: Manifest) -> str:
    """The model card as plain text."""
    grid, sampling = manifest.grid, manifest.sampling
    size = " x ".join(map(str, grid.size))
    spacing = " x ".join(f"{s:g}" for s in grid.spacing)
    lines = [
        f"{manifest.name} {manifest.version}: {manifest.title}",
        manifest.description,
        "",
        "Labels" if manifest.labels else "Labels         none: it generates volumes by itself",
        *(f"  {x.value:>3}  {x.name}{f'  ({x.code})' if x.code else ''}" for x in manifest.labels),
        "Channels",
        *(f"  {c.name}, {c.range[0]:g} to {c.range[1]:g} ({c.units})" for c in manifest.channels),
        f"Field of view  {size} voxels of {spacing} mm, {grid.orientation}",
        f"Defaults       {sampling.sampler}, {sampling.steps} steps, "
        f"guidance {sampling.guidance:g}{_where(manifest)}",
    ]
    if manifest.labels:
        lines.append(f"Labels may be missing  {_may_lack(manifest)}")
    if training := manifest.training:
        lines += [
            f"Trained on     {training.data} ({training.cases} cases, "
            f"{training.iterations} iterations)",
            f"Command        {training.command}",
        ]
    if source := manifest.source:
        lines.append(f"Imported from  {source.file} ({source.importer}), SHA-256 {source.sha256}")
    lines += [
        f"Copies         {audit_words(manifest)}{_audit_hashes(manifest)}",
        f"License        {manifest.license}",
        f"Attribution    {manifest.attribution}",
    ]
    if weights := manifest.weights:
        lines.append(
            f"Weights        {weights.parameters:,} parameters, {weights.dtype}, "
            f"SHA-256 {weights.sha256}"
        )
    lines.append(f"Folder         {folder}")
    if manifest.figures:
        lines += ["", "Figures (each with the command that reproduces it)"]
        lines += [f"  {f.name}: {f.value}\n      {f.command}" for f in manifest.figures]
    return "\n".join(lines)


def audit_words(manifest: Manifest) -> str:
    """Whether it was audited for copies of training cases, and the verdict."""
    audit = manifest.valid_audit
    return f"audit {audit.verdict} on {audit.date}" if audit else "not audited"


def _audit_hashes(manifest: Manifest) -> str:
    audit = manifest.valid_audit
    if audit is None:
        return ""
    return f" (SHA-256 of audit.json {audit.report_sha256}, of the data {audit.data_sha256})"


def _where(manifest: Manifest) -> str:
    """Where in the noise there is guidance, unless it is everywhere."""
    low, high = manifest.sampling.guidance_range
    whole = (low, high) == Sampling.guidance_range
    return "" if whole else f" at noise levels from {low:g} to {high:g}"


def _may_lack(manifest: Manifest) -> str:
    if manifest.label_dropout:
        return "yes"
    optional = ", ".join(label.name for label in manifest.labels if label.optional)
    return f"only {optional}" if optional else "no"


def load_manifests() -> list[tuple[Path, Manifest | UserError]]:
    """All models with their manifests, or with what is wrong with them."""
    result: list[tuple[Path, Manifest | UserError]] = []
    for folder in model_folders().values():
        try:
            result.append((folder, read_manifest(folder)))
        except UserError as error:
            result.append((folder, error))
    return result
