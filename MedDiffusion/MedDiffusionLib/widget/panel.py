"""The panel: its five sections, and the parameter node that they share."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from .annotation import annotate_views
from .gui import plain_labels
from .label_panel import LabelPanel
from .live_panel import LivePanel
from .model_panel import ModelPanel
from .parameters import parameters_of
from .results_panel import ResultsPanel
from .runner import Runner
from .synthesis_panel import SynthesisPanel
from .training_panel import TrainingPanel


class Panel(VTKObservationMixin):
    """Connects the sections; ``logic`` is the module's, which owns the parameter node."""

    def __init__(self, ui: Any, logic: Any, runner: Runner) -> None:
        VTKObservationMixin.__init__(self)
        plain_labels(ui)
        self._ui = ui
        self._logic = logic
        self.parameters: Any = None
        self._gui_tag: int | None = None
        self._entered = False
        self._showing = False
        self._imported = False
        annotate_views()
        self.models = ModelPanel(ui, runner, self.show)
        self.labels = LabelPanel(ui, runner, self.models, self._on_fit)
        self.results = ResultsPanel(ui)
        self.synthesis = SynthesisPanel(
            ui,
            runner,
            self.models,
            self.labels,
            self._on_synthesis,
            self._on_volumes,
        )
        self.live = LivePanel(ui, runner, self.models, self.labels, lambda: self.synthesis.busy)
        self.training = TrainingPanel(ui, self.models)
        scene = slicer.mrmlScene
        for event, react in (
            (scene.StartCloseEvent, self._on_start_close),
            (scene.EndCloseEvent, self._on_end_close),
            (scene.EndImportEvent, self._on_end_import),
            (scene.EndBatchProcessEvent, self._on_end_batch),
            (scene.NodeAddedEvent, self._on_nodes_changed),
            (scene.NodeRemovedEvent, self._on_nodes_changed),
        ):
            # After the node selectors, which must know the nodes by then.
            self.addObserver(scene, event, react, priority=-10.0)
        self._connect()

    def enter(self) -> None:
        self._entered = True
        self._connect()
        self.models.refresh()
        self.labels.editor.enter()
        self.show()

    def exit(self) -> None:
        """The parameters stay connected: a synthesis goes on while one looks at other modules."""
        self._entered = False
        self.labels.editor.exit()

    def show(self) -> None:
        """Bring every section up to the parameter node."""
        if self._showing:
            return
        self._showing = True
        try:
            self.models.show()
            self.labels.show()
            self.results.show()
            self.synthesis.show()
            self.live.show()
            self.training.show()
        finally:
            self._showing = False

    def cleanup(self) -> None:
        """Leave no observer, job, timer or tool behind; the choices stay in the parameter node.

        Slicer's Reload makes a new panel after this one, which finds them there.
        """
        self.models.cleanup()
        self.live.cleanup()
        self.synthesis.cleanup()
        self.training.cleanup()
        self.results.cleanup()
        self._disconnect()
        self.removeObservers()
        self.labels.cleanup()

    def _connect(self) -> None:
        if self.parameters is None:
            parameters = parameters_of(self._logic.getParameterNode())
            self.parameters = parameters
            self._gui_tag = parameters.connectGui(self._ui)
            node = parameters.parameterNode
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_modified)
            self._hand_out(parameters)

    def _disconnect(self) -> None:
        if self.parameters is not None:
            node = self.parameters.parameterNode
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_modified)
            if self._gui_tag is not None:
                self.parameters.disconnectGui(self._gui_tag)
            self.parameters, self._gui_tag = None, None
            self._hand_out(None)

    def _hand_out(self, parameters: Any) -> None:
        for section in (
            self.models,
            self.labels,
            self.results,
            self.synthesis,
            self.live,
            self.training,
        ):
            section.set_parameters(parameters)

    def _on_modified(self, _caller: Any, _event: Any) -> None:
        self.show()

    def _on_fit(self) -> None:
        if not self._showing:
            self.synthesis.show()
            self.results.show()  # Its rows say whether the label map has changed.

    def _on_synthesis(self, label_node: Any) -> None:
        """A synthesis has started."""
        self.live.step_aside()
        self.results.show_label_outlines(label_node)

    def _on_volumes(self, nodes: list[Any]) -> None:
        """A synthesis has ended, or what it would make is there already."""
        self.live.step_aside()
        self.results.choose(nodes[0])

    def _on_nodes_changed(self, _caller: Any, _event: Any) -> None:
        scene = slicer.mrmlScene
        if not scene.IsBatchProcessing() and self.parameters is not None:
            self.labels.on_nodes_changed()
            self.results.show()

    def _on_start_close(self, _caller: Any, _event: Any) -> None:
        self._disconnect()
        self.labels.editor.on_start_close()

    def _on_end_import(self, caller: Any, event: Any) -> None:
        """A scene was loaded, maybe with a parameter node of its own."""
        self._imported = True
        self._on_end_batch(caller, event)

    def _on_end_batch(self, caller: Any, event: Any) -> None:
        """A bundle's nodes are only shown by the selectors once all of it is read."""
        if self._imported and not slicer.mrmlScene.IsBatchProcessing():
            self._imported = False
            self._on_end_close(caller, event)
        else:
            self._on_nodes_changed(caller, event)

    def _on_end_close(self, _caller: Any, _event: Any) -> None:
        self.training.on_end_close()
        self._disconnect()
        self._connect()
        if self._entered:
            self.labels.editor.enter()
