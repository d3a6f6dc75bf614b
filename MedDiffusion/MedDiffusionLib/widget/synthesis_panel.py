"""The section Synthesize: settings, one button, progress, and the preview in the views."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from ..bundles.manifest import Manifest
from ..compute.errors import UserError
from ..scene.jobs import SynthesisJob
from ..scene.label_maps import label_map_state
from ..scene.synthetic import (
    ATTRIBUTE,
    LABEL_MAP_STATE,
    LABEL_OVERRIDES,
    LABELS_ROLE,
    NO_LABEL_MAP,
    overrides_text,
)
from ..scene.volumes import results
from ..synthesis.settings import Settings
from .gui import say, show_control
from .install import ensure_installed, installed, reinstall
from .label_panel import LabelPanel
from .model_panel import ModelPanel
from .presenters.again import LABELS, OVERRIDES, STATE, Again, Source, what_remains
from .presenters.choices import MAX_SEED
from .presenters.pace import Pace, about
from .presenters.synthesis import Press, Synthesis, cancelled, quality_tip, settings
from .remembered import Seconds
from .runner import Runner
from .views import PreviewLayer
from .wording import _, sentence

PROGRESS_STEPS = 1000
NO_SOURCE = Source("", NO_LABEL_MAP, overrides_text({}))
"""What a volume is made from that is made without a label map."""


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
        self._pace = Pace(Seconds(), time.monotonic)
        self._preview = PreviewLayer()
        ui.synthesizeButton.connect("clicked(bool)", self._on_pressed)
        ui.diceButton.connect("clicked(bool)", self._on_dice)
        ui.reinstallButton.connect("clicked(bool)", self._on_reinstall)
        ui.advancedSection.connect("contentsCollapsed(bool)", self._on_advanced)
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
        self._ui.synthesisSection.text = self._synthesis.title(model)
        self._ui.guidanceSpinBox.enabled = model.takes_labels
        if model.manifest is not None and self._parameters is not None:
            tip = quality_tip(self._parameters.quality, model.manifest)
            self._ui.qualitySelector.toolTip = tip
            say(self._ui.timeLabel, about(self._seconds(model.manifest)))

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

    def _on_advanced(self, collapsed: bool) -> None:
        if not collapsed:
            say(self._ui.packagesLabel, installed())

    def _on_reinstall(self) -> None:
        logic = self._runner.scene_logic
        if logic.busy:
            self._say(_("PyTorch is in use: wait for the volume, or cancel it."))
            return
        logic.client.rest()
        reinstall(self._say)
        self._on_advanced(collapsed=False)

    def _on_pressed(self) -> None:
        press = self._synthesis.press()
        self._show_progress()
        if press is Press.CANCEL and self._job is not None:
            self.show()
            self._job.cancel()
        elif ensure_installed(self._say):
            try:
                self._start_or_choose()
            except UserError as error:
                self._say(sentence(error))

    def _start_or_choose(self) -> None:
        """Make what is not there yet; where all is, choose it."""
        chosen, manifest = self._parameters, self._models.chosen.manifest
        if chosen is None or manifest is None:
            return
        if chosen.new_seed:
            self._on_dice()
        there = self._what_remains(manifest)
        if there.settings is not None:
            self._start(there.settings, manifest)
        else:
            nodes = results()
            self._on_volumes([nodes[index] for index in there.found])
            self._say(there.sentence)

    def _what_remains(self, manifest: Manifest) -> Again:
        chosen = self._parameters
        source = NO_SOURCE
        if manifest.labels:
            node = chosen.label_node
            overrides = overrides_text(self._labels.fit.overrides)
            source = Source(node.GetID(), label_map_state(node), overrides)
        wanted = settings(chosen, manifest)
        return what_remains(
            wanted, manifest, source, chosen.device.value, [_recipe(one) for one in results()]
        )

    def _seconds(self, manifest: Manifest) -> float | None:
        """About how long what is chosen would take."""
        chosen = self._parameters
        try:
            wanted = settings(chosen, manifest).resolve(manifest)
        except UserError:
            return None
        return self._pace.seconds(manifest.name, chosen.device.value, wanted)

    def _start(self, wanted: Settings, manifest: Manifest) -> None:
        chosen = self._parameters
        label_node = chosen.label_node if manifest.labels else None
        if manifest.labels:
            job = self._runner.start_synthesis(
                label_node,
                model=chosen.model,
                settings=wanted,
                device=chosen.device.value,
                overrides=self._labels.fit.overrides,
            )
        else:
            job = self._runner.start_generation(chosen.model, wanted, chosen.device.value)
        job.onProgress = self._on_step
        job.onPreview = lambda nodes: self._preview.show(nodes[0])
        job.onFinished = lambda nodes: self._on_end(nodes, "")
        job.onFailed = lambda error: self._on_end(job.volumes, sentence(error))
        job.onCancelled = lambda: self._on_end(job.volumes, cancelled())
        self._job = job
        self._synthesis.started(wanted.samples, job.warnings)
        self._pace.started(manifest.name, chosen.device.value, wanted.resolve(manifest))
        self._show_progress()
        self._on_started(label_node)
        self.show()

    def _on_step(self, sample: int, step: int, steps: int) -> None:
        self._synthesis.stepped(sample, step, steps)
        self._pace.stepped(sample, step)
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
        self._pace.ended()
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


def _recipe(node: Any) -> dict[str, str | None]:
    """What is known of a result, as ``presenters.again`` names it."""
    names = [name for name in node.GetAttributeNames() if name.startswith(ATTRIBUTE)]
    known = {name.removeprefix(ATTRIBUTE): node.GetAttribute(name) for name in names}
    return {
        **known,
        LABELS: node.GetNodeReferenceID(LABELS_ROLE),
        STATE: node.GetAttribute(LABEL_MAP_STATE),
        OVERRIDES: node.GetAttribute(LABEL_OVERRIDES),
    }
