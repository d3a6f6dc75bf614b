"""Importers: models out of the checkpoints of other programs; a new one is a file here and a line.

A checkpoint becomes a bundle like any other: its manifest says from which file it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...compute.archives import Archive, read_archive
from ...compute.errors import UserError
from ...compute.files import file_sha256
from ...compute.parsing import parse_json, shortened
from ...compute.schema import validate
from ..bundle import write_bundle
from ..installing import models_folder, new_model, refuse_existing_model
from ..manifest import Source, manifest_schema
from ..model import Model
from .importer import Importer
from .med_ddpm import MED_DDPM
from .medical_diffusion import MEDICAL_DIFFUSION

__all__ = ["IMPORTERS", "Importer", "import_checkpoint", "parse_options"]

IMPORTERS: dict[str, Importer] = {"med-ddpm": MED_DDPM, "medical-diffusion": MEDICAL_DIFFUSION}


def import_checkpoint(
    path: Path,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    license: str | None = None,
    overwrite: bool = False,
) -> str:
    """Make a model of the user's own from a checkpoint, and return its name.

    ``options`` are the importer's, ``license`` is that of the weights. Nothing in the file is
    executed, and of its tensors only those of the model are read. Whole or not at all. Raises
    UserError for a file that is no checkpoint of a known kind, for what the file does not tell and
    the options do not say, and where there is a model of that name and ``overwrite`` is false.
    """
    if name is not None:
        _check("the name", name, "name")
    if license is not None:
        _check("the license", license, "license")
    archive = read_archive(path)
    key, importer = _recognised(archive)
    given = dict(options or {})
    schema = {"type": "object", "additionalProperties": False, "properties": importer.options}
    if problem := validate(given, schema, "an option"):
        known = ", ".join(importer.options)
        raise UserError(f"The options are wrong: {problem}", f"known for this file are {known}")
    target = models_folder() / (name or importer.name(archive.content))
    if not overwrite:
        refuse_existing_model(target)
    try:
        model = importer.import_model(archive, given)
    except ValueError as error:
        raise UserError(
            f"is a checkpoint of {importer.title}, but {error}", importer.remedy, path=path
        ) from error
    source = Source(shortened(path.name, 200), _sha256(path), key)
    manifest = replace(
        model.manifest,
        name=target.name,
        license=license or model.manifest.license,
        source=source,
    )
    with new_model(target, path) as folder:
        write_bundle(
            folder,
            Model(manifest, model.denoiser, model.representation),
            dtype="float32",
        )
    return target.name


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """Options of ``KEY=VALUE`` each; a value is JSON, or else text, or a list with commas.

    Raises UserError for one of another form.
    """
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key or key in options:
            raise UserError(
                f"{shortened(text)} is no option of its own", "write it as KEY=VALUE, once each"
            )
        options[key] = _value(value)
    return options


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        pass
    try:
        return parse_json(f"[{text}]") if "," in text else text
    except ValueError:
        return [part.strip() for part in text.split(",")]


def _recognised(archive: Archive) -> tuple[str, Importer]:
    for key, importer in IMPORTERS.items():
        if importer.recognise(archive.content):
            return key, importer
    raise UserError(
        "is a checkpoint of no kind that can be imported",
        f"known are those of {' and '.join(each.title for each in IMPORTERS.values())}",
        path=archive.path,
    )


def _check(what: str, text: str, key: str) -> None:
    if problem := validate(text, manifest_schema()["properties"][key], what):
        raise UserError(
            f"{problem[0].upper()}{problem[1:]}",
            "a name has small letters, digits, dots, dashes and underscores"
            if key == "name"
            else "give it in some words",
        )


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror or error})", "check the file", path=path
        ) from error
