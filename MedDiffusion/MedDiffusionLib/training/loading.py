"""Batches without end, made ahead of the device by processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from functools import partial

import SimpleITK as sitk
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ..bundle import build_representation
from ..distributed import Ranks
from ..manifest import Manifest
from .dataset import DiffusionSamples, TrainingSamples
from .loaded_cases import Case
from .settings import TrainingSettings
from .validation import latent_shape

_MOST_WORKERS = 4
_PREFETCHED = 2
"""Batches that each worker holds ready."""
_YIELDING = 19
"""The niceness of workers whose cores the training itself works on."""


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

    Close the iterator when done with it; its processes end then.
    """
    representation = build_representation(manifest.content)
    samples = TrainingSamples(
        cases, manifest.grid, [label.value for label in manifest.labels], settings.augmentation,
        manifest.content["label_dropout"], 2**62, seed, settings.outside_weight,
    )  # fmt: skip
    shape = latent_shape(manifest, representation)
    diffused = DiffusionSamples(samples, shape, representation.factor, settings.batch)
    workers = worker_count(device)
    yield from DataLoader(
        diffused,
        batch_sampler=_Parts(start, settings.batch, ranks),
        num_workers=workers,
        prefetch_factor=_PREFETCHED if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=partial(_start_worker, yields=device.type == "cpu"),
    )


def worker_count(device: torch.device) -> int:
    """How many processes make batches.

    Up to a few of the cores that each process of the run has. A GPU leaves them free; where the CPU
    trains, a step that waits for its batch leaves them all, and else they run in its gaps. A
    machine of one core makes its batches in between.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device.type == "cpu":
        return min(_MOST_WORKERS, cores) if cores > 1 else 0
    return max(1, min(_MOST_WORKERS, cores - 1))


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


def _start_worker(worker: int, yields: bool) -> None:
    # Ctrl-C in a terminal goes to a whole group of processes and is for the run to answer; its
    # workers end with it. They have a group of their own, and the usual answer to SIGTERM, which
    # ends them should they hang. One thread each: the run's own threads have the other cores.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if yields and hasattr(os, "nice"):
        # A thread of the step that is put off holds up all of the step's others at their next
        # meeting; a batch that comes later than it might holds up nobody while others are ready.
        os.nice(_YIELDING)
