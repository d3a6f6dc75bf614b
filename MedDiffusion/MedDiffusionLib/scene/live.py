"""One volume that is made anew after each change of a label map, at preview quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer

from ..compute.errors import UserError
from ..synthesis.settings import Settings
from ..worker.client import Event, Job
from ..worker.protocol import take_error, take_volume
from .jobs import SceneLogic
from .requests import prepare
from .synthetic import mark_synthetic
from .translation import _
from .volumes import put_voxels, show_in_grays

NAME = _("MedDiffusion live synthetic")
PATIENCE_SECONDS = 30.0
"""A job that is cancelled ends within its step; its process, which is warm, is kept so long."""


class LiveVolume:
    """Makes the volume, always from the newest label map; the node is the same each time.

    It is no result: it is not saved, and goes when :meth:`remove` is called.
    """

    def __init__(self, logic: SceneLogic) -> None:
        self.on_made: Callable[[Any], None] = lambda node: None
        """Called with the volume node each time that it holds a new picture."""
        self.on_failed: Callable[[UserError], None] = lambda error: None
        self._logic = logic
        self._job: Job | None = None
        self._node_id = ""
        self._range = (0.0, 1.0)

    @property
    def node(self) -> Any:
        """The volume node; None before there is a picture."""
        return slicer.mrmlScene.GetNodeByID(self._node_id) if self._node_id else None

    @property
    def busy(self) -> bool:
        return self._job is not None

    def make(
        self,
        label_node: Any,
        model: str,
        settings: Settings,
        device: str = "auto",
        overrides: Mapping[int | str, str] | None = None,
    ) -> None:
        """Start to make it; what is being made of an older label map is dropped.

        Raises UserError where there is no such model, or nothing drawn.
        """
        self.cancel()
        prepared = prepare(label_node, model, None, overrides)

        def request(files: Path) -> Event:
            return {**prepared.request(files, settings, device), "previews": False}

        job = self._logic.submit(request, lambda event: self._take(job, event))
        self._job = None if job.ended else job

    def cancel(self) -> None:
        """Drop what is being made; the last picture stays."""
        job, self._job = self._job, None
        if job is not None:
            self._logic.client.cancel(job, PATIENCE_SECONDS)

    def remove(self) -> None:
        """Take the volume out of the scene."""
        self.cancel()
        node = self.node
        self._node_id = ""
        if node is not None:
            for part in (node.GetDisplayNode(), node):
                slicer.mrmlScene.RemoveNode(part)

    def _take(self, job: Job, event: Event) -> None:
        if job is not self._job:
            return  # Of an older label map.
        kind = event["event"]
        if kind == "started":
            self._range = tuple(event["channels"][0]["range"])
        elif kind == "sample":
            self._show(event)
        elif kind != "step":
            self._job = None
            if kind == "failed":
                self.on_failed(take_error(event))

    def _show(self, event: Event) -> None:
        volume = take_volume(event["volumes"][0])
        node = self.node or self._new_node()
        put_voxels(node, volume.array, volume.affine)
        if node.GetDisplayNode() is None:
            show_in_grays(node, self._range)
            node.GetDisplayNode().SetSaveWithScene(False)
        node.GetDisplayNode().SetWindowLevelMinMax(*self._range)
        self.on_made(node)

    def _new_node(self) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", NAME)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        mark_synthetic(node)
        self._node_id = node.GetID()
        return node
