"""What the panel keeps in the scene: the state that survives saving and loading."""

# Slicer's wrapper reads these annotations as types: they must not become texts.
from typing import Annotated, Any, Optional, Union

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ..bundles.catalog import DEFAULT_MODEL
from .presenters.choices import MAX_SAMPLES, MAX_SEED, Device, Quality, Sampler

OLDER_NAMES = {"told": "overrides"}
"""What parameters were called in scenes that were saved earlier."""


@parameterNodeWrapper
class Parameters:
    """The typed view of the module's parameter node."""

    model: str = DEFAULT_MODEL
    label_node: Union[  # noqa: UP007
        slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None
    ]
    overrides: dict[str, str]
    """Segment name, or label value as a text -> the model's label name, or background."""
    scan: Optional[slicer.vtkMRMLScalarVolumeNode]  # noqa: UP045
    samples: Annotated[int, WithinRange(1, MAX_SAMPLES)] = 1
    seed: Annotated[int, WithinRange(0, MAX_SEED)] = 0
    new_seed: bool = False
    quality: Quality = Quality.BALANCED
    sampler: Sampler = Sampler.AUTO
    guidance: Annotated[float, WithinRange(0, 20)] = 0.0
    device: Device = Device.AUTO
    result: Optional[slicer.vtkMRMLScalarVolumeNode]  # noqa: UP045
    outlines: bool = True
    side_by_side: bool = False
    opacity: Annotated[int, WithinRange(0, 100)] = 100
    rendering: bool = False
    scans: str = ""
    label_maps: str = ""
    training_name: str = ""
    training_hours: Annotated[float, WithinRange(0.02, 1000)] = 2.0
    skip_bad: bool = False


def parameters_of(node: Any) -> Any:
    """The view of a parameter node, also of one that an earlier version has saved."""
    _bring_up_to_date(node)
    wrapper: Any = Parameters  # What the decorator makes of it, type checkers do not see.
    return wrapper(node)


def _bring_up_to_date(node: Any) -> None:
    for name in node.GetParameterNames():
        first, dot, rest = name.partition(".")
        if first in OLDER_NAMES:
            node.SetParameter(OLDER_NAMES[first] + dot + rest, node.GetParameter(name))
            node.UnsetParameter(name)
