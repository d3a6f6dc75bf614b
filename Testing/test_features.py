"""Extractors of features: known values, what they see, and weights that a user has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import MedDiffusionLib.evaluation.features.resnets as resnets
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.evaluation.features import EXTRACTORS, Extractor
from MedDiffusionLib.evaluation.features.encoders import SegmenterFeatures
from MedDiffusionLib.evaluation.features.gray_levels import (
    FIRST_ORDER,
    LEVELS,
    TEXTURE,
    GrayLevels,
    first_order,
    neighbours,
    texture,
)
from MedDiffusionLib.evaluation.features.random_network import RandomNetwork
from MedDiffusionLib.evaluation.features.resnets import LAYOUTS, Layout, ResNet, tensor_shapes
from MedDiffusionLib.evaluation.features.weights import WeightsFeatures, read_weights

SHAPE = (9, 10, 11)
VALID = np.ones(SHAPE, bool)


def image(seed: int = 0, channels: int = 1) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (channels, *SHAPE)).astype(np.float32)


class Mean:
    """An encoder of which the features are known."""

    name = "mean"

    def encode(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        return image.mean((1, 2, 3))


def small(title: str) -> Layout:
    """A published layout with one block a stage."""
    return replace(next(each for each in LAYOUTS if each.title == title), blocks=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def networks() -> dict[str, ResNet]:
    """Random networks of few weights, with statistics of normalization that matter."""
    torch.manual_seed(0)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnets, "_WIDTHS", (4, 8, 8, 8))
        for layout in LAYOUTS:
            network = ResNet(small(layout.title)).eval()
            for name, tensor in network.state_dict().items():
                if name.endswith(("running_mean", "running_var")):
                    tensor.uniform_(0.5, 1.5)
            found[layout.title] = network
    return found


EVERY: dict[str, Callable[[], Extractor]] = {
    **EXTRACTORS,
    "segmenter:mean": lambda: SegmenterFeatures(Mean()),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_the_same_again_and_only_of_what_is_valid(name: str, channels: int) -> None:
    valid = VALID.copy()
    valid[:3] = False
    one = image(1, channels)
    other = one.copy()
    other[:, :3] = np.nan
    extractor = EVERY[name]()
    assert extractor.name == name
    found = extractor.features(one, valid)
    assert found.ndim == 1
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert np.array_equal(found, EVERY[name]().features(other, valid))
    assert not np.allclose(found, extractor.features(image(2, channels), valid))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda x, v: (x * np.nan, v), "not-finite"),
        (lambda x, v: (np.where(x < 2, 0.5, x), v), "constant"),
        (lambda x, v: (x, ~v), "too-small"),
    ],
)
def test_bad_volumes_give_a_sentence(name: str, change: Callable[..., Any], code: str) -> None:
    with pytest.raises(UserError) as caught:
        EVERY[name]().features(*change(image(), VALID))
    assert caught.value.code == code
    assert caught.value.remedy


@pytest.mark.parametrize("name", EVERY)
def test_validity_of_another_shape_is_the_callers_mistake(name: str) -> None:
    with pytest.raises(ValueError):
        EVERY[name]().features(image(), VALID[1:])


# ---- grey levels


def test_first_order_features_are_those_of_the_values() -> None:
    values = np.repeat([-0.99, -0.49, 0.51, 0.01], [4, 2, 1, 1]).astype(np.float32)
    found = GrayLevels().features(values.reshape(1, 2, 2, 2), np.ones((2, 2, 2), bool))
    known = dict(zip(FIRST_ORDER, found[: len(FIRST_ORDER)], strict=True))
    assert known["mean"] == pytest.approx(values.mean(dtype=np.float64))
    assert known["deviation"] == pytest.approx(values.std(dtype=np.float64))
    assert known["median"] == pytest.approx(-0.74)
    # Half, a quarter and two eighths: 0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3 bits.
    assert known["entropy"] == pytest.approx(1.75)
    assert known["uniformity"] == pytest.approx(0.25 + 0.0625 + 2 / 64)


PHANTOM = """
14411 14611 41641 44641
14411 11611 .1311 44611
144.. 11111 11.11 11611
144.. 11111 11111 11611
"""
"""The digital phantom of IBSI, rows of slices; a point is a voxel outside of the region."""


def test_features_of_the_digital_phantom_are_the_published_ones() -> None:
    lines = PHANTOM.replace(".", "0").strip().splitlines()
    phantom = np.array([[list(row) for row in line.split()] for line in lines]).astype(int)
    inside = phantom > 0
    values = phantom[inside]
    found = dict(zip(FIRST_ORDER, first_order(values.astype(float), values), strict=True))
    assert found["mean"] == pytest.approx(2.15, abs=0.005)
    assert found["deviation"] ** 2 == pytest.approx(3.05, abs=0.005)
    assert found["skewness"] == pytest.approx(1.08, abs=0.005)
    assert found["kurtosis"] == pytest.approx(-0.355, abs=0.0005)
    assert found["entropy"] == pytest.approx(1.27, abs=0.005)
    assert found["uniformity"] == pytest.approx(0.512, abs=0.0005)
    matrix = neighbours(np.where(inside, phantom, LEVELS), 1)
    known = dict(zip(TEXTURE, texture(matrix), strict=True))
    assert known["contrast"] == pytest.approx(5.12, abs=0.005)
    assert known["dissimilarity"] == pytest.approx(1.38, abs=0.005)
    assert known["homogeneity"] == pytest.approx(0.631, abs=0.0005)
    assert known["second moment"] == pytest.approx(0.291, abs=0.0005)
    assert known["entropy"] == pytest.approx(2.57, abs=0.005)
    assert known["correlation"] == pytest.approx(0.183, abs=0.0005)
    assert known["cluster shade"] == pytest.approx(17.4, abs=0.05)


@pytest.mark.parametrize("distance", [1, 2])
def test_neighbours_are_counted_as_when_every_voxel_is_visited(distance: int) -> None:
    random = np.random.default_rng(3)
    levels = random.integers(0, LEVELS + 1, (4, 5, 3))
    expected = np.zeros((LEVELS, LEVELS))
    for place in np.ndindex(levels.shape):
        for step in product((-distance, 0, distance), repeat=3):
            other = tuple(np.add(place, step))
            inside = all(0 <= n < size for n, size in zip(other, levels.shape, strict=True))
            if any(step) and inside and max(levels[place], levels[other]) < LEVELS:
                expected[levels[place], levels[other]] += 1
    assert np.allclose(neighbours(levels, distance), expected / expected.sum())


def test_texture_of_a_chequered_pattern() -> None:
    matrix = np.zeros((LEVELS, LEVELS))
    matrix[10, 14] = matrix[14, 10] = 0.5
    known = dict(zip(TEXTURE, texture(matrix), strict=True))
    assert known == pytest.approx({
        "contrast": 16, "dissimilarity": 4, "homogeneity": 1 / 17, "second moment": 0.5,
        "entropy": 1, "correlation": -1, "cluster shade": 0,
    })  # fmt: skip


def test_contrasts_are_one_after_the_other_and_then_their_correlation() -> None:
    one, two = image(4), image(5)
    found = GrayLevels().features(np.concatenate([one, two]), VALID)
    single = [GrayLevels().features(each, VALID) for each in (one, two)]
    assert np.array_equal(found[:-1], np.concatenate(single))
    assert found[-1] == pytest.approx(np.corrcoef(one.ravel(), two.ravel())[0, 1])


# ---- a random network


def test_a_random_network_is_of_its_seed_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(1)
    first = RandomNetwork().features(image(), VALID)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == drawn
    assert np.array_equal(RandomNetwork(0).features(image(), VALID), first)
    assert not np.allclose(RandomNetwork(1).features(image(), VALID), first)


def test_a_random_network_gives_what_its_filters_written_out_give() -> None:
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(2**24, (16, 1, 3, 3, 3), generator=random).double() / 2**23 - 1
    bias = torch.randint(2**24, (16,), generator=random).double() / 2**23 - 1
    padded = F.pad(torch.from_numpy(image()[0]).double(), (1,) * 6)
    windows = padded.unfold(0, 3, 1).unfold(1, 3, 1).unfold(2, 3, 1)
    maps = torch.einsum("xyzijk,cijk->cxyz", windows, drawn[:, 0] * (6 / 27) ** 0.5)
    maps = (maps + bias[:, None, None, None] / 2).clamp(min=0)
    found = RandomNetwork().features(image(), VALID)
    assert found.shape == (224,)
    assert found[:16] == pytest.approx(maps.mean((1, 2, 3)).numpy(), abs=1e-5)
    assert found[16:32] == pytest.approx(maps.std((1, 2, 3), correction=0).numpy(), abs=1e-5)


# ---- published weights


@pytest.mark.parametrize(
    ("title", "millions"),
    [("MedicalNet ResNet-10", 14.36), ("MedicalNet ResNet-18", 32.99),
     ("MedicalNet ResNet-34", 63.31), ("MedicalNet ResNet-50", 46.21),
     ("RadImageNet ResNet-50", 23.51), ("RadImageNet ResNet-50 from Keras", 23.53)],
)  # fmt: skip
def test_networks_have_as_many_weights_as_published(title: str, millions: float) -> None:
    # MedicalNet's table; torchvision's ResNet-50 without its 2.05 million of classes; Keras's.
    shapes = tensor_shapes(next(each for each in LAYOUTS if each.title == title))
    trained = [shape for name, shape in shapes.items() if "running" not in name]
    count = sum(int(np.prod(shape)) for shape in trained) / 1e6
    assert count == pytest.approx(millions, rel=0.0013)


def test_networks_are_told_apart_by_their_tensors() -> None:
    found = [resnets.find_layout(tensor_shapes(each)) for each in LAYOUTS]
    assert found == list(LAYOUTS)


def test_maps_are_as_much_smaller_as_published(networks: dict[str, ResNet]) -> None:
    for title, network in networks.items():
        layout = small(title)
        with torch.inference_mode():
            maps = network(torch.zeros(1, layout.inputs, *[32] * layout.axes))
        assert maps.shape[2:] == ((4, 4, 4) if layout.axes == 3 else (1, 1)), title


def by_hand(images: Tensor, state: dict[str, Tensor], layout: Layout) -> Tensor:
    """A residual network of one block a stage, from its published description."""
    conv = F.conv3d if layout.axes == 3 else F.conv2d
    pool = F.max_pool3d if layout.axes == 3 else F.max_pool2d

    def convolved(x: Tensor, name: str, norm: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        x = conv(x, weight, state.get(f"{name}.bias"), stride, padding, dilation)
        each = [
            state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        mean, variance, gain, shift = (t.reshape(-1, *[1] * layout.axes) for t in each)
        return (x - mean) / (variance + layout.epsilon).sqrt() * gain + shift

    x = pool(convolved(images, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for number in range(4):
        stage, stride = f"layer{number + 1}.0", layout.strides[number]
        dilation = layout.dilations[number]
        halves = "conv1" if layout.stride_first or not layout.bottleneck else "conv2"
        found = x
        names = ["conv1", "conv2", "conv3"][: 3 if layout.bottleneck else 2]
        for name in names:
            wide = state[f"{stage}.{name}.weight"].shape[-1] == 3
            found = convolved(
                found, f"{stage}.{name}", f"{stage}.bn{name[-1]}",
                stride if name == halves else 1, dilation if wide else 1,
            )  # fmt: skip
            found = found if name == names[-1] else found.relu()
        if f"{stage}.downsample.0.weight" in state:
            x = convolved(x, f"{stage}.downsample.0", f"{stage}.downsample.1", stride)
        elif x.shape != found.shape:
            x = x[(slice(None), slice(None), *[slice(None, None, stride)] * layout.axes)]
            x = F.pad(x, (0, 0) * layout.axes + (0, found.shape[1] - x.shape[1]))
        x = (found + x).relu()
    return x


def as_published(title: str, network: ResNet) -> Any:
    """The content of a checkpoint with the names that its authors gave, and heads."""
    state = network.state_dict()
    if title.startswith("MedicalNet"):
        named = {f"module.{name}": tensor for name, tensor in state.items()}
        named["module.conv_seg.0.weight"] = torch.ones(2)
        return {"state_dict": OrderedDict(named), "epoch": 3}
    if title.endswith("Keras"):
        return OrderedDict(state)
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    parts = {name: name.split(".", 1) for name in state}
    return {f"backbone.{numbers[a]}.{b}": state[name] for name, (a, b) in parts.items()}


def read(path: Path, titles: list[str]) -> WeightsFeatures:
    """A file of weights of the small networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnets, "_WIDTHS", (4, 8, 8, 8))
        return read_weights(path, tuple(small(title) for title in titles))


