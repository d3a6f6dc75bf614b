"""What a model is judged by, subject by subject; a new one is a file here and a line below."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Subject
from .distribution import Distribution
from .diversity import Diversity
from .geometry import Geometry
from .intensities import Intensities
from .label_fidelity import LabelFidelity
from .noise import Noise
from .relations import Relations

SUBJECTS: Mapping[str, Subject] = {
    subject.name: subject
    for subject in (
        LabelFidelity(), Noise(), Intensities(), Distribution(), Diversity(), Relations(),
        Geometry(),
    )
}  # fmt: skip
"""By name, in the order of a report."""
