"""What a run is to do: cases, plan, end, and where the model goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...bundles.manifest import Manifest
from ...compute.execution import Execution
from ..data.cases import CaseFiles
from ..plan.settings import Limits, TrainingSettings, check_manifest, read_settings


@dataclass(frozen=True)
class TrainingJob:
    """What makes a run this run, and how it is to be computed here.

    ``plan`` has a ``manifest`` (a model.json without weights and training facts) and ``training``
    settings. ``command`` is what the model card says of how the model was made.
    """

    cases: tuple[CaseFiles, ...]
    output: Path
    plan: dict[str, Any]
    limits: Limits
    execution: Execution
    validation: tuple[CaseFiles, ...] = ()
    seed: int = 0
    command: str = ""
    resume: bool = False

    @cached_property
    def settings(self) -> TrainingSettings:
        """The plan's ``training`` part; raises UserError where it means nothing."""
        return read_settings(self.plan["training"])

    @cached_property
    def manifest(self) -> Manifest:
        """The plan's ``manifest`` part; raises UserError where no bundle could have it."""
        return check_manifest(self.plan["manifest"])