TITLES = [layout.title for layout in LAYOUTS]


@pytest.mark.parametrize("title", [title for title in TITLES if title != "MedicalNet ResNet-34"])
def test_published_weights_give_what_the_network_by_hand_gives(
    tmp_path: Path, networks: dict[str, ResNet], title: str
) -> None:
    network, layout = networks[title], small(title)
    path = tmp_path / "weights.pth"
    torch.save(as_published(title, network), path)
    extractor = read(path, [title])
    volume = image(6, 2)
    valid = VALID.copy()
    valid[:, :2] = False
    found = extractor.features(volume, valid)
    assert (extractor.name, extractor.title) == ("weights:weights.pth", title)
    expected = []
    for channel in volume:
        filled = np.where(valid, channel, -1)
        if layout.axes == 3:
            known = channel[valid].astype(np.float64)
            scaled = np.where(valid, (channel - known.mean()) / known.std(), 0)
            inputs = [torch.from_numpy(scaled.astype(np.float32))[None, None]]
        else:
            planes = [filled, filled[:, 2:].swapaxes(0, 1), np.moveaxis(filled, 2, 0)]
            inputs = [torch.from_numpy(each.copy())[:, None].repeat(1, 3, 1, 1) for each in planes]
        if layout.bias:
            low = torch.tensor([0.406, 0.456, 0.485])[:, None, None]
            inputs = [(each + 1) / 2 - low for each in inputs]
        for each in inputs:
            maps = by_hand(each.float(), network.state_dict(), layout)
            expected.append(maps.flatten(2).mean((0, 2)).numpy())
    assert found == pytest.approx(np.concatenate(expected), rel=1e-3, abs=1e-4)


