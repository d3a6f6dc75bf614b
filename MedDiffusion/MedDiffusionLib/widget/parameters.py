"""What the panel keeps in the scene: the state that survives saving and loading."""

# Slicer's wrapper reads these annotations as types: they must not become texts.
from enum import Enum
from typing import Annotated, Optional, Union

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ..scene.jobs import DEFAULT_MODEL

MAX_SEED = 999_999
MAX_SAMPLES = 16


class Quality(Enum):
    """How many steps a synthesis takes, as a multiple of what the model's author recommends."""

    FAST = 0.5
    BALANCED = 1.0
    BEST = 2.5

    def label(self) -> str:
        return {
            Quality.FAST: _("Fast"),
            Quality.BALANCED: _("Balanced"),
            Quality.BEST: _("Best"),
        }[self]

    def steps(self, recommended: int) -> int:
        """The number of steps for a model that recommends so many."""
        return max(1, round(recommended * self.value))


class Sampler(Enum):
    """The engine's samplers; AUTO is the one that the model's card names."""

    AUTO = ""
    DPMPP_2M = "dpmpp-2m"
    DDIM = "ddim"
    HEUN = "heun"
    DDPM = "ddpm"

    def label(self) -> str:
        return self.value or _("As the model recommends")


class Device(Enum):
    """What computes; AUTO takes the fastest that is there."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        return {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("CPU"),
            Device.CUDA: _("NVIDIA GPU (CUDA)"),
            Device.MPS: _("Apple GPU (MPS)"),
        }[self]


@parameterNodeWrapper
class Parameters:
    """The typed view of the module's parameter node."""

    model: str = DEFAULT_MODEL
    label_node: Union[  # noqa: UP007
        slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None
    ]
    told: dict[str, str]
    """Segment name, or label value as a text -> the model's label name, or background."""
    samples: Annotated[int, WithinRange(1, MAX_SAMPLES)] = 1
    seed: Annotated[int, WithinRange(0, MAX_SEED)] = 0
    quality: Quality = Quality.BALANCED
    sampler: Sampler = Sampler.AUTO
    guidance: Annotated[float, WithinRange(0, 20)] = 0.0
    device: Device = Device.AUTO
    result: Optional[slicer.vtkMRMLScalarVolumeNode]  # noqa: UP045
    outlines: bool = True
    side_by_side: bool = False
    rendering: bool = False
    scans: str = ""
    label_maps: str = ""
    training_name: str = ""
    training_hours: Annotated[float, WithinRange(0.02, 1000)] = 2.0
    skip_bad: bool = False
