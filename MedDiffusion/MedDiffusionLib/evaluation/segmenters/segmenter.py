"""A trained segmenter on its device: label maps and features of images, of any size."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...compute.execution import Execution
from ...diffusion.blocks import Place, blend_weights, block_starts
from .network import SegmentationNetwork, Size


class Segmenter:
    """A network that sees patches of the size that it was trained with, on images of any size.

    ``key`` tells by which data and settings it was trained.
    """

    def __init__(
        self, name: str, key: str, network: SegmentationNetwork, patch: Size, execution: Execution
    ) -> None:
        self.name = name
        self.key = key
        self._network = execution.prepare(network).eval()
        self._patch = patch
        self._execution = execution

    @torch.inference_mode()
    def segment(self, image: NDArray[np.float32]) -> NDArray[np.integer]:
        """Label indices ``[X, Y, Z]`` of an image ``[C, X, Y, Z]`` in [-1, 1], 0 for background.

        No axis is shorter than a patch. Where patches overlap their logits enter a weighted mean.
        """
        whole = self._tensor(image)
        weights = blend_weights(self._patch)[0].to(whole.device)
        total: Tensor | None = None
        for place in self._places(whole):
            with self._execution.autocast():
                logits = self._network(whole[(slice(None), slice(None), *place)])[0].float()
            if total is None:
                total = logits.new_zeros(len(logits), *whole.shape[2:])
            total[(slice(None), *place)] += weights * logits
        assert total is not None
        return total.argmax(0).cpu().numpy().astype(np.min_scalar_type(len(total)))

    @torch.inference_mode()
    def encode(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean over space of the network's deepest maps ``[width]`` of an image as above."""
        whole = self._tensor(image)
        with self._execution.autocast():
            means = [
                self._network.deepest(whole[(slice(None), slice(None), *place)])[0]
                .float()
                .mean((1, 2, 3))
                for place in self._places(whole)
            ]
        mean: NDArray[np.float64] = torch.stack(means).mean(0).cpu().double().numpy()
        return mean

    def _tensor(self, image: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(image))[None].to(self._execution.device)

    def _places(self, whole: Tensor) -> list[Place]:
        """Where patches lie that cover an image."""
        starts = [block_starts(n, b) for n, b in zip(whole.shape[2:], self._patch, strict=True)]
        return [
            tuple(slice(c, c + b) for c, b in zip(corner, self._patch, strict=True))
            for corner in itertools.product(*starts)
        ]