def test_weights_may_be_a_safetensors_file(tmp_path: Path, networks: dict[str, ResNet]) -> None:
    title = "MedicalNet ResNet-10"
    save_file(networks[title].state_dict(), tmp_path / "w.safetensors")
    torch.save(networks[title].state_dict(), tmp_path / "w.pth")
    one, other = (
        read(tmp_path / name, TITLES).features(image(), VALID)
        for name in ("w.safetensors", "w.pth")
    )
    assert np.array_equal(one, other)


def without_one(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "layer2.0.bn1.weight"}


def with_nan(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "bn1.weight": state["bn1.weight"] * torch.nan}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (without_one, "no network that can be used here"),
        (lambda state: {"a": torch.ones(2)}, "no network that can be used here"),
        (lambda state: [1, 2], "no network that can be used here"),
        (with_nan, "weights bn1.weight that are no finite numbers"),
    ],
)
def test_weights_of_a_wrong_kind_are_refused_in_one_sentence(
    tmp_path: Path, networks: dict[str, ResNet], content: Callable[..., Any], said: str
) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content(networks["MedicalNet ResNet-10"].state_dict()), path)
    with pytest.raises(UserError, match=said) as caught:
        read(path, ["MedicalNet ResNet-10"])
    assert caught.value.path == path
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("w.pth", b"", "is empty"),
        ("w.pth", b"\x80\x02\x8a\nl\xfc\x9c", "format of PyTorch before 1.6"),
        ("w.pth", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("w.safetensors", b"nothing", "cannot be read as a safetensors file"),
        ("w.safetensors", None, "cannot be read as a safetensors file"),
        ("w.pth", None, "cannot be read"),
    ],
)
def test_files_that_hold_no_weights_are_refused_in_one_sentence(
    tmp_path: Path, name: str, data: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_weights(path)
