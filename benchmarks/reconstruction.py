"""Reconstructions: what a representation loses, whatever diffusion does on its latents.

    python benchmarks/reconstruction.py --data ../shared/data/head-t1 --minutes 30

Trains each learned representation for so many minutes by the product's objective (or takes the one
of ``--models``), encodes and decodes validation heads, and compares: the signal-to-noise ratio of
intensities, structural similarity, Dice of a segmenter on the reconstructions beside its Dice on
the real volumes, and the share of high-frequency power that remains within the brain. Haar loses
nothing, by theory: whoever compares sees what a smooth decoder costs. A high ratio of signal to
noise with little high-frequency power is a blurred volume. And: how the latent is used, how well it
can be predicted, and the largest step between tiles.

Six rows of 30 minutes take 3 hours, half an hour for the figures, and, on two cores, 10 minutes
for the segmenter where it is not there yet (``runs/head-segmenter.safetensors``); 5 GB of memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric
from torch import Tensor

from common import data_folder, report
from heads import MANIFEST, PRESET, VALUES, dice, head_cases, on_grid, segmenter
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.bundles.model import Model, build_model
from MedDiffusionLib.compute.devices import choose_device
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.execution import Execution, choose_execution
from MedDiffusionLib.compute.registry import Component
from MedDiffusionLib.diffusion.representations import Autoencoder, Haar, Representation
from MedDiffusionLib.training.data.loaded_cases import Case
from MedDiffusionLib.training.data.patches import PatchSamples
from MedDiffusionLib.training.loop.loading import Batches
from MedDiffusionLib.training.loop.state import initial_state
from MedDiffusionLib.training.loop.step import Stepper
from MedDiffusionLib.training.objectives.losses import Losses
from MedDiffusionLib.training.objectives.predictability import predictability
from MedDiffusionLib.training.objectives.reconstruction import Reconstruction
from MedDiffusionLib.training.plan.settings import RepresentationSettings, read_settings
from published_layout import PublishedLayout

_BLOCK = 8
"""Voxels along each axis of the parts of the brain whose spectrum is taken."""
_FIRST_BRAIN_LABEL = 2
_HIGH = 0.25
"""Cycles a voxel, of at most half a one."""
CHANNELS = {2: [48], 4: [48, 96]}
LATENT_CHANNELS = {2: 2, 4: 4}
NONE = {"name": "none", "noise": 0.4, "penalty": 0.01}
VQ = {"name": "vq", "codes": 1024}
_ROD = 96, 32, 32
_TILE, _HALO = 24, (6, 6, 6)
"""Voxels of a tile along each axis, and latent voxels around it where nothing is known of them."""
_JUDGED = 30
"""Cases whose latents are judged."""


@dataclass(frozen=True)
class Figures:
    """Of one case: decibels, similarity, Dice per label ``[L]``, share of power that remains."""

    psnr: float
    ssim: float
    dice: np.ndarray
    power: float


def learned(factor: int, quantizer: dict[str, Any]) -> Manifest:
    """The preset's manifest with our autoencoder."""
    options = {
        "factors": [factor] * 3, "haar": 1, "channels": CHANNELS[factor], "blocks": 2,
        "latent_channels": LATENT_CHANNELS[factor], "quantizer": quantizer, "labels": True,
    }  # fmt: skip
    architecture = replace(MANIFEST.architecture, representation=Component("autoencoder", options))
    return replace(MANIFEST, architecture=architecture)


def published(factor: int) -> Model:
    """The preset's model with the published layout."""
    model = build_model(learned(factor, NONE))
    model.representation = PublishedLayout(len(MANIFEST.channels), factor.bit_length() - 1)
    return model


