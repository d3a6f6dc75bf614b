"""Syntheses from and into the scene, computed by the worker process.

The scripting interface of the module, which its widget uses too. Nothing here blocks or waits but
:meth:`SceneLogic.synthesize`; the owner calls :meth:`SceneLogic.process` from a timer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import slicer

from ..bundles.catalog import DEFAULT_MODEL, find_model
from ..bundles.manifest import Manifest, read_manifest
from ..compute.errors import Cancelled, UserError
from ..synthesis.settings import Settings
from ..volumes.volume import Volume
from ..worker.client import Event, Job, WorkerClient
from ..worker.protocol import take_error, take_volume
from .canvas import add_label_map
from .label_maps import LabelInput, label_map_state
from .requests import prepare
from .synthetic import (
    ATTRIBUTE,
    LABEL_MAP_STATE,
    LABEL_OVERRIDES,
    NO_LABEL_MAP,
    mark_synthetic,
    overrides_text,
)
from .translation import _
from .volumes import add_result, put_voxels, show_in_grays

MODELS_OWN = Settings()
"""One sample, as the model's author recommends."""
PREVIEW_NAME = _("MedDiffusion synthetic preview")


def _ignore(*arguments: Any) -> None:
    pass


class SynthesisJob:
    """A synthesis under way. Callbacks may be set until the next :meth:`SceneLogic.process`."""

    def __init__(
        self,
        logic: SceneLogic,
        source: LabelInput | None,
        name: str,
        overrides: Mapping[int | str, str],
    ) -> None:
        """``source``: None where the model makes volumes without a label map."""
        self.onProgress: Callable[[int, int, int], None] = _ignore
        """Called with the sample (from 0), the steps done and all steps."""
        self.onPreview: Callable[[Any], None] = _ignore
        """Called with the preview's volume nodes, one per channel, after each step, or after some
        where showing them takes long."""
        self.onSample: Callable[[list[Any]], None] = _ignore
        """Called with a finished sample's volume nodes."""
        self.onFinished: Callable[[list[Any]], None] = _ignore
        """Called with all volume nodes."""
        self.onFailed: Callable[[UserError], None] = _ignore
        """Called with what went wrong, for the front end to put into words."""
        self.onCancelled: Callable[[], None] = _ignore
        self.warnings = source.warnings if source is not None else ()
        self.volumes: list[Any] = []
        """The volume nodes of the finished samples; they stay, whatever becomes of the rest."""
        self.ended = False
        self.error: UserError | None = None
        """What went wrong, once it has."""
        self.cancelled = False
        self._logic = logic
        self._source = source
        self._name = name
        state = NO_LABEL_MAP
        if source is not None:
            state = label_map_state(slicer.mrmlScene.GetNodeByID(source.node_id))
        self._known = {LABEL_MAP_STATE: state, LABEL_OVERRIDES: overrides_text(overrides)}
        self._job: Job | None = None
        self._channels: list[dict[str, Any]] = []

    def cancel(self) -> None:
        """Stop; finished samples stay in the scene."""
        if self._job is not None:
            self._logic.client.cancel(self._job)

    def _take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "started":
            self._channels = event["channels"]
        elif kind == "step":
            self.onProgress(event["sample"], event["step"], event["steps"])
            volumes = [take_volume(described) for described in event["volumes"]]
            ranges = [tuple(channel["range"]) for channel in self._channels]
            if volumes:
                self.onPreview(self._logic.show_preview(volumes, ranges))
        elif kind == "sample":
            self._add_sample(event)
        else:
            self._end(event)

    def _add_sample(self, event: Event) -> None:
        added = []
        for described, channel, facts in zip(
            event["volumes"], self._channels, event["provenance"], strict=True
        ):
            name = _("{labels} synthetic {channel} {seed}").format(
                labels=self._name, channel=channel["name"], seed=facts["seed"] + event["sample"]
            )
            volume = take_volume(described)
            low, high = channel["range"]
            known = {ATTRIBUTE + name: str(fact) for name, fact in facts.items()} | self._known
            added.append(
                add_result(slicer.mrmlScene, volume, self._source, name, (low, high), known)
            )
        self.volumes += added
        self.onSample(added)

    def _end(self, event: Event) -> None:
        self.ended = True
        self._logic.remove_preview()
        if event["event"] == "finished":
            self.onFinished(self.volumes)
        elif event["event"] == "cancelled":
            self.cancelled = True
            self.onCancelled()
        else:
            self.error = take_error(event)
            self.onFailed(self.error)


