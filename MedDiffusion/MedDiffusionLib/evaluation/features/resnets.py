"""The residual networks whose published weights a user may have, by the names of their tensors.

MedicalNet (Chen 2019, arXiv 1904.00625): 3D, the last two stages dilated instead of halved.
RadImageNet (Mei 2022): 2D ResNet-50, as its authors trained it with PyTorch, and as converted from
their Keras weights, where the first convolution of a block halves and all have biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Layout:
    """What tells residual networks apart; ``title`` is for users."""

    title: str
    blocks: tuple[int, int, int, int]
    bottleneck: bool
    axes: int = 3
    strides: tuple[int, ...] = (1, 2, 1, 1)
    dilations: tuple[int, ...] = (1, 1, 2, 4)
    inputs: int = 1
    padded: bool = False
    """Whether a shortcut that changes the width adds zeros, and has no weights."""
    bias: bool = False
    stride_first: bool = False
    """Whether the first of a bottleneck's convolutions halves, and not the middle one."""
    epsilon: float = 1e-5
    low: tuple[float, ...] = ()
    """What is taken from intensities in [0, 1], one for each input; empty: they are in [-1, 1]."""

    @property
    def growth(self) -> int:
        """How many times wider a block's output is than its middle."""
        return 4 if self.bottleneck else 1


LAYOUTS: tuple[Layout, ...] = (
    Layout("MedicalNet ResNet-10", (1, 1, 1, 1), False),
    Layout("MedicalNet ResNet-18", (2, 2, 2, 2), False, padded=True),
    Layout("MedicalNet ResNet-34", (3, 4, 6, 3), False, padded=True),
    Layout("MedicalNet ResNet-50", (3, 4, 6, 3), True),
    Layout(
        "RadImageNet ResNet-50", (3, 4, 6, 3), True, 2, (1, 2, 2, 2), (1, 1, 1, 1), 3
    ),
    Layout(
        "RadImageNet ResNet-50 from Keras", (3, 4, 6, 3), True, 2, (1, 2, 2, 2), (1, 1, 1, 1), 3,
        bias=True, stride_first=True, epsilon=1.001e-5, low=(0.406, 0.456, 0.485),
    ),
)  # fmt: skip


class ResNet(nn.Module):
    """The convolutional part: ``[B, inputs, ...]`` -> maps ``[B, 512 * growth, ...]``."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.conv1 = _conv(layout, layout.inputs, _WIDTHS[0], 7, stride=2)
        self.bn1 = _norm(layout, _WIDTHS[0])
        self.pool = (nn.MaxPool2d if layout.axes == 2 else nn.MaxPool3d)(3, 2, 1)
        before = _WIDTHS[0]
        for number, width in enumerate(_WIDTHS):
            blocks = []
            for block in range(layout.blocks[number]):
                stride = layout.strides[number] if block == 0 else 1
                blocks.append(_Block(layout, before, width, stride, layout.dilations[number]))
                before = width * layout.growth
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        maps = self.pool(F.relu(self.bn1(self.conv1(images))))
        for number in range(len(_WIDTHS)):
            maps = self.get_submodule(f"layer{number + 1}")(maps)
        return maps


class _Block(nn.Module):
    """Two convolutions, or three of which the middle one is narrow and wide in space."""

    def __init__(self, layout: Layout, before: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        after = width * layout.growth
        first, middle = (stride, 1) if layout.stride_first else (1, stride)
        if layout.bottleneck:
            convolutions = [
                _conv(layout, before, width, 1, first),
                _conv(layout, width, width, 3, middle, dilation),
                _conv(layout, width, after, 1),
            ]
        else:
            convolutions = [
                _conv(layout, before, width, 3, stride, dilation),
                _conv(layout, width, width, 3, 1, dilation),
            ]
        for number, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", _norm(layout, convolution.out_channels))
        self._count = len(convolutions)
        self._step = (slice(None), slice(None), *[slice(None, None, stride)] * layout.axes)
        self._added = after - before
        self.downsample: nn.Module | None = None
        if (stride > 1 or before != after) and not layout.padded:
            shortcut = _conv(layout, before, after, 1, stride)
            self.downsample = nn.Sequential(shortcut, _norm(layout, after))

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, before, ...]`` -> ``[B, after, ...]``."""
        found = maps
        for number in range(1, self._count + 1):
            convolved = self.get_submodule(f"conv{number}")(found)
            found = self.get_submodule(f"bn{number}")(convolved)
            if number < self._count:
                found = F.relu(found)
        return F.relu(found + self._shortcut(maps))

    def _shortcut(self, maps: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(maps)
        kept = maps[self._step]
        zeros = kept.new_zeros(len(kept), self._added, *kept.shape[2:])
        return torch.cat([kept, zeros], 1)


def _conv(
    layout: Layout, before: int, after: int, size: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2d | nn.Conv3d:
    kind = nn.Conv2d if layout.axes == 2 else nn.Conv3d
    padding = dilation * (size // 2)
    return kind(before, after, size, stride, padding, dilation, bias=layout.bias)


def _norm(layout: Layout, width: int) -> nn.Module:
    kind = nn.BatchNorm2d if layout.axes == 2 else nn.BatchNorm3d
    return kind(width, layout.epsilon)


def tensor_shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a network's tensors, without those that count batches."""
    with torch.device("meta"):
        state = ResNet(layout).state_dict()
    return {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def find_layout(
    shapes: dict[str, tuple[int, ...]], layouts: Sequence[Layout] = LAYOUTS
) -> Layout | None:
    """The network whose tensors have exactly these names and shapes."""
    return next((each for each in layouts if tensor_shapes(each) == shapes), None)
