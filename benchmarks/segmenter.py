"""The judge of label fidelity: a U-Net (MONAI's DynUNet) trained on the real training cases.

    python benchmarks/segmenter.py            trains it and keeps it in runs/segmenter.safetensors

The same pipeline (crop to the scanned part of the field of view, normalize, mirror, segment)
serves real and synthetic volumes, so that Dice on one is comparable with Dice on the other.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from monai.losses import MaskedDiceLoss
from monai.networks.nets import DynUNet
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from torch.nn import functional
from torch.utils.data import DataLoader

from common import ROOT, hippocampus_cases
from MedDiffusionLib.training.data.loaded_cases import make_case
from MedDiffusionLib.training.data.samples import Augmentation, TrainingSamples
from MedDiffusionLib.training.plan.presets import load_preset
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes.grids import fov_grid
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Grid, Volume

WEIGHTS = ROOT / "runs" / "segmenter.safetensors"
BATCH = 4
ITERATIONS = 1000
MANIFEST = check_manifest(load_preset("hippocampus-mr")["manifest"])
VALUES = [label.value for label in MANIFEST.labels]


def build() -> DynUNet:
    """The untrained segmenter: one channel in [-1, 1] -> logits of background and the labels."""
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=len(VALUES) + 1,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[16, 32, 64],
        norm_name=("GROUP", {"num_groups": 8}),
    )


def load() -> DynUNet:
    """The trained segmenter, trained first where it is not there yet."""
    if not WEIGHTS.is_file():
        train(ITERATIONS)
    network = build()
    load_model(network, WEIGHTS)
    return network.eval()


def train(iterations: int, seed: int = 0) -> None:
    """Train on the real training cases and keep the weights."""
    torch.manual_seed(seed)
    cases = [
        make_case(c.name, [c.image], c.labels, MANIFEST.grid, VALUES, MANIFEST.intensity)
        for c in hippocampus_cases("train")
    ]
    samples = TrainingSamples(
        cases, MANIFEST.grid, VALUES, Augmentation(flip_axes=(0,), far_shift=0.0), 0.0,
        length=iterations * BATCH, seed=seed,
    )  # fmt: skip
    network = build().to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    dice_loss = MaskedDiceLoss(softmax=True, to_onehot_y=True)
    start = time.monotonic()
    for iteration, batch in enumerate(DataLoader(samples, BATCH, num_workers=1, collate_fn=list)):
        image, labels, valid = (
            torch.stack([getattr(sample, part) for sample in batch])
            for part in ("images", "labels", "weight")
        )
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * iteration / iterations))
        # Contrast and brightness vary, so that the judge looks at anatomy, not at gray levels.
        gain = 1 + 0.15 * torch.randn(len(image), 1, 1, 1, 1)
        image = image * gain + 0.1 * torch.randn_like(gain)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.contiguous(memory_format=torch.channels_last_3d))
        logits = logits.float()
        entropy = functional.cross_entropy(logits, labels, reduction="none")[:, None]
        loss = (entropy * valid).sum() / valid.sum() + dice_loss(logits, labels[:, None], valid)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if iteration % 100 == 0:
            print(f"{iteration:>5} {time.monotonic() - start:6.0f} s  {loss:.4f}", flush=True)
    WEIGHTS.parent.mkdir(exist_ok=True)
    # Safetensors stores contiguous tensors; DynUNet lists its layers twice, which save_model knows.
    save_model(network.to(memory_format=torch.contiguous_format), str(WEIGHTS))


@torch.inference_mode()
def dice(network: DynUNet, image: Volume, labels: Volume, scan: Grid) -> NDArray[np.float64]:
    """Dice per label ``[L]`` of the segmented ``image`` against ``labels`` on its field of view.

    ``image`` counts only where it lies within ``scan`` (the grid of the real scan), real and
    synthetic volumes alike; all three share one lattice, or are brought to it.
    """
    fov = fov_grid(labels, MANIFEST.grid)
    shared = _overlap(fov, scan)
    case = make_case(
        "", [resample(image, shared)], labels, MANIFEST.grid, VALUES, MANIFEST.intensity
    )
    pixels = torch.from_numpy(case.images_on(fov))[None]
    found = network(pixels).argmax(1)[0].numpy()
    truth, valid = case.labels_on(fov), case.validity(fov) > 0
    scores = []
    for index in range(1, len(VALUES) + 1):
        a, b = (found == index) & valid, (truth == index) & valid
        scores.append(2 * (a & b).sum() / max(1, a.sum() + b.sum()))
    return np.array(scores)


def _overlap(fov: Grid, scan: Grid) -> Grid:
    """The part of the field of view that was scanned; both grids are RAS on one lattice."""
    offset = np.rint((scan.origin - fov.origin) / fov.spacing).astype(int)
    low = np.maximum(offset, 0)
    high = np.minimum(offset + scan.size, fov.size)
    affine = fov.affine.copy()
    affine[:3, 3] = fov.positions(low[None].astype(float))[0]
    i, j, k = (int(n) for n in high - low)
    return Grid((i, j, k), affine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the segmenter that judges label fidelity.")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    train(parser.parse_args().iterations)
