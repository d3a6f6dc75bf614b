"""The section Label map: choose, make or draw one, and see whether it fits the model."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..compute.errors import UserError
from ..scene.canvas import new_canvas
from .editor import Editor
from .examples import add_example, example_for
from .fit import Fit, describe_fit
from .gui import allow
from .install import cost, install_missing, missing
from .label_table import LabelTable
from .model_panel import ModelPanel
from .parameters import MAX_SEED
from .runner import Runner
from .views import show_volume, source_volume

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
        self._drawing = False
        self._looked: tuple[Any, ...] = ()
        self.fit = Fit(False, "")
        self.editor = Editor(ui.editorSection.layout())
        self._table = LabelTable(ui, self._on_told)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(FIT_MILLISECONDS)
        self._timer.connect("timeout()", self.look)
        ui.newCanvasButton.connect("clicked(bool)", self._on_new_canvas)
        ui.exampleButton.connect("clicked(bool)", self._on_example)
        ui.randomButton.connect("clicked(bool)", self._on_random)

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is None:
            self._drawing = False  # It is cancelled with the scene.
        self.show()

    def show(self) -> None:
        """Bring the section up to the parameter node."""
        self._observe(self._parameters.label_node if self._parameters else None)
        self._allow_buttons()
        if self._looked != self._to_look_at():
            self.look()

    def look(self) -> None:
        """Say whether the label map fits the model."""
        self._timer.stop()
        self._looked = self._to_look_at()
        manifest, told = self._models.manifest, self._told()
        if self._parameters is None:
            self.fit = Fit(False, "")
        elif manifest is None:
            self.fit = Fit(False, self._models.refusal)
        else:
            self.fit = describe_fit(self._observed, manifest, told)
        self._table.show(self.fit, manifest, told)
        self._ui.fitLabel.text = ("✓ " if self.fit.ok else "") + self.fit.sentence
        self._on_changed()

    def cleanup(self) -> None:
        self._timer.stop()
        self._timer.disconnect("timeout()", self.look)
        self.removeObservers()
        self.editor.cleanup()

    def _observe(self, node: Any) -> None:
        if node is not self._observed:
            self.removeObservers()
            self._observed = node
            for event in _events(node):
                self.addObserver(node, event, self._on_node_changed)
        is_segmentation = isinstance(node, slicer.vtkMRMLSegmentationNode)
        self.editor.edit(node if is_segmentation else None)
        allow(
            self._ui.editorSection,
            _("Draw the labels, in the slice views."),
            "" if is_segmentation else _("Only a segmentation can be drawn in: choose one."),
        )

    def _told(self) -> dict[str, str]:
        return dict(self._parameters.told) if self._parameters else {}

    def _to_look_at(self) -> tuple[Any, ...]:
        return self._observed, self._models.manifest, self._models.refusal, self._told()

    def _on_told(self, told: dict[str, str]) -> None:
        if self._parameters is not None:
            self._parameters.told = told

    def _on_node_changed(self, _caller: Any, _event: Any) -> None:
        if not self._timer.active:
            self._timer.start()

    def _allow_buttons(self) -> None:
        refusal = self._models.refusal
        manifest, folder = self._models.manifest, self._models.folder
        allow(
            self._ui.newCanvasButton,
            _("Make an empty segmentation with the model's labels, and start to draw."),
            refusal,
        )
        no_example = _("There is no example for this model.")
        has_example = manifest is not None and example_for(manifest.name) is not None
        allow(
            self._ui.exampleButton,
            _("Load the label map that comes with the extension: of no patient, made from many."),
            refusal or ("" if has_example else no_example),
        )
        shapes = folder is not None and (folder / "shape.safetensors").is_file()
        busy = _("A label map is being drawn.") if self._drawing else ""
        allow(
            self._ui.randomButton,
            _("Draw a new label map by chance, from the shapes that the model has learned."),
            refusal or busy or ("" if shapes else _("This model has not learned shapes.")),
        )

    def _on_new_canvas(self) -> None:
        manifest = self._models.manifest
        if manifest is None:
            return
        name = _("{model} labels").format(model=manifest.name)
        node, _volume = new_canvas(slicer.mrmlScene, manifest, name)
        self._take(node)
        self._ui.editorSection.collapsed = False
        self.editor.widget.setCurrentSegmentID(manifest.labels[0].name)

    def _on_example(self) -> None:
        manifest = self._models.manifest
        example = example_for(manifest.name) if manifest else None
        if manifest is None or example is None:
            return
        try:
            self._take(add_example(manifest, *example))
        except (UserError, RuntimeError) as error:
            self._ui.fitLabel.text = str(error)

    def _on_random(self) -> None:
        if missing():
            self._ui.fitLabel.text = cost()
            slicer.app.processEvents()
            if problem := install_missing():
                self._ui.fitLabel.text = problem
                return
        seed = secrets.randbelow(MAX_SEED + 1)
        try:
            self._runner.start_random_label_map(
                self._parameters.model, seed, self._on_drawn, self._on_draw_failed
            )
        except UserError as error:
            self._ui.fitLabel.text = str(error)
            return
        self._drawing = True
        self._ui.fitLabel.text = _("A label map is being drawn…")
        self._allow_buttons()

    def _on_drawn(self, node: Any) -> None:
        self._drawing = False
        self._take(node)
        self._allow_buttons()

    def _on_draw_failed(self, message: str) -> None:
        self._drawing = False
        self._allow_buttons()
        self._ui.fitLabel.text = message

    def _take(self, node: Any) -> None:
        """Choose a new segmentation and show it in the middle of the views."""
        if self._parameters is not None:
            self._parameters.label_node = node
        show_volume(source_volume(node), fit=True)


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
