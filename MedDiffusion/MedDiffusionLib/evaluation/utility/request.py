"""What an experiment is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...compute.errors import UserError
from ...synthesis.settings import Settings, check_seed
from ...training.plan.settings import Limits
from ...volumes.variation import check_strength
from ..segmenters.training import require_segmenter
from .arms import ARMS, REAL, Shares, needs_synthetic

SAME, VARIED, RANDOM = "same", "varied", "random"
MAPS = (SAME, VARIED, RANDOM)
"""Label maps of synthetic volumes: the real cases' own, these deformed, and drawn by chance."""
FEWEST_SEEDS = 3
_MOST_SEEDS, _MOST_VOLUMES, _MOST_STEPS = 100, 100_000, 10**9
_FEWEST_REAL = 2


@dataclass(frozen=True)
class UtilityRequest:
    """What to train on how many cases, and what to compare; a size None is all cases.

    The generator is ``generator``, a model that is there, or trained on the same cases for
    ``generator_minutes`` or ``generator_iterations``. ``volumes``: of each generator and kind of
    label maps; ``strength``: of varied ones; ``share``: of synthetic samples in the arm "both";
    ``pretraining``: of the steps in the arm "pretrained".
    """

    output: Path
    data: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    split: Path | None = None
    group_pattern: str | None = None
    preset: str | None = None
    generator: str | None = None
    generator_minutes: float | None = None
    generator_iterations: int | None = None
    sizes: tuple[int | None, ...] = (5, 10, 20, 40, None)
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = tuple(ARMS)
    maps: tuple[str, ...] = (SAME,)
    strength: float = 0.5
    volumes: int = 40
    share: float = 0.5
    pretraining: float = 0.5
    segmenter: str = "unet"
    segmenter_iterations: int | None = None
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    device: str = "auto"

    @property
    def all_arms(self) -> tuple[str, ...]:
        """The arms with the one that they are compared with, first."""
        return tuple(dict.fromkeys((REAL, *self.arms)))

    @property
    def shares(self) -> Shares:
        """By which arms are made up."""
        return Shares(self.share, self.pretraining)

    @property
    def is_synthetic(self) -> bool:
        """Whether any arm needs synthetic volumes."""
        return any(map(needs_synthetic, self.arms))

    @property
    def limits(self) -> Limits:
        """The end of each generator's training; raises UserError where none is given."""
        return Limits(self.generator_iterations, self.generator_minutes)

    @property
    def settings(self) -> Settings:
        """By which volumes are made: each one of its own seed, on the model's grid."""
        return Settings(
            steps=self.steps, sampler=self.sampler, guidance=self.guidance, native=True,
            accept_costs=True,
        )  # fmt: skip

    def check(self) -> None:
        """Raise UserError for what no experiment can be."""
        if self.split is None:
            raise UserError(
                "There is no split of the cases",
                'give a JSON file with the names of the cases to train on under "train", and of '
                'those to test with under "validation"',
                code="no-split",
            )
        for given, known, words in (
            (self.arms, ARMS, "arm"), (self.maps, MAPS, "kind of label maps")
        ):  # fmt: skip
            if unknown := [each for each in given if each not in known]:
                raise UserError(f"There is no {words} {unknown[0]}", f"use {', '.join(known)}")
        require_segmenter(self.segmenter)
        self._check_numbers()
        if self.is_synthetic:
            self._check_generator()

    def _check_numbers(self) -> None:
        if not FEWEST_SEEDS <= len(set(self.seeds)) == len(self.seeds) <= _MOST_SEEDS:
            raise UserError(
                f"{len(set(self.seeds))} seeds are given",
                f"give {FEWEST_SEEDS} to {_MOST_SEEDS}, each once: one training tells nothing of "
                "how the next would end",
            )
        for seed in self.seeds:
            check_seed(seed)
        if not self.sizes or any(size is not None and size < _FEWEST_REAL for size in self.sizes):
            raise UserError(
                "The numbers of real cases cannot be used", f"give some of {_FEWEST_REAL} or more"
            )
        for name, value, most in (
            ("volumes", self.volumes, _MOST_VOLUMES),
            ("segmenter iterations", self.segmenter_iterations, _MOST_STEPS),
        ):  # fmt: skip
            if value is not None and not 2 <= value <= most:
                raise UserError(f"{name} is {value}", f"it must lie between 2 and {most:,}")
        for name, share in (("share", self.share), ("pretraining", self.pretraining)):
            if not 0 < share < 1:
                raise UserError(f"{name} is {share:g}", "it must lie between 0 and 1")
        check_strength(self.strength)

    def _check_generator(self) -> None:
        if not self.maps:
            raise UserError("There are no label maps for synthetic volumes", f"use {SAME}")
        ends = (self.generator_minutes, self.generator_iterations)
        if sum(given is not None for given in (self.generator, *ends)) != 1:
            raise UserError(
                "How the generator comes about is not said, or said twice",
                "give minutes or iterations of its training, or a model that is there",
            )
        if self.generator is None:
            _ = self.limits
        elif self.preset:
            raise UserError(
                "A preset is for a generator that is trained here", "leave it or the model out"
            )

    def fixed(self) -> dict[str, Any]:
        """What must not change where an experiment goes on; sizes, seeds, arms and kinds of label
        maps may be added to it."""
        names = (
            "generator_minutes", "generator_iterations", "strength", "volumes", "share",
            "pretraining", "segmenter", "segmenter_iterations", "steps", "sampler", "guidance",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}
