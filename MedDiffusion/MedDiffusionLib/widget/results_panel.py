"""The section Results: the synthetic volumes of the scene, to look through, compare and keep."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..scene.synthetic import ATTRIBUTE, LABELS_ROLE
from .gui import say, show_controls, silenced
from .presenters.results import Results, facts, saved
from .rendering import show_rendering
from .views import SideBySide, show_outlines, show_volume, source_image
from .wording import _

FILE_TYPES = "NRRD (*.nrrd);;NIfTI (*.nii.gz);;MetaImage (*.mha)"


def results() -> list[Any]:
    """The synthetic volumes of the scene, the oldest first."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in volumes if node.GetAttribute(ATTRIBUTE + "model")]


class ResultsPanel:
    """Shows the chosen result as the check boxes say, and keeps both in the parameter node."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._parameters: Any = None
        self._side_by_side = SideBySide()
        self._listed: list[str] = []
        self._shown: tuple[Any, ...] = ()
        ui.resultList.connect("currentRowChanged(int)", self._on_row)
        ui.previousButton.connect("clicked(bool)", lambda: self._step(-1))
        ui.nextButton.connect("clicked(bool)", lambda: self._step(1))
        ui.saveButton.connect("clicked(bool)", self._on_save)
        ui.deleteButton.connect("clicked(bool)", self._on_delete)
        say(ui.resultStatus, "")

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is None:
            self._side_by_side.end()
        # A scene that was just loaded shows what it showed when it was saved.
        self._shown = self._wanted()
        self.show()

    def choose(self, node: Any) -> None:
        """Choose a result and show it in the views."""
        if self._parameters is not None:
            self._parameters.result = node
            self._shown = ()
            self.show()

    def show(self) -> None:
        """Bring the section and the views up to the parameter node and the scene."""
        nodes, current = self._listed_now()
        self._fill(nodes, current)
        image = source_image(self._label_node(current))
        show_controls(self._ui, _results(nodes, current).controls(image is not None))
        wanted = self._wanted()
        if wanted != self._shown:
            self._shown = wanted
            if current is not None:
                self._show_in_views(current)

    def show_label_outlines(self, label_node: Any) -> None:
        """As the check box says; also before there is a result, so that the preview is seen."""
        if label_node is not None and self._parameters is not None:
            show_outlines(label_node, self._parameters.outlines)

    def cleanup(self) -> None:
        self._side_by_side.end()
        self._parameters = None

    def _wanted(self) -> tuple[Any, ...]:
        """What the views should show."""
        chosen = self._parameters
        if chosen is None or chosen.result is None:
            return ()
        return chosen.result.GetID(), chosen.outlines, chosen.side_by_side, chosen.rendering

    def _fill(self, nodes: list[Any], current: Any) -> None:
        listed = [f"{node.GetID()} {node.GetName()}" for node in nodes]
        widget = self._ui.resultList
        with silenced(widget):
            if listed != self._listed:
                self._listed = listed
                widget.clear()
                for node in nodes:
                    widget.addItem(node.GetName())
                    item = widget.item(widget.count - 1)
                    item.setData(qt.Qt.UserRole, node.GetID())
                    item.setToolTip(_facts(node))
            widget.currentRow = _results(nodes, current).row

    def _listed_now(self) -> tuple[list[Any], Any]:
        """The nodes to list, and the chosen one; none of them without a parameter node."""
        if self._parameters is None:
            return [], None
        return results(), self._parameters.result

    @staticmethod
    def _label_node(node: Any) -> Any:
        return node.GetNodeReference(LABELS_ROLE) if node is not None else None

    def _show_in_views(self, node: Any) -> None:
        labels = self._label_node(node)
        image = source_image(labels)
        if self._parameters.side_by_side and image is not None:
            self._side_by_side.show(image, node)
        else:
            self._side_by_side.end()
            show_volume(node)
        self.show_label_outlines(labels)
        for other in results():
            show_rendering(other, self._parameters.rendering and other is node)

    def _on_row(self, row: int) -> None:
        item = self._ui.resultList.item(row)
        if self._parameters is not None and item is not None:
            self._parameters.result = slicer.mrmlScene.GetNodeByID(item.data(qt.Qt.UserRole))

    def _step(self, by: int) -> None:
        nodes, current = self._listed_now()
        row = _results(nodes, current).step(by)
        if row is not None:
            self._parameters.result = nodes[row]

    def _on_save(self) -> None:
        node = self._parameters.result
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the volume"), f"{node.GetName()}.nrrd", FILE_TYPES
        )
        if not path:
            return
        self._say(saved(path, slicer.util.saveNode(node, path, {})))

    def _on_delete(self) -> None:
        nodes, node = self._listed_now()
        row = _results(nodes, node).after_deletion()
        remaining = [other for other in nodes if other is not node]
        rendering = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(node)
        parts = [node.GetDisplayNode(), node.GetStorageNode()]
        if rendering is not None:
            parts += [rendering.GetROINode(), rendering.GetVolumePropertyNode(), rendering]
        for part in (*parts, node):
            if part is not None and part.GetScene() is not None:
                slicer.mrmlScene.RemoveNode(part)
        self._parameters.result = None if row is None else remaining[row]
        self._say("")

    def _say(self, sentence: str) -> None:
        say(self._ui.resultStatus, sentence)


def _results(nodes: list[Any], current: Any) -> Results:
    return Results(len(nodes), nodes.index(current) if current in nodes else -1)


def _facts(node: Any) -> str:
    names = node.GetAttributeNames()
    return facts({name: node.GetAttribute(name) for name in names}, ATTRIBUTE)