def train(
    model: Model, cases: Sequence[Case], minutes: float, execution: Execution, losses: Losses
) -> tuple[Autoencoder, int]:
    """Train a representation on patches for so long; returns its average, and the iterations."""
    settings = read_settings(PRESET["training"])
    own = settings.representation or RepresentationSettings()
    settings = replace(settings.of_representation(), ema=0.998)
    objective = Reconstruction(model, losses)
    for player in objective.players:
        execution.prepare(player.module)
    state = initial_state(objective.players, settings)
    stepper = Stepper(state, settings, execution, objective, Ranks(), print)
    patches = PatchSamples(
        cases, MANIFEST.grid, own.patch, VALUES, settings.augmentation, MANIFEST.label_dropout,
        2**40, 0, settings.outside_weight,
    )  # fmt: skip
    batches = Batches(objective.samples(patches, settings.batch), 0, Ranks(), execution.device)
    start, said = time.monotonic(), 0.0
    for batch in batches:
        passed = time.monotonic() - start
        progress = passed / (60 * minutes)
        if progress >= 1:
            break
        rising = min(1.0, (state.iteration + 1) / settings.warmup)
        rate = settings.learning_rate * rising * 0.5 * (1 + np.cos(np.pi * progress))
        loss = stepper.step(batch, max(objective.weight(batch), 1.0), rate, progress)
        if passed > said:
            said = passed + 30
            known = {name: round(value, 3) for name, value in objective.figures().items()}
            print(f"{state.iteration:>6} {passed:5.0f} s  {loss:.4f}  {known}", flush=True)
            for sentence in objective.alarms():
                print(sentence, flush=True)
    batches.close()
    trained = state.average
    assert isinstance(trained, Autoencoder)
    return trained, state.iteration


@torch.inference_mode()
def figures(
    representation: Representation, cases: Sequence[Case], judge: Any, execution: Execution
) -> list[Figures]:
    """Of every case."""
    found = []
    similarity = SSIMMetric(spatial_dims=3, data_range=2.0)
    for case in cases:
        image, labels = on_grid(case)
        known = torch.from_numpy(case.annotated)[None].float()
        with execution.autocast():
            moved = [part.to(execution.device) for part in (image, labels, known)]
            latent = representation.encode(moved[0])
            made = representation.decode(latent, *moved[1:]).float().cpu()
        error = float((made - image).square().mean())
        psnr = 10 * np.log10(4 / error) if error > 1e-12 else np.inf
        power = high_power(made, labels) / high_power(image, labels)
        ssim = float(similarity(made, image))
        found.append(Figures(psnr, ssim, dice(judge, made, labels), power))
    return found


