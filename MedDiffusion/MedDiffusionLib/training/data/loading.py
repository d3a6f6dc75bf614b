"""Batches without end, made by other processes ahead of a GPU, or by a CPU before its own steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import SimpleITK as sitk
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from ...bundles.bundle import build_representation
from ...bundles.manifest import Manifest
from ...compute.distributed import Ranks
from ..loop.validation import latent_shape
from ..plan.settings import TrainingSettings
from .loaded_cases import Case
from .samples import DiffusionSamples, TrainingSamples

_MOST_WORKERS = 4
_PREFETCHED = 2
"""Batches that each worker holds ready."""


def global_batches(
    cases: list[Case],
    manifest: Manifest,
    settings: TrainingSettings,
    seed: int,
    start: int,
    ranks: Ranks,
    device: torch.device,
) -> Generator[list[Tensor], None, None]:
    """This process's parts of the global batches number ``start`` on, as ``DiffusionSamples``.

    Close the iterator when done with it; its threads or processes end then.
    """
    representation = build_representation(manifest.content)
    samples = TrainingSamples(
        cases, manifest.grid, [label.value for label in manifest.labels], settings.augmentation,
        manifest.content["label_dropout"], 2**62, seed, settings.outside_weight,
    )  # fmt: skip
    shape = latent_shape(manifest, representation)
    diffused = DiffusionSamples(samples, shape, representation.factor, settings.batch)
    parts = _Parts(start, settings.batch, ranks)
    if device.type == "cpu":
        yield from _made_between(diffused, parts)
    else:
        yield from _made_ahead(diffused, parts, device)


def _made_between(samples: DiffusionSamples, parts: _Parts) -> Iterator[list[Tensor]]:
    """Batches made when they are asked for, by all cores that this process has.

    Where the CPU trains, loading beside the step takes a core from it, and its other threads then
    wait for that one: a sample would cost its time once for every core.
    """
    with ThreadPoolExecutor(_cores()) as pool:
        for part in parts:
            yield default_collate(list(pool.map(samples.__getitem__, part)))


def _made_ahead(
    samples: DiffusionSamples, parts: _Parts, device: torch.device
) -> Iterator[list[Tensor]]:
    """Batches that other processes make while a GPU, which leaves them the cores, trains."""
    yield from DataLoader(
        samples,
        batch_sampler=parts,
        num_workers=max(1, min(_MOST_WORKERS, _cores() - 1)),
        prefetch_factor=_PREFETCHED,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker,
    )


def _cores() -> int:
    """How many cores each process of the run has on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class _Parts(Sampler[list[int]]):
    """The sample numbers of this process's part of every global batch, from one batch on."""

    def __init__(self, start: int, batch: int, ranks: Ranks) -> None:
        self.start = start
        self.batch = batch
        self.ranks = ranks

    def __iter__(self) -> Iterator[list[int]]:
        first, last = self.ranks.share(self.batch)
        number = self.start
        while True:
            offset = number * self.batch
            yield list(range(offset + first, offset + last))
            number += 1


def _start_worker(worker: int) -> None:
    # Ctrl-C in a terminal goes to a whole group of processes and is for the run to answer; its
    # workers end with it. They have a group of their own, and the usual answer to SIGTERM, which
    # ends them should they hang. One thread each, since there is one of them for each spare core.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
