"""The section Synthesize: settings, one button, progress, and the preview in the views."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..compute.errors import UserError
from ..scene.jobs import SynthesisJob
from .gui import allow, say
from .install import cost, install_missing, missing
from .label_panel import LabelPanel
from .model_panel import ModelPanel
from .parameters import MAX_SEED
from .results_panel import LABELS_ROLE
from .runner import Runner
from .views import PreviewLayer

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
        self._cancelling = False
        self._preview = PreviewLayer()
        ui.synthesizeButton.connect("clicked(bool)", self._on_pressed)
        ui.diceButton.connect("clicked(bool)", self._on_dice)
        ui.progressBar.setVisible(False)
        say(ui.statusLabel, "")

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
        button = self._ui.synthesizeButton
        if self.busy:
            button.text = _("Cancel")
            waiting = _("The current step is being stopped.") if self._cancelling else ""
            allow(button, _("Stop; samples that are finished stay."), waiting)
            return
        button.text = _("Synthesize")
        refusal = self._models.refusal or ("" if self._labels.fit.ok else self._labels.fit.sentence)
        allow(button, _("Make a volume from the label map, and watch it appear."), refusal)
        manifest = self._models.manifest
        if manifest is not None and self._parameters is not None:
            steps = self._parameters.quality.steps(manifest.content["sampling"]["steps"])
            text = _("More steps take longer and are more exact; this makes {steps}.")
            self._ui.qualitySelector.toolTip = text.format(steps=steps)

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
        if self._job is not None:
            self._cancelling = True
            self._say(_("Stopping…"))
            self.show()
            self._job.cancel()
            return
        self._say("")
        if missing():
            self._say(cost())
            slicer.app.processEvents()
            if problem := install_missing():
                self._say(problem)
                return
        try:
            self._start()
        except UserError as error:
            self._say(str(error))

    def _start(self) -> None:
        chosen, manifest = self._parameters, self._models.manifest
        if chosen is None or manifest is None:
            return
        label_node = chosen.label_node
        job = self._runner.start_synthesis(
            label_node,
            model=chosen.model,
            samples=chosen.samples,
            seed=chosen.seed,
            steps=chosen.quality.steps(manifest.content["sampling"]["steps"]),
            sampler=chosen.sampler.value or None,
            guidance=chosen.guidance or None,
            device=chosen.device.value,
            labels=self._labels.fit.told,
        )
        samples = chosen.samples

        def on_progress(sample: int, step: int, steps: int) -> None:
            self._show_progress(sample, samples, step, steps)

        job.onProgress = on_progress
        job.onPreview = lambda nodes: self._preview.show(nodes[0])
        job.onSample = lambda nodes: self._remember(nodes, label_node)
        job.onFinished = lambda nodes: self._on_end(nodes, "")
        job.onFailed = lambda message: self._on_end(job.volumes, message)
        job.onCancelled = lambda: self._on_end(job.volumes, _("Cancelled."))
        self._job = job
        self._ui.progressBar.setRange(0, 0)
        self._ui.progressBar.setVisible(True)
        self._say(" ".join((*job.warnings, _("Loading the model…"))))
        self._on_started(label_node)
        self.show()

    @staticmethod
    def _remember(nodes: list[Any], label_node: Any) -> None:
        """Let each result know its label map, also in a saved scene."""
        for node in nodes:
            if label_node is not None and label_node.GetScene() is not None:
                node.SetNodeReferenceID(LABELS_ROLE, label_node.GetID())

    def _show_progress(self, sample: int, samples: int, step: int, steps: int) -> None:
        done = (sample + step / steps) / samples
        self._ui.progressBar.setRange(0, PROGRESS_STEPS)
        self._ui.progressBar.value = round(done * PROGRESS_STEPS)
        if not self._cancelling:
            text = _("Sample {sample} of {samples}, step {step} of {steps}")
            self._say(text.format(sample=sample + 1, samples=samples, step=step, steps=steps))

    def _on_end(self, nodes: list[Any], message: str) -> None:
        kept = [node for node in nodes if node.GetScene() is not None]
        if kept:
            self._preview.keep_place()
        warnings = self._job.warnings if self._job else ()
        self._finish(" ".join((*warnings, message)).strip())
        if kept:
            self._on_volumes(kept)

    def _finish(self, sentence: str) -> None:
        self._job = None
        self._cancelling = False
        self._preview.restore()
        self._ui.progressBar.setVisible(False)
        self._say(sentence)
        self.show()

    def _say(self, sentence: str) -> None:
        say(self._ui.statusLabel, sentence)
