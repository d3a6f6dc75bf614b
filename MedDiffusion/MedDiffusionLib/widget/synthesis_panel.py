"""The section Synthesize: settings, one button, progress, and the preview in the views."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from ..compute.errors import UserError
from ..scene.jobs import SynthesisJob
from ..scene.synthetic import LABELS_ROLE
from .gui import say, show_control
from .install import ensure_installed
from .label_panel import LabelPanel
from .model_panel import ModelPanel
from .presenters.choices import MAX_SEED
from .presenters.synthesis import Press, Synthesis, cancelled, quality_tip, settings
from .runner import Runner
from .views import PreviewLayer
from .wording import sentence

PROGRESS_STEPS = 1000


class SynthesisPanel:
    """Runs one synthesis at a time; ``on_started`` and ``on_volumes`` tell of it."""

    def __init__(
        self,
        ui: Any,
        runner: Runner,
        models: ModelPanel,
        labels: LabelPanel,
        on_started: Callable[[Any], None],
        on_volumes: Callable[[list[Any]], None],
    ) -> None:
        self._ui = ui
        self._runner = runner
        self._models = models
        self._labels = labels
        self._on_started = on_started
        self._on_volumes = on_volumes
        self._parameters: Any = None
        self._job: SynthesisJob | None = None
        self._synthesis = Synthesis()
        self._preview = PreviewLayer()
        ui.synthesizeButton.connect("clicked(bool)", self._on_pressed)
        ui.diceButton.connect("clicked(bool)", self._on_dice)
        self._show_progress()

    @property
    def busy(self) -> bool:
        return self._job is not None

    def set_parameters(self, parameters: Any) -> None:
        self._parameters = parameters
        if parameters is None:
            self._preview.forget()
        self.show()

    def show(self) -> None:
        """Bring the button up to what can be done now."""
        model = self._models.chosen
        button = self._synthesis.button(model, self._labels.fit)
        show_control(self._ui.synthesizeButton, button)
        if model.manifest is not None and self._parameters is not None:
            tip = quality_tip(self._parameters.quality, model.manifest)
            self._ui.qualitySelector.toolTip = tip

    def cleanup(self) -> None:
        """Let go of a job that runs on: its end must not reach a panel that is gone."""
        if self._job is not None:
            job = self._job
            self._finish("")
            job.onCancelled = lambda: None
            job.cancel()

    def _on_dice(self) -> None:
        if self._parameters is not None:
            self._parameters.seed = secrets.randbelow(MAX_SEED + 1)

    def _on_pressed(self) -> None:
        press = self._synthesis.press()
        self._show_progress()
        if press is Press.CANCEL and self._job is not None:
            self.show()
            self._job.cancel()
        elif ensure_installed(self._say):
            try:
                self._start()
            except UserError as error:
                self._say(sentence(error))

    def _start(self) -> None:
        chosen, manifest = self._parameters, self._models.chosen.manifest
        if chosen is None or manifest is None:
            return
        label_node = chosen.label_node
        job = self._runner.start_synthesis(
            label_node,
            model=chosen.model,
            settings=settings(chosen, manifest),
            device=chosen.device.value,
            overrides=self._labels.fit.overrides,
        )
        job.onProgress = self._on_step
        job.onPreview = lambda nodes: self._preview.show(nodes[0])
        job.onSample = lambda nodes: self._remember(nodes, label_node)
        job.onFinished = lambda nodes: self._on_end(nodes, "")
        job.onFailed = lambda error: self._on_end(job.volumes, sentence(error))
        job.onCancelled = lambda: self._on_end(job.volumes, cancelled())
        self._job = job
        self._synthesis.started(chosen.samples, job.warnings)
        self._show_progress()
        self._on_started(label_node)
        self.show()

    @staticmethod
    def _remember(nodes: list[Any], label_node: Any) -> None:
        """Let each result know its label map, also in a saved scene."""
        for node in nodes:
            if label_node is not None and label_node.GetScene() is not None:
                node.SetNodeReferenceID(LABELS_ROLE, label_node.GetID())

    def _on_step(self, sample: int, step: int, steps: int) -> None:
        self._synthesis.stepped(sample, step, steps)
        self._show_progress()

    def _on_end(self, nodes: list[Any], message: str) -> None:
        kept = [node for node in nodes if node.GetScene() is not None]
        if kept:
            self._preview.keep_place()
        self._finish(message)
        if kept:
            self._on_volumes(kept)

    def _finish(self, message: str) -> None:
        self._job = None
        self._synthesis.ended(message)
        self._preview.restore()
        self._show_progress()
        self.show()

    def _say(self, text: str) -> None:
        self._synthesis.sentence = text
        self._show_progress()

    def _show_progress(self) -> None:
        bar, progress = self._ui.progressBar, self._synthesis.progress
        bar.setVisible(self._synthesis.running)
        bar.setRange(0, 0 if progress is None else PROGRESS_STEPS)
        bar.value = round((progress or 0.0) * PROGRESS_STEPS)
        say(self._ui.statusLabel, self._synthesis.sentence)
