"""Segmenters: they learn labels, are kept, and judge images of any size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from conftest import tiny_manifest
from MedDiffusionLib.compute.errors import Cancelled, UserError
from MedDiffusionLib.compute.execution import Execution
from MedDiffusionLib.evaluation.segmenters import SEGMENTERS
from MedDiffusionLib.evaluation.segmenters import training as segmenter_training
from MedDiffusionLib.evaluation.segmenters.network import patch_of, strides_of
from MedDiffusionLib.evaluation.segmenters.objective import balance, dice_loss, other_greys
from MedDiffusionLib.evaluation.segmenters.segmenter import Segmenter
from MedDiffusionLib.evaluation.segmenters.training import (
    Effort,
    case_digest,
    is_trained,
    segmenter_key,
    trained_segmenter,
)
from MedDiffusionLib.evaluation.segmenters.unet import InstanceNorm, UNet
from MedDiffusionLib.training.data.cases import CaseFiles
from MedDiffusionLib.training.loop.stopping import StopWatch
from training_factory import CPU, write_data


@pytest.mark.parametrize(
    ("grid", "patch", "deepest"),
    [
        ((96, 112, 96), (64, 64, 64), (8, 8, 8)),
        ((40, 56, 40), (40, 56, 40), (10, 14, 10)),
        ((16, 16, 16), (16, 16, 16), (8, 8, 8)),
        ((200, 200, 20), (64, 64, 20), (8, 8, 10)),
        ((50, 50, 50), (48, 48, 48), (12, 12, 12)),
    ],
)
def test_a_segmenter_sees_patches_that_its_levels_divide(
    grid: tuple[int, int, int], patch: tuple[int, int, int], deepest: tuple[int, int, int]
) -> None:
    assert patch_of(grid) == patch
    strides = np.prod(strides_of(patch), axis=0)
    assert tuple(np.array(patch) // strides) == deepest
    assert not (np.array(patch) % strides).any()


@pytest.mark.parametrize("name", SEGMENTERS)
def test_its_logits_have_the_size_of_the_image_and_a_class_for_each_label(name: str) -> None:
    pytest.importorskip(SEGMENTERS[name].REQUIRES or "torch")
    network = SEGMENTERS[name](2, 4, [(2, 2, 1), (2, 1, 1)])
    images = torch.zeros(1, 2, 16, 8, 4)
    assert network(images).shape == (1, 4, 16, 8, 4)
    assert network.deepest(images).shape == (1, 64, 4, 4, 4)


def test_our_normalization_is_torchs_instance_normalization() -> None:
    norm = InstanceNorm(16)
    maps = torch.randn(2, 16, 4, 4, 4)
    expected = functional.instance_norm(maps, eps=1e-5)
    assert torch.allclose(norm(maps), expected, atol=1e-5)
    assert torch.allclose(norm.eval()(maps), expected, atol=1e-5)


def test_the_dice_loss_counts_labels_that_are_shown_and_voxels_that_were_scanned() -> None:
    labels = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    labels[0, 0] = 1
    right = 50 * functional.one_hot(labels, 3).movedim(-1, 1).float()
    scanned = torch.ones(1, 2, 2, 2)
    assert dice_loss(right, labels, scanned).item() == pytest.approx(0, abs=1e-6)
    wrong = right.clone()
    wrong[0, :, 1, 1, 1] = torch.tensor([0.0, 50, 0])
    missed = dice_loss(wrong, labels, scanned).item()
    # Four of five found voxels are right: 2 * 4 / (4 + 5), with a voxel added above and below.
    assert missed == pytest.approx(1 - (2 * 4 + 1) / (9 + 1))
    scanned[0, 1, 1, 1] = 0
    assert dice_loss(wrong, labels, scanned).item() == pytest.approx(0, abs=1e-6)


def test_few_voxels_count_more_at_first_and_all_alike_at_the_end() -> None:
    labels = torch.zeros(2, 2, 5, 5, dtype=torch.int64)
    labels[0, 0, 0, :4] = 2
    # 4 voxels of one label and 46 of the other.
    first = balance(labels, 3, 0.5)
    assert first[0, 0, 0, 0].item() == pytest.approx(4**-0.5)
    assert first[0, 1, 1, 1].item() == pytest.approx(46**-0.5)
    assert torch.allclose(first[1], torch.tensor(50**-0.5))
    assert (balance(labels, 3, 0.0) == 1).all()


def test_grey_levels_differ_from_sample_to_sample_and_edges_stay() -> None:
    image = torch.full((1, 8, 8, 8), -0.5)
    image[0, 4:] = 0.5
    first, second = (other_greys(image, torch.Generator().manual_seed(n)) for n in (0, 1))
    assert (first - second).abs().mean() > 0.02
    assert first[0, 4:].mean() - first[0, :4].mean() > 0.5


def test_an_image_larger_than_a_patch_is_seen_as_a_whole() -> None:
    class Threshold(UNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([-images, images], 1)

    network = Threshold(1, 2, [(2, 2, 2)])
    judge = Segmenter("threshold", "", network, (8, 8, 8), Execution(torch.device("cpu")))
    image = np.random.default_rng(0).normal(0, 1, (1, 12, 8, 20)).astype(np.float32)
    assert (judge.segment(image) == (image[0] > 0)).all()
    assert judge.encode(image).shape == (32,)


def test_its_key_is_of_what_it_depends_on() -> None:
    manifest, effort = tiny_manifest(), Effort(5)
    key = segmenter_key("unet", manifest, ["a", "b"], effort)
    assert segmenter_key("unet", manifest, ["b", "a"], effort) == key
    assert segmenter_key("unet", tiny_manifest(name="other"), ["a", "b"], effort) == key
    others = {
        segmenter_key("dynunet", manifest, ["a", "b"], effort),
        segmenter_key("unet", manifest, ["a", "c"], effort),
        segmenter_key("unet", manifest, ["a", "b"], Effort(6)),
        segmenter_key("unet", replace(manifest, labels=manifest.labels[:1]), ["a", "b"], effort),
    }
    assert key not in others
    assert len(others) == 4


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[CaseFiles]:
    return write_data(tmp_path_factory.mktemp("cases"), 5)


STEPS = 3


def train(cases: list[CaseFiles], folder: Path) -> Segmenter:
    digests = [case_digest(case) for case in cases]
    with StopWatch() as stop:
        return trained_segmenter(
            "unet", tiny_manifest(), cases, digests, folder, CPU, Effort(STEPS), stop
        )


@pytest.fixture(scope="module")
def kept(cases: list[CaseFiles], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenters")
    train(cases, folder)
    return folder


def code(segmenter: Segmenter) -> NDArray[np.float64]:
    """What a segmenter makes of an image."""
    image = np.random.default_rng(0).normal(0, 0.5, (1, 16, 16, 16)).astype(np.float32)
    return segmenter.encode(image)


def test_it_is_trained_once_and_found_afterwards(
    cases: list[CaseFiles], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [case_digest(case) for case in reversed(cases)]
    assert is_trained("unet", tiny_manifest(), digests, kept, Effort(STEPS))
    assert not is_trained("unet", tiny_manifest(), digests[1:], kept, Effort(STEPS))
    monkeypatch.setattr(segmenter_training, "_train", None)
    again = train(cases[::-1], kept)
    assert again.key == train(cases, kept).key
    assert again.name == "unet"


def test_interrupted_it_goes_on_and_is_the_same(
    cases: list[CaseFiles], kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = iter([*[None] * (len(cases) + 2), *["SIGTERM"] * 9])
    monkeypatch.setattr(StopWatch, "reason", property(lambda watch: next(reasons)))
    with pytest.raises(Cancelled):
        train(cases, tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.glob("*/checkpoint.safetensors"))
    assert not list(tmp_path.glob("*/weights.safetensors"))
    assert np.allclose(code(train(cases, tmp_path)), code(train(cases, kept)))


def test_too_few_cases_are_refused(cases: list[CaseFiles], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 5 training cases, and 4 are given"):
        train(cases[:4], tmp_path)


def test_a_file_that_is_not_its_weights_is_refused(
    cases: list[CaseFiles], kept: Path, tmp_path: Path
) -> None:
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("*/weights.safetensors")
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"is no segmenter for this .*remove its folder"):
        train(cases, tmp_path)
