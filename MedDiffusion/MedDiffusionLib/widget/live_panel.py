"""The check box Live: while it is on, each finished stroke makes the volume anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from ..compute.errors import UserError
from ..scene.label_maps import label_map_state
from ..scene.live import LiveVolume
from .gui import say, show_control, silenced
from .install import ensure_installed
from .label_panel import LabelPanel
from .model_panel import ModelPanel
from .presenters.live import Live, live_settings
from .runner import Runner
from .views import PreviewLayer, composite_nodes, show_filled, show_outlines
from .wording import sentence

STROKE_MILLISECONDS = 30
"""A stroke is finished when its label map has not changed for so long."""


class LivePanel:
    """Lends the slice views to one volume that follows the label map, and gives them back.

    Turned off, the views show again what they showed before: the live volume is of preview
    quality, and not kept. ``is_working`` tells whether a synthesis runs, which goes first.
    """

    def __init__(
        self,
        ui: Any,
        runner: Runner,
        models: ModelPanel,
        labels: LabelPanel,
        is_working: Callable[[], bool],
    ) -> None:
        self._ui = ui
        self._runner = runner
        self._models = models
        self._labels = labels
        self._is_working = is_working
        self._parameters: Any = None
        self._live = Live()
        self._volume = LiveVolume(runner.scene_logic)
        self._volume.on_made = self._on_made
        self._volume.on_failed = self._on_failed
        self._layer = PreviewLayer()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(STROKE_MILLISECONDS)
        self._timer.connect("timeout()", self._make)
        labels.on_stroke = self._on_stroke
        ui.liveCheck.connect("toggled(bool)", self._on_toggled)
        self.show()

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is None:
            self._layer.forget()  # The views of a scene that closes, or was closed.
            self._turn(False)
        self.show()

    def show(self) -> None:
        """Bring the check box up to what can be done now; what was chosen anew is made anew."""
        has_labels = self._parameters is not None and self._parameters.label_node is not None
        model = self._models.chosen
        if not model.takes_labels:
            self._turn(False)
        show_control(self._ui.liveCheck, self._live.control(model, has_labels, self._is_working()))
        with silenced(self._ui.liveCheck):
            self._ui.liveCheck.checked = self._live.on
        say(self._ui.liveStatus, self._live.sentence)
        if self._live.on:
            self._timer.start()

    def step_aside(self) -> None:
        """Give the views back, to a synthesis or its result; the next stroke takes them again."""
        self._timer.stop()
        self._layer.restore()
        self._volume.remove()
        self._live.skip(self._state())

    def cleanup(self) -> None:
        self._turn(False)
        self._timer.disconnect("timeout()", self._make)
        self._labels.on_stroke = lambda: None
        self._parameters = None

    def _on_toggled(self, on: bool) -> None:
        if not on or ensure_installed(self._say):
            self._turn(on)
        self.show()

    def _turn(self, on: bool) -> None:
        if on == self._live.on:
            return
        self._live.turn(on)
        self._labels.editor.fills = not on
        if not on:
            self.step_aside()
            if self._labels.editor.active and self._parameters is not None:
                show_filled(self._parameters.label_node)

    def _on_stroke(self) -> None:
        if self._live.on:
            self._timer.start()

    def _make(self) -> None:
        """Make the volume of what is drawn now, if that is not what it shows."""
        chosen, manifest, state = self._parameters, self._models.chosen.manifest, self._state()
        if state is None or manifest is None or self._is_working():
            return
        if self._live.wants(self._labels.look_now(), state):
            try:
                self._runner.make_live(
                    self._volume,
                    chosen.label_node,
                    chosen.model,
                    live_settings(manifest, chosen.seed),
                    chosen.device.value,
                    self._labels.fit.overrides,
                )
                self._live.started(state)
            except UserError as error:
                self._live.failed(sentence(error))
        say(self._ui.liveStatus, self._live.sentence)

    def _state(self) -> object:
        """All that the volume would be made from now; None where there is nothing to make."""
        chosen = self._parameters
        if not self._live.on or chosen is None or chosen.label_node is None:
            return None
        node = chosen.label_node
        overrides = tuple(chosen.overrides.items())
        state = label_map_state(node)
        return node.GetID(), state, chosen.model, chosen.seed, chosen.device, overrides

    def _on_made(self, node: Any) -> None:
        self._live.made()
        if all(c.GetBackgroundVolumeID() != node.GetID() for c in composite_nodes()):
            self._layer.forget()  # Something else was shown meanwhile: that is what comes back.
            self._layer.show(node)
            self._layer.keep_place()
            if self._parameters.label_node is not None:
                show_outlines(self._parameters.label_node, True)
        say(self._ui.liveStatus, self._live.sentence)

    def _on_failed(self, error: UserError) -> None:
        self._live.failed(sentence(error))
        say(self._ui.liveStatus, self._live.sentence)

    def _say(self, text: str) -> None:
        say(self._ui.liveStatus, text)
        slicer.app.processEvents()
