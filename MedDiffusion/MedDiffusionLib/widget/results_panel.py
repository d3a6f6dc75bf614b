"""The section Results: the synthetic volumes of the scene, to look through, compare and keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from ..scene.label_maps import label_map_state
from ..scene.synthetic import ATTRIBUTE, LABEL_MAP_STATE, LABELS_ROLE
from ..scene.volumes import results, save_volume
from .gui import say, show_controls, silenced, waiting
from .presenters.results import (
    Results,
    all_saved,
    delete_question,
    facts,
    file_name,
    free_path,
    name_problem,
    renamed,
    row_text,
    saved,
)
from .rendering import show_rendering
from .views import SideBySide, blend, show_outlines, source_image
from .wording import _, tip

FILE_TYPES = "NRRD (*.nrrd);;NIfTI (*.nii.gz);;MetaImage (*.mha)"


class ResultsPanel:
    """Shows the chosen result as the check boxes say, and keeps both in the parameter node."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._parameters: Any = None
        self._side_by_side = SideBySide()
        self._listed: list[tuple[str, str]] = []
        self._shown: tuple[Any, ...] = ()
        ui.resultList.connect("currentRowChanged(int)", self._on_row)
        ui.resultList.connect("itemSelectionChanged()", self._show_controls)
        ui.previousButton.connect("clicked(bool)", lambda: self._step(-1))
        ui.nextButton.connect("clicked(bool)", lambda: self._step(1))
        ui.renameButton.connect("clicked(bool)", self._on_rename)
        ui.saveButton.connect("clicked(bool)", self._on_save)
        ui.saveAllButton.connect("clicked(bool)", self._on_save_all)
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
        self._show_controls()
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
        return (
            chosen.result.GetID(),
            chosen.outlines,
            chosen.side_by_side,
            chosen.rendering,
            chosen.opacity,
        )

    def _fill(self, nodes: list[Any], current: Any) -> None:
        listed = [(node.GetID(), row_text(node.GetName(), _has_changed(node))) for node in nodes]
        widget = self._ui.resultList
        row = nodes.index(current) if current in nodes else -1
        with silenced(widget):
            if listed != self._listed:
                marked = self._marked()
                self._listed = listed
                widget.clear()
                for node, (node_id, text) in zip(nodes, listed, strict=True):
                    widget.addItem(text)
                    item = widget.item(widget.count - 1)
                    item.setData(qt.Qt.UserRole, node_id)
                    item.setToolTip(tip(_facts(node)))
                widget.currentRow = row
                for number, node in enumerate(nodes):
                    if len(marked) > 1 and node in marked:
                        widget.item(number).setSelected(True)
            elif widget.currentRow != row:  # What is marked beside it stays.
                widget.currentRow = row

    def _show_controls(self) -> None:
        nodes, current = self._listed_now()
        image = source_image(_label_node(current))
        self._ui.resultList.enabled = bool(nodes)
        show_controls(self._ui, self._results(nodes, current).controls(image is not None))

    def _results(self, nodes: list[Any], current: Any) -> Results:
        row = nodes.index(current) if current in nodes else -1
        return Results(len(nodes), row, len(self._ui.resultList.selectedItems()))

    def _listed_now(self) -> tuple[list[Any], Any]:
        """The nodes to list, and the chosen one; none of them without a parameter node."""
        if self._parameters is None:
            return [], None
        return results(), self._parameters.result

    def _marked(self) -> list[Any]:
        """The nodes that are marked in the list, in its order."""
        items = self._ui.resultList.selectedItems()
        ids = {item.data(qt.Qt.UserRole) for item in items}
        return [node for node in results() if node.GetID() in ids]

    def _show_in_views(self, node: Any) -> None:
        labels = _label_node(node)
        image = source_image(labels)
        if self._parameters.side_by_side and image is not None:
            self._side_by_side.show(image, node)
        else:
            self._side_by_side.end()
            blend(node, image, self._parameters.opacity / 100)
        self.show_label_outlines(labels)
        for other in results():
            show_rendering(other, self._parameters.rendering and other is node)

    def _on_row(self, row: int) -> None:
        item = self._ui.resultList.item(row)
        if self._parameters is not None and item is not None:
            self._parameters.result = slicer.mrmlScene.GetNodeByID(item.data(qt.Qt.UserRole))

    def _step(self, by: int) -> None:
        nodes, current = self._listed_now()
        row = self._results(nodes, current).step(by)
        if row is not None:
            self._parameters.result = nodes[row]

    def _on_rename(self) -> None:
        node = self._parameters.result
        text = qt.QInputDialog.getText(
            slicer.util.mainWindow(),
            _("Rename the volume"),
            _("Name:"),
            qt.QLineEdit.Normal,
            node.GetName(),
        )
        node.SetName(renamed(text or "", node.GetName()))
        self.show()

    def _on_save(self) -> None:
        node = self._parameters.result
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the volume"), file_name(node.GetName()), FILE_TYPES
        )
        if path:
            self._say(name_problem(path) or saved(path, _save(node, path)))

    def _on_save_all(self) -> None:
        marked = self._marked()
        nodes = marked if len(marked) > 1 else results()
        title = _("Choose a folder for the volumes")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if not folder:
            return
        written: list[Path] = []
        for node in nodes:
            path = free_path(Path(folder), file_name(node.GetName()), written)
            if _save(node, str(path)):
                written.append(path)
        self._say(all_saved(folder, len(written), len(nodes)))

    def _on_delete(self) -> None:
        nodes, node = self._listed_now()
        marked = self._marked()
        gone = marked if len(marked) > 1 else [node]
        if len(gone) > 1 and not slicer.util.confirmOkCancelDisplay(delete_question(len(gone))):
            return
        row = self._results(nodes, node).after_deletion([nodes.index(one) for one in gone])
        remaining = [other for other in nodes if other not in gone]
        for one in gone:
            _remove(one)
        self._parameters.result = None if row is None else remaining[row]
        self._say("")

    def _say(self, sentence: str) -> None:
        say(self._ui.resultStatus, sentence)


def _label_node(node: Any) -> Any:
    return node.GetNodeReference(LABELS_ROLE) if node is not None else None


def _has_changed(node: Any) -> bool:
    """Whether the label map of a result is there, and is not what it was made from any more."""
    before, labels = node.GetAttribute(LABEL_MAP_STATE), _label_node(node)
    return bool(before) and labels is not None and label_map_state(labels) != before


def _save(node: Any, path: str) -> bool:
    with waiting():
        return save_volume(node, path)


def _remove(node: Any) -> None:
    """Take a result out of the scene, with all that is its own."""
    rendering = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(node)
    parts = [node.GetDisplayNode(), node.GetStorageNode()]
    if rendering is not None:
        parts += [rendering.GetROINode(), rendering.GetVolumePropertyNode(), rendering]
    for part in (*parts, node):
        if part is not None and part.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(part)


def _facts(node: Any) -> str:
    names = node.GetAttributeNames()
    return facts({name: node.GetAttribute(name) for name in names}, ATTRIBUTE)