class SceneLogic:
    """Starts syntheses; owns the worker's client and the preview.

    ``python`` is the command of Slicer's Python.
    """

    def __init__(self, python: Sequence[str]) -> None:
        self.client = WorkerClient(python, Path(slicer.app.temporaryPath))
        self._jobs: list[SynthesisJob] = []
        self._preview_ids: list[str] = []
        self._scene = slicer.mrmlScene
        self._observer = self._scene.AddObserver(
            slicer.vtkMRMLScene.StartCloseEvent, lambda caller, event: self.cancelAll()
        )

    @property
    def busy(self) -> bool:
        """Whether something is computed or waits for it."""
        return self.client.busy

    def startSynthesis(
        self,
        labelNode: Any,
        model: str = DEFAULT_MODEL,
        settings: Settings = MODELS_OWN,
        device: str = "auto",
        segments: Sequence[str] | None = None,
        overrides: Mapping[int | str, str] | None = None,
    ) -> SynthesisJob:
        """Queue a synthesis from a segmentation or label map node; returns at once.

        ``segments`` are segment IDs (None: all); ``overrides`` says which label values, or segment
        names, are which of the model's labels, by name, or "background". Raises UserError where
        there is no such model or nothing drawn; labels that match nothing are for the worker to
        find, and reach ``onFailed``.
        """
        prepared = prepare(labelNode, model, segments, overrides)
        job = SynthesisJob(self, prepared.source, prepared.name, overrides or {})
        job._job = self.submit(lambda files: prepared.request(files, settings, device), job._take)
        return job

    def startGeneration(
        self,
        model: str,
        settings: Settings = MODELS_OWN,
        device: str = "auto",
    ) -> SynthesisJob:
        """Queue volumes without a label map; otherwise as :meth:`startSynthesis`."""
        folder = find_model(model)
        job = SynthesisJob(self, None, read_manifest(folder).name, {})
        request = {
            "do": "generate", "model": str(folder), "device": device,
            "settings": asdict(settings),
        }  # fmt: skip
        job._job = self.submit(lambda files: request, job._take)
        return job

    def synthesize(self, *arguments: Any, **options: Any) -> list[Any]:
        """Like :meth:`startSynthesis`, but waits, and returns the volume nodes."""
        return self.finish(self.startSynthesis(*arguments, **options))

    def finish(self, job: SynthesisJob) -> list[Any]:
        """Wait for a job's end, while Slicer stays alive, and return its volume nodes.

        Raises UserError when it fails, Cancelled when it is cancelled.
        """
        self._wait(lambda: job.ended)
        if job.cancelled:
            raise Cancelled
        if job.error is not None:
            raise job.error
        return job.volumes

    def startRandomLabelMap(
        self,
        model: str,
        seed: int,
        onFinished: Callable[[Any], None],
        onFailed: Callable[[UserError], None] = _ignore,
    ) -> Job:
        """Draw a label map from the model's shape model into a new segmentation node."""
        manifest = read_manifest(find_model(model))

        def take(event: Event) -> None:
            if event["event"] == "labelmap":
                name = _("{model} random {seed}").format(model=manifest.name, seed=seed)
                onFinished(add_made(manifest, take_volume(event["volume"]), name))
            elif event["event"] == "failed":
                onFailed(take_error(event))

        return self.submit(lambda folder: {"do": "labelmap", "model": model, "seed": seed}, take)

    def startVariation(
        self,
        labelNode: Any,
        model: str,
        overrides: Mapping[int | str, str],
        strength: float,
        seed: int,
        onFinished: Callable[[Any], None],
        onFailed: Callable[[UserError], None] = _ignore,
    ) -> Job:
        """Make a label map node of another shape into a new segmentation node.

        ``overrides`` are those of :meth:`startSynthesis`, which raises the same; ``strength`` goes
        from 0 to 1.
        """
        prepared = prepare(labelNode, model, None, overrides)
        manifest = read_manifest(prepared.folder)

        def take(event: Event) -> None:
            if event["event"] == "labelmap":
                name = _("{labels} varied {seed}").format(labels=prepared.name, seed=seed)
                onFinished(add_made(manifest, take_volume(event["volume"]), name))
            elif event["event"] == "failed":
                onFailed(take_error(event))

        return self.submit(lambda files: prepared.variation(files, strength, seed), take)

    def startImport(
        self,
        request: Mapping[str, Any],
        onFinished: Callable[[str], None],
        onFailed: Callable[[UserError], None] = _ignore,
        onCancelled: Callable[[], None] = _ignore,
    ) -> Job:
        """Make a checkpoint of another program a model: a request ``import`` of the protocol.

        ``onFinished`` is called with the model's name. The file is read in the worker alone.
        """

        def take(event: Event) -> None:
            if event["event"] == "imported":
                onFinished(event["model"])
            elif event["event"] == "failed":
                onFailed(take_error(event))
            elif event["event"] == "cancelled":
                onCancelled()

        return self.submit(lambda folder: dict(request), take)

    def cancelAll(self) -> None:
        """Cancel everything that runs or waits."""
        self.client.cancel_all()

    def process(self) -> None:
        """Take what the worker has said; call it often. Never waits."""
        self.client.poll()

    def cleanup(self) -> None:
        """End the worker, cancel what runs, leave no observer, process, file or preview behind."""
        if self._observer is not None:
            self._scene.RemoveObserver(self._observer)
            self._observer = None
        self.client.close()
        self.remove_preview()

    def show_preview(
        self, volumes: Sequence[Volume], ranges: Sequence[tuple[float, float]]
    ) -> list[Any]:
        """Put the current estimate into the preview nodes, which are made when first needed."""
        nodes = []
        for number, (volume, display_range) in enumerate(zip(volumes, ranges, strict=True)):
            node = self._preview_node(number)
            put_voxels(node, volume.array, volume.affine)
            if node.GetDisplayNode() is None:
                show_in_grays(node, display_range)
                node.GetDisplayNode().SetSaveWithScene(False)
            nodes.append(node)
        return nodes

    def remove_preview(self) -> None:
        """Take the preview out of the scene."""
        for node_id in self._preview_ids:
            node = self._scene.GetNodeByID(node_id)
            if node is not None:
                self._scene.RemoveNode(node)
        self._preview_ids = []

    def _preview_node(self, number: int) -> Any:
        if number < len(self._preview_ids):
            node = self._scene.GetNodeByID(self._preview_ids[number])
            if node is not None:
                return node
            del self._preview_ids[number:]
        node = self._scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", PREVIEW_NAME)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        mark_synthetic(node)
        self._preview_ids.append(node.GetID())
        return node

    def submit(
        self, make_request: Callable[[Path], Event], on_event: Callable[[Event], None]
    ) -> Job:
        """Queue a request of the worker. Raises UserError where its files cannot be written."""
        try:
            return self.client.submit(make_request, on_event)
        except OSError as error:
            raise UserError(
                _("The temporary folder {folder} cannot be written ({reason})").format(
                    folder=slicer.app.temporaryPath, reason=error.strerror
                ),
                _("free some space or choose another in Slicer's settings"),
            ) from error

    def _wait(self, until: Callable[[], bool]) -> None:
        while not until():
            self.process()
            slicer.app.processEvents()
            time.sleep(0.005)


def add_made(manifest: Manifest, labels: Volume, name: str) -> Any:
    """A drawn or varied label map as a segmentation node."""
    node, _volume = add_label_map(slicer.mrmlScene, manifest, labels, name)
    return node
