"""The section Label map: choose, make or draw one, and see whether it fits the model."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from ..bundles.manifest import Manifest
from ..compute.errors import UserError
from ..scene.canvas import draw_on, is_scan, new_canvas
from ..scene.geometry import world_affine
from ..scene.label_maps import drawn_labels
from .editor import Editor
from .examples import add_example, example_for
from .gui import show_control, show_controls
from .install import ensure_installed
from .label_table import LabelTable
from .model_panel import ModelPanel
from .presenters.choices import MAX_SEED
from .presenters.fit import Drawn, Fit, describe_fit
from .presenters.label_map import VARIATION, Scan, controls, editor_control, not_a_scan
from .presenters.overrides import make_table
from .runner import Runner
from .views import composite_nodes, show_label_map, show_new_label_map
from .wording import _, plain, sentence

FIT_MILLISECONDS = 300
"""The label map is looked at so long after it changed, at most that often."""


class LabelPanel(VTKObservationMixin):
    """Keeps the chosen label map in the parameter node and in the segment editor."""

    def __init__(
        self, ui: Any, runner: Runner, models: ModelPanel, on_changed: Callable[[], None]
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._ui = ui
        self._runner = runner
        self._models = models
        self._on_changed = on_changed
        self._parameters: Any = None
        self._observed: Any = None
        self._shown: Any = None
        self._drawing = False
        self._looked: tuple[Any, ...] = ()
        self.fit = Fit(False, "")
        self.on_stroke: Callable[[], None] = lambda: None
        """Called whenever the label map changes, also in the middle of a stroke."""
        self.editor = Editor(ui.editorSection)
        self._table = LabelTable(ui, self._on_overrides)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(FIT_MILLISECONDS)
        self._timer.connect("timeout()", self.look)
        self._nodes_timer = qt.QTimer()
        self._nodes_timer.setSingleShot(True)
        self._nodes_timer.setInterval(0)
        self._nodes_timer.connect("timeout()", self._look_for_a_scan)
        ui.newCanvasButton.connect("clicked(bool)", self._on_new_canvas)
        ui.drawOnScanButton.connect("clicked(bool)", self._on_draw_on_scan)
        ui.exampleButton.connect("clicked(bool)", self._on_example)
        ui.randomButton.connect("clicked(bool)", self._on_random)
        ui.varyButton.connect("clicked(bool)", self._on_vary)

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is None:
            self._drawing = False  # It is cancelled with the scene.
        # A scene that was just loaded shows what it showed when it was saved.
        self._shown = parameters.label_node if parameters else None
        self.show()
        self._nodes_timer.start()

    def on_nodes_changed(self) -> None:
        """Nodes came or went; those that came are complete once what loads them is done."""
        self._nodes_timer.start()

    def show(self) -> None:
        """Bring the section up to the parameter node."""
        node = self._parameters.label_node if self._parameters else None
        self._ui.labelSection.setVisible(self._models.chosen.takes_labels)
        self._observe(node)
        if node is not self._shown:
            self._shown = node
            if node is not None:
                show_label_map(node)
        self._show_buttons()
        if self._looked != self._to_look_at():
            self.look()

    def look(self) -> None:
        """Say whether the label map fits the model."""
        self._timer.stop()
        self._looked = self._to_look_at()
        model, overrides = self._models.chosen, self._overrides()
        if model.manifest is None:
            self.fit = Fit(False, model.refusal)
        elif not model.takes_labels:
            self.fit = Fit(False, "")
        else:
            self.fit = describe_fit(drawn_in(self._observed), model.manifest, overrides)
        self._table.show(make_table(self.fit, model.manifest), overrides)
        self._show_buttons()
        self._say(self.fit.text)
        self._on_changed()

    def look_now(self) -> Fit:
        """The fit of what is drawn now, where it has changed since it was looked at."""
        if self._timer.active:
            self.look()
        return self.fit

    def cleanup(self) -> None:
        self._timer.stop()
        self._timer.disconnect("timeout()", self.look)
        self._nodes_timer.stop()
        self._nodes_timer.disconnect("timeout()", self._look_for_a_scan)
        self.removeObservers()
        self.editor.cleanup()

    def _observe(self, node: Any) -> None:
        if node is not self._observed:
            self.removeObservers()
            self._observed = node
            for event in _events(node):
                self.addObserver(node, event, self._on_node_changed)
        is_segmentation = isinstance(node, slicer.vtkMRMLSegmentationNode)
        drawable = is_segmentation and self._models.chosen.takes_labels
        self.editor.edit(node if drawable else None)
        show_control(self._ui.editorSection, editor_control(is_segmentation))

    def _overrides(self) -> dict[str, str]:
        return dict(self._parameters.overrides) if self._parameters else {}

    def _to_look_at(self) -> tuple[Any, ...]:
        return self._observed, self._models.chosen, self._overrides()

    def _on_overrides(self, overrides: dict[str, str]) -> None:
        if self._parameters is not None:
            self._parameters.overrides = overrides

    def _on_node_changed(self, _caller: Any, _event: Any) -> None:
        if not self._timer.active:
            self._timer.start()
        self.on_stroke()

    def _show_buttons(self) -> None:
        model = self._models.chosen
        has_example = model.manifest is not None and example_for(model.manifest.name) is not None
        show_controls(self._ui, controls(model, has_example, self._drawing, self._scan(), self.fit))

    def _scan(self) -> Scan:
        """The chosen scan, and what is wrong with it."""
        node = self._parameters.scan if self._parameters else None
        if node is None:
            return Scan(others=bool(scans()))
        if not is_scan(node):
            return Scan(node.GetName(), not_a_scan(node.GetName()))
        return Scan(node.GetName(), transform_problem(node))

    def _look_for_a_scan(self) -> None:
        """Choose a scan where none is: the one in the views, or the one that was loaded last."""
        if self._parameters is None:
            return
        if self._parameters.scan is None and (found := scans()):
            shown = {composite.GetBackgroundVolumeID() for composite in composite_nodes()}
            in_views = [node for node in found if node.GetID() in shown]
            self._parameters.scan = (in_views or found)[-1]
        self._show_buttons()

    def _on_new_canvas(self) -> None:
        manifest = self._models.chosen.manifest
        if manifest is None:
            return
        name = _("{model} labels").format(model=manifest.name)
        node, _volume = new_canvas(slicer.mrmlScene, manifest, name)
        self._take(node)
        self._start_to_draw(manifest)

    def _on_draw_on_scan(self) -> None:
        manifest, scan = self._models.chosen.manifest, self._parameters.scan
        if manifest is None or scan is None:
            return
        name = _("{scan} {model} labels").format(scan=scan.GetName(), model=manifest.name)
        try:
            self._take(draw_on(slicer.mrmlScene, manifest, scan, name))
        except UserError as error:
            self._say(sentence(error))
            return
        self._start_to_draw(manifest)

    def _start_to_draw(self, manifest: Manifest) -> None:
        self._ui.editorSection.collapsed = False
        self.editor.widget.setCurrentSegmentID(manifest.labels[0].name)

    def _on_example(self) -> None:
        manifest = self._models.chosen.manifest
        example = example_for(manifest.name) if manifest else None
        if manifest is None or example is None:
            return
        try:
            self._take(add_example(manifest, *example))
        except UserError as error:
            self._say(sentence(error))
        except RuntimeError as error:
            self._say(str(error))

    def _on_random(self) -> None:
        if not ensure_installed(self._say):
            return
        seed = secrets.randbelow(MAX_SEED + 1)
        try:
            self._runner.start_random_label_map(
                self._parameters.model, seed, self._on_drawn, self._on_draw_failed
            )
        except UserError as error:
            self._say(sentence(error))
            return
        self._drawing = True
        self._say(_("A label map is being drawn…"))
        self._show_buttons()

    def _on_vary(self) -> None:
        if not ensure_installed(self._say):
            return
        parameters = self._parameters
        try:
            self._runner.start_variation(
                parameters.label_node, parameters.model, self.look_now().overrides, VARIATION,
                secrets.randbelow(MAX_SEED + 1), self._on_drawn, self._on_draw_failed,
            )  # fmt: skip
        except UserError as error:
            self._say(sentence(error))
            return
        self._drawing = True
        self._say(_("A label map is being drawn…"))
        self._show_buttons()

    def _on_drawn(self, node: Any) -> None:
        self._drawing = False
        self._take(node)
        self._show_buttons()

    def _on_draw_failed(self, error: UserError) -> None:
        self._drawing = False
        self._show_buttons()
        self._say(sentence(error))

    def _take(self, node: Any) -> None:
        """Choose a new segmentation and show it in the middle of the views."""
        if self._parameters is not None:
            self._shown = node
            self._parameters.label_node = node
        show_new_label_map(node)

    def _say(self, text: str) -> None:
        self._ui.fitLabel.text = plain(text)


def drawn_in(node: Any) -> Drawn | None:
    """A quick look at a label map node; None where there is none."""
    if node is None:
        return None
    if problem := transform_problem(node):
        return Drawn(node.GetName(), problem=problem)
    return Drawn(node.GetName(), *drawn_labels(node))


def transform_problem(node: Any) -> str:
    """Why nothing can be made where a node lies, in a sentence; empty where it can."""
    try:
        world_affine(node, np.eye(4))
    except UserError as error:
        return sentence(error)
    return ""


def scans() -> list[Any]:
    """The volumes of the scene that one may want to draw on, the oldest first."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in volumes if is_scan(node)]


def _events(node: Any) -> tuple[int, ...]:
    if isinstance(node, slicer.vtkMRMLSegmentationNode):
        segmentation = slicer.vtkSegmentation
        return (
            segmentation.SourceRepresentationModified,
            segmentation.SegmentAdded,
            segmentation.SegmentRemoved,
            segmentation.SegmentModified,
            slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
        )
    if node is not None:
        return (
            slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
            slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
            vtk.vtkCommand.ModifiedEvent,
        )
    return ()
