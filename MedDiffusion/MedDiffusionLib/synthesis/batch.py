"""A file or a folder of label maps through one loaded model; resumable, one bad file not fatal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..compute.errors import UserError
from ..compute.memory import out_of_memory_as_user_error
from ..volumes.reading import image_files, read_label_map, stem
from ..volumes.writing import WRITABLE_SUFFIXES, check_writable
from .labels import left_out
from .results import (
    Request,
    is_finished,
    provenance_path,
    refuse_existing,
    result_paths,
    write_sample_preview,
)
from .settings import Settings
from .synthesizer import OnStep, Synthesizer


def plan_requests(source: Path, output: Path, preview: Path | None) -> list[Request]:
    """One request for a file, one per label map for a folder (results are ``NAME.nii.gz``).

    With a folder, ``output`` and ``preview`` are folders too and are made where their parent
    exists. Raises UserError when source, output or preview cannot be used.
    """
    if not source.exists():
        raise UserError("does not exist", "check the path", path=source)
    if not source.is_dir():
        if output.is_dir():
            raise UserError("is a folder", "give the name of the volume file to write", path=output)
        if preview is not None and preview.suffix.lower() != ".png":
            raise UserError("is not a .png file name", "previews are PNG pictures", path=preview)
        requests = [Request(source, output, preview)]
    else:
        files = image_files(source)
        if not files:
            raise UserError("holds no label maps", "give a folder of image files", path=source)
        for folder in (output, preview):
            if folder is not None and not folder.is_dir():
                _make_folder(folder)
        names = [stem(p) for p in files]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise UserError(f"holds two label maps named {twice[0]}", "rename one", path=source)
        requests = [
            Request(f, output / f"{n}.nii.gz", preview / f"{n}.png" if preview else None)
            for f, n in zip(files, names, strict=True)
        ]
    for request in requests:
        _check_targets(request)
    return requests


def run_request(
    request: Request,
    synthesizer: Synthesizer,
    settings: Settings,
    overrides: Mapping[int, str],
    *,
    overwrite: bool,
    skip_finished: bool = False,
    with_provenance: bool = True,
    on_step: OnStep = lambda step: None,
) -> int:
    """Make the samples of one request that are not there yet; returns how many were made.

    Every check comes before any work. Raises UserError; files written before it stay, whole.
    """
    manifest = synthesizer.model.manifest
    resolved = settings.resolve(manifest)
    channels = request.channels(manifest)
    paths = result_paths(request.output, resolved.samples, channels)
    previews: list[list[Path]] = [[] for _ in paths]
    if request.preview is not None:
        previews = result_paths(request.preview, resolved.samples, channels)
    finished = 0
    if not overwrite:
        if skip_finished:
            done = [is_finished(p, request, resolved, manifest, i) for i, p in enumerate(paths)]
            finished = done.index(False) if False in done else len(done)
        new = [path for sample in paths[finished:] for path in sample]
        new += [provenance_path(path) for path in new] if with_provenance else []
        refuse_existing([*new, *(path for sample in previews[finished:] for path in sample)])
    if finished == len(paths):
        return 0
    with out_of_memory_as_user_error():
        labels = read_label_map(request.source, left_out(overrides))
        for sample in synthesizer.samples(
            labels, settings, name=request.source.name, overrides=overrides, on_step=on_step,
            first=finished,
        ):  # fmt: skip
            volumes = [v for v in sample.volumes if v.channel in channels]
            for path, volume in zip(paths[sample.index], volumes, strict=True):
                volume.save(path, overwrite=True, with_provenance=with_provenance)
            if request.preview is not None:
                write_sample_preview(sample, previews[sample.index], volumes, manifest)
    return len(paths) - finished


def _make_folder(folder: Path) -> None:
    if folder.exists():
        raise UserError("is a file", "with a folder of label maps, give a folder", path=folder)
    try:
        # Another process that shards the same folder may have made it meanwhile.
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot be made ({error.strerror})",
            "choose a folder in which you may write",
            path=folder,
        ) from error


def _check_targets(request: Request) -> None:
    if not request.output.name.lower().endswith(WRITABLE_SUFFIXES):
        raise UserError(
            "has no format that can be written",
            f"use {', '.join(WRITABLE_SUFFIXES)}",
            path=request.output,
        )
    for path in (request.output, request.preview):
        if path is None:
            continue
        if os.path.realpath(path) == os.path.realpath(request.source):
            raise UserError("is the label map itself", "give another output", path=path)
        check_writable(path)
