"""The whole heads of the data ``head-t1``, and a segmenter that judges volumes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceLoss
from monai.networks.nets import DynUNet
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.nn import functional

from common import ROOT
from MedDiffusionLib.training.data.loaded_cases import Case, make_case
from MedDiffusionLib.training.plan.presets import load_preset
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes.reading import read_image, read_label_map

PRESET = load_preset("head-t1")
MANIFEST = check_manifest(PRESET["manifest"])
VALUES = [label.value for label in MANIFEST.labels]
WEIGHTS = ROOT / "runs" / "head-segmenter.safetensors"
_PATCH, _BATCH = 64, 2


def head_cases(folder: Path, part: str, count: int | None = None) -> list[Case]:
    """The "train" or "validation" cases, in the order of the split."""
    names = json.loads((folder / "split.json").read_text("utf-8"))[part][:count]
    return [
        make_case(
            name,
            [read_image(folder / "images" / f"{name}.nii.gz")],
            read_label_map(folder / "labels" / f"{name}.nii.gz"),
            MANIFEST.grid,
            VALUES,
            MANIFEST.intensity,
        )
        for name in names
    ]


def on_grid(case: Case) -> tuple[Tensor, Tensor]:
    """A case's image ``[1, 1, X, Y, Z]`` and label indices ``[1, X, Y, Z]`` on its grid."""
    labels = torch.from_numpy(case.labels_on(case.fov).astype(np.int64))
    return torch.from_numpy(case.images_on(case.fov))[None], labels[None]


def segmenter(cases: Sequence[Case], iterations: int) -> DynUNet:
    """The trained segmenter, trained on the real ``cases`` first where it is not there yet."""
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=len(VALUES) + 1,
        kernel_size=[3, 3, 3, 3],
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2],
        filters=[16, 32, 64, 96],
        norm_name=("GROUP", {"num_groups": 8}),
    )
    if WEIGHTS.is_file():
        load_model(network, WEIGHTS)
    else:
        _train(network.to(memory_format=torch.channels_last_3d), cases, iterations)
        WEIGHTS.parent.mkdir(exist_ok=True)
        save_model(network.to(memory_format=torch.contiguous_format), str(WEIGHTS))
    return network.eval()


@torch.inference_mode()
def dice(network: DynUNet, image: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Dice per label ``[L]`` of the segmented image; NaN where a label is in neither."""
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image).argmax(1)
    scores = []
    for index in range(1, len(VALUES) + 1):
        a, b = found == index, labels == index
        both = int(a.sum() + b.sum())
        scores.append(2 * int((a & b).sum()) / both if both else math.nan)
    return np.array(scores)


def _train(network: DynUNet, cases: Sequence[Case], iterations: int) -> None:
    pairs = [on_grid(case) for case in cases]
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    dice_loss = DiceLoss(softmax=True, to_onehot_y=True)
    for iteration in range(iterations):
        images, labels = (torch.cat(part) for part in zip(*_patches(pairs, random), strict=True))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * iteration / iterations))
        # Contrast, brightness and noise vary, so that it looks at anatomy, not at gray levels.
        gain = torch.from_numpy(random.normal(1, 0.15, (len(images), 1, 1, 1, 1))).float()
        grain = 0.05 * random.random() * torch.randn_like(images)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network((images * gain + grain).to(memory_format=torch.channels_last_3d))
        logits = logits.float()
        loss = functional.cross_entropy(logits, labels) + dice_loss(logits, labels[:, None])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if iteration % 100 == 0:
            print(f"segmenter {iteration:>5}  {loss.item():.4f}", flush=True)


def _patches(
    pairs: Sequence[tuple[Tensor, Tensor]], random: np.random.Generator
) -> list[tuple[Tensor, Tensor]]:
    found = []
    for number in random.integers(0, len(pairs), _BATCH):
        image, labels = pairs[number]
        corner = [int(random.integers(0, n - _PATCH + 1)) for n in labels.shape[1:]]
        place = tuple(slice(c, c + _PATCH) for c in corner)
        part, map_part = image[(..., *place)], labels[(..., *place)]
        flipped = random.random() < 0.5
        found.append((part.flip(2), map_part.flip(1)) if flipped else (part, map_part))
    return found
