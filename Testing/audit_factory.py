"""Small scans that differ from each other, with label maps, and a model that has learned them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from conftest import tiny_manifest
from data_factory import write_nifti
from MedDiffusionLib.bundles.bundle import write_bundle
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.evaluation.cases import Pair
from MedDiffusionLib.training.objectives.batch import stack
from MedDiffusionLib.training.objectives.denoising import Denoising, DenoisingBatch

SHAPE = (16, 16, 16)
NETWORK = {"name": "resunet", "channels": [32], "blocks": 2, "groups": 4, "embedding": 32}
RATE = 5e-3
ARCHITECTURE = {
    "network": NETWORK,
    "representation": {"name": "haar", "levels": 2},
    "schedule": {"name": "cosine"},
    "parameterization": "v",
}


def scan(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A smooth volume of its own, and two boxes of its own in it; the first is brighter."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal(SHAPE), 2.0, mode="wrap")
    labels = np.zeros(SHAPE, np.uint8)
    first, second = random.integers(3, 7, (2, 3))
    labels[8 - first[0] : 8, 8 - first[1] : 8, 5 : 5 + first[2]] = 1
    labels[8 : 8 + second[0], 8 : 8 + second[1], 6 : 6 + second[2]] = 2
    image = 100 + 40 * field / field.std() + 25 * (labels == 1) - 25 * (labels == 2)
    return image.astype(np.float32), labels


def write_scans(folder: Path, trained: int, held_out: int, seed: int = 0) -> Path:
    """Scans in ``images`` and ``labels``, and their ``split.json``; returns the folder."""
    names = [f"scan_{n:03}" for n in range(trained + held_out)]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for n, name in enumerate(names):
        image, labels = scan(seed + n)
        write_nifti(folder / "images" / f"{name}.nii", image, np.eye(4))
        write_nifti(folder / "labels" / f"{name}.nii", labels, np.eye(4))
    split = {"train": names[:trained], "validation": names[trained:]}
    (folder / "split.json").write_text(json.dumps(split))
    return folder


def write_model(folder: Path, pairs: Sequence[Pair], steps: int) -> Path:
    """A bundle of a model that has learned the pairs for so many steps, all of them in each.

    It learns at the greatest noise alone and makes volumes in one step, from nothing but the label
    map: so a few seconds are enough to learn ten cases by heart.
    """
    sampling = {"sampler": "ddim", "steps": 1, "guidance": 1.0}
    manifest = tiny_manifest(architecture=ARCHITECTURE, sampling=sampling)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(manifest)
        objective = Denoising(model)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 20) * (1 - step / (2 * steps))
            batch = stack([_noisy(pair, model.latent_shape) for pair in pairs])
            loss = objective.loss_sum("denoiser", batch) / objective.weight(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    write_bundle(folder, model)
    return folder


def _noisy(pair: Pair, shape: tuple[int, ...]) -> DenoisingBatch:
    return DenoisingBatch(
        torch.from_numpy(pair.real),
        torch.from_numpy(pair.labels.astype(np.int16)),
        torch.ones(2),
        torch.ones(1, *shape[1:]),
        0.98 + 0.02 * torch.rand(()),
        torch.randn(shape),
    )