@torch.inference_mode()
def step_between_tiles(representation: Representation, case: Case) -> float:
    """The largest difference of what is computed in tiles from what is at once, by the range.

    Of a rod through the middle of a head, which is longer than a tile with its halo; in float32. A
    layout that knows no halo gets a wide one.
    """
    image, labels = on_grid(case)
    x, y, z = (
        slice((n - w) // 2, (n + w) // 2) for n, w in zip(labels.shape[1:], _ROD, strict=True)
    )
    image, labels = image[..., x, y, z], labels[..., x, y, z]
    known = torch.from_numpy(case.annotated)[None].float()
    kept, made = (representation.tile, representation.halo), []
    if not any(kept[1]):
        representation.halo = _HALO
    for tile in (None, _TILE // max(representation.factors)):
        representation.tile = tile
        latent = representation.encode(image)
        made.append(representation.decode(latent, labels, known))
    representation.tile, representation.halo = kept
    return float((made[0] - made[1]).abs().max()) / 2


def high_power(image: Tensor, labels: Tensor) -> float:
    """The power above a quarter of a cycle a voxel, in parts that lie within the brain."""
    total = 0.0
    window = torch.hann_window(_BLOCK, periodic=False)
    window = window[:, None, None] * window[:, None] * window
    frequency = torch.fft.fftfreq(_BLOCK).square()
    high = (frequency[:, None, None] + frequency[:, None] + frequency) > _HIGH**2
    for block, inside in zip(_blocks(image[0, 0]), _blocks(labels[0]), strict=True):
        if (inside >= _FIRST_BRAIN_LABEL).all():
            spectrum = torch.fft.fftn((block - block.mean()) * window)
            total += float(spectrum.abs().square()[high].sum())
    return total


def _blocks(volume: Tensor) -> Tensor:
    """``[n, b, b, b]`` of a volume, side by side."""
    parts = volume
    for axis in range(3):
        parts = parts.unfold(axis, _BLOCK, _BLOCK)
    return parts.reshape(-1, _BLOCK, _BLOCK, _BLOCK)


def row(name: str, found: Sequence[Figures], real: np.ndarray, rest: Sequence[str]) -> list[str]:
    """A line of the table; ``real``: Dice on the real volumes ``[cases, L]``."""
    difference = np.nanmean([f.dice for f in found], 0) - np.nanmean(real, 0)
    worst = int(np.nanargmin(difference))
    return [
        name,
        *(f"{np.mean([getattr(f, part) for f in found]):{form}}"
          for part, form in (("psnr", ".2f"), ("ssim", ".4f"))),
        f"{np.nanmean(difference):+.4f}",
        f"{difference[worst]:+.4f} ({MANIFEST.labels[worst].name})",
        f"{np.mean([f.power for f in found]):.2f}",
        *rest,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder head-t1")
    parser.add_argument("--minutes", type=float, default=30, help="of training, of each")
    parser.add_argument("--cases", type=int, metavar="N", help="use only the first N of each part")
    parser.add_argument("--only", nargs="*", help="rows by a part of their names")
    parser.add_argument(
        "--models", nargs="*", type=Path, default=[], help="bundles, for a row each"
    )
    parser.add_argument("--segmenter-iterations", type=int, default=1500)
    parser.add_argument("--adversarial", type=float, default=Losses.adversarial)
    options = parser.parse_args()
    folder = options.data or data_folder() / "head-t1"
    execution = choose_execution(choose_device("auto"))
    losses = Losses(adversarial=options.adversarial)
    training = head_cases(folder, "train", options.cases)
    validation = head_cases(folder, "validation", options.cases)
    judge = segmenter(training, options.segmenter_iterations)
    real = np.array([dice(judge, *on_grid(case)) for case in validation])
    rows = [row("Haar, 2 x", figures(Haar(1), validation, judge, execution), real, ["-"] * 4)]
    makers = {
        f"{name}, {factor} x": make
        for factor in (2, 4)
        for name, make in {
            "ours, noise": lambda factor=factor: build_model(learned(factor, NONE)),
            "ours, 1024 codes": lambda factor=factor: build_model(learned(factor, VQ)),
            "published layout": lambda factor=factor: published(factor),
        }.items()
    }
    for name, make in makers.items():
        if options.only is not None and not any(part in name for part in options.only):
            continue
        print(name, flush=True)
        torch.manual_seed(0)
        trained, iterations = train(make(), training, options.minutes, execution, losses)
        rows.append(
            _learned_row(name, trained, training, validation, judge, execution, real, iterations)
        )
    for path in options.models:
        given = read_bundle(path).representation
        rows.append(_learned_row(path.name, given, training, validation, judge, execution, real, 0))
    report(
        "reconstruction",
        f"Reconstruction of {len(validation)} validation heads; learned ones after "
        f"{options.minutes:g} minutes of training each (mean Dice on the real volumes "
        f"{np.nanmean(real):.4f})",
        ["representation", "PSNR [dB]", "SSIM", "Dice - real", "worst label",
         "high-frequency power / real", "usage", "bits to be drawn, linear v loss",
         "largest step between tiles", "iterations"],
        rows,
    )  # fmt: skip


def _learned_row(
    name: str,
    trained: Representation,
    training: Sequence[Case],
    validation: Sequence[Case],
    judge: Any,
    execution: Execution,
    real: np.ndarray,
    iterations: int,
) -> list[str]:
    """A line of a learned representation: figures, how its latent is used, how hard it is to learn.

    See :mod:`MedDiffusionLib.training.objectives.predictability`.
    """
    execution.prepare(trained).eval()
    usage = trained.quantizer.usage() if isinstance(trained, Autoencoder) else {}
    found = figures(trained, validation, judge, execution)
    images = [on_grid(case)[0].to(execution.device) for case in training[:_JUDGED]]
    with torch.inference_mode(), execution.autocast():
        encoded = torch.cat([trained.encode(image).float().cpu() for image in images])
    used = ", ".join(f"{key} {value:.3g}" for key, value in usage.items())
    told = "-"
    if isinstance(trained, Autoencoder):
        judged = predictability(encoded, trained.quantizer.cpu())
        told = f"{judged.bits:.1f}, {judged.loss:.2f}"
    step = f"{step_between_tiles(trained, validation[0]):.1e}"
    return row(name, found, real, [used, told, step, str(iterations)])


if __name__ == "__main__":
    main()
