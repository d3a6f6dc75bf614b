"""A file or a folder of label maps through one loaded model; resumable, one bad file not fatal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..compute.errors import UserError
from ..compute.memory import is_out_of_memory
from ..volumes.reading import has_image_suffix, read_label_map, stem
from ..volumes.writing import WRITABLE_SUFFIXES, check_writable
from .labels import match_labels
from .results import Request, is_finished, provenance_path, result_paths, write_sample
from .synthesizer import OnStep, Settings, Synthesizer


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
            raise UserError(f"{preview} is not a .png file name", "previews are PNG pictures")
        requests = [Request(source, output, preview)]
    else:
        files = sorted(p for p in source.iterdir() if p.is_file() and has_image_suffix(p))
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
    told: Mapping[int, str],
    *,
    overwrite: bool,
    skip_finished: bool,
    on_step: OnStep = lambda step: None,
) -> int:
    """Make the samples of one request that are not there yet; returns how many were made.

    Every check comes before any work. Raises UserError; files written before it stay, whole.
    """
    bundle = synthesizer.bundle
    settings = settings.resolved(bundle)
    paths = result_paths(request.output, settings, bundle)
    finished = 0
    if not overwrite:
        if skip_finished:
            done = [is_finished(p, request, settings, bundle, i) for i, p in enumerate(paths)]
            finished = done.index(False) if False in done else len(done)
        new = [path for sample in paths[finished:] for path in sample]
        new += [provenance_path(path) for path in new]
        if request.preview is not None:
            previews = result_paths(request.preview, settings, bundle)[finished:]
            new += [path for sample in previews for path in sample]
        _refuse_existing(new)
    if finished == len(paths):
        return 0
    with out_of_memory_as_user_error():
        labels = match_labels(read_label_map(request.source), bundle.manifest, told)
        for sample in synthesizer.synthesize(labels, settings, on_step, first=finished):
            write_sample(
                sample, paths[sample.index], request, settings,
                bundle, synthesizer.execution, labels,
            )  # fmt: skip
    return len(paths) - finished


@contextmanager
def out_of_memory_as_user_error() -> Iterator[None]:
    """Turn the several ways of running out of memory into one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "Out of memory",
            "crop the label map to the region of interest or give it a coarser spacing, stay on the "
            "model's own grid, close other programs, or compute on the CPU if this was a GPU",
            code="out-of-memory",
        ) from error


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


def _refuse_existing(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise UserError(
                "exists",
                "allow it to be replaced, or choose another name",
                path=path,
                code="output-exists",
            )
