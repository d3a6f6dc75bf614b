"""Segmenters that judge volumes: networks of different make, trained on a model's real cases.

A network of the registry takes ``channels`` (contrasts), ``classes`` (labels and background) and
``strides`` (of each level below the first, along x, y and z). Its ``forward`` gives logits
``[B, classes, X, Y, Z]`` of images ``[B, channels, X, Y, Z]``, its ``deepest`` the maps of its last
level ``[B, width, x, y, z]``.
"""

from __future__ import annotations

from collections.abc import Mapping

from .dynunet import DynUNet
from .network import SegmentationNetwork
from .unet import UNet

SEGMENTERS: Mapping[str, type[SegmentationNetwork]] = {"unet": UNet, "dynunet": DynUNet}
"""By name."""
