"""Batches without end, made by other processes ahead of a GPU, or by a CPU before its own steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import SimpleITK as sitk
import torch
from torch.utils.data import DataLoader, Sampler

from ...compute.distributed import Ranks
from ...compute.threads import cores
from ..objectives.batch import BatchSamples, stack

_MOST_WORKERS = 4
_PREFETCHED = 2
"""Batches that each worker holds ready."""


class LostWorker(Exception):
    """A process that makes batches was ended from outside."""


class Batches:
    """This process's parts of the global batches from number ``start`` on; an iterator.

    Close it when done with it: its threads or processes end then.
    """

    def __init__(
        self, samples: BatchSamples, start: int, ranks: Ranks, device: torch.device
    ) -> None:
        parts = _Parts(start, samples.batch, ranks)
        self._workers: list[multiprocessing.process.BaseProcess] = []
        on_cpu = device.type == "cpu"
        self._made = (
            self._between(samples, parts) if on_cpu else self._ahead(samples, parts, device)
        )

    def __iter__(self) -> Iterator[Any]:
        return self._made

    def close(self) -> None:
        """End the threads or processes."""
        self._made.close()

    @property
    def has_lost_worker(self) -> bool:
        """Whether a process that makes batches was ended from outside.

        PyTorch raises a RuntimeError for it at any line of the main process, and nothing but its
        words tells it from others; what became of the processes themselves is certain.
        """
        return any(worker.exitcode for worker in self._workers)

    def _between(self, samples: BatchSamples, parts: _Parts) -> Generator[Any, None, None]:
        """Batches made when they are asked for, by all cores that this process has.

        Where the CPU trains, loading beside the step takes a core from it, and its other threads
        then wait for that one: a sample would cost its time once for every core.
        """
        with ThreadPoolExecutor(cores()) as pool:
            for part in parts:
                yield stack(list(pool.map(samples.__getitem__, part)))

    def _ahead(
        self, samples: BatchSamples, parts: _Parts, device: torch.device
    ) -> Generator[Any, None, None]:
        """Batches that other processes make while a GPU, which leaves them the cores, trains."""
        others = multiprocessing.active_children()
        made = iter(DataLoader(
            samples,
            batch_sampler=parts,
            num_workers=max(1, min(_MOST_WORKERS, cores() - 1)),
            prefetch_factor=_PREFETCHED,
            pin_memory=device.type == "cuda",
            collate_fn=stack,
            worker_init_fn=_start_worker,
        ))  # fmt: skip
        self._workers = [p for p in multiprocessing.active_children() if p not in others]
        yield from made


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
