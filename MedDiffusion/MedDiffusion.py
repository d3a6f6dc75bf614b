"""MedDiffusion: turns a label map into a synthetic MR or CT volume.

Slicer finds its module here; what it does lies in MedDiffusionLib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

from MedDiffusionLib.scene.jobs import SynthesisJob

DOCUMENTATION = "https://github.com/meddiffusion/MedDiffusion#in-3d-slicer"


class MedDiffusion(ScriptedLoadableModule):
    """What Slicer knows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedDiffusion")
        parent.categories = ["Image Synthesis"]
        parent.dependencies = ["Segmentations", "VolumeRendering", "SampleData"]
        parent.contributors = ["MedDiffusion contributors"]
        parent.helpText = _(
            "Turns a label map into a synthetic MR or CT volume: choose a model, draw or load a "
            "label map, press Synthesize. It works offline. Synthetic volumes are for research, "
            "teaching and software testing, not for diagnosis. The bundled model, and the volumes "
            "that it makes, are licensed under CC BY-SA 4.0."
        )
        parent.helpText += (
            f'<p><a href="{DOCUMENTATION}">{_("Tutorial and troubleshooting")}</a></p>'
        )
        parent.acknowledgementText = _(
            "After Med-DDPM (Dorjsembe et al. 2024, doi:10.1109/JBHI.2024.3385504) and Medical "
            "Diffusion (Khader et al. 2023, Scientific Reports 13:7303). Each model's card names "
            "the data that it was trained on, and its license."
        )
        slicer.app.connect("startupCompleted()", _on_startup)


def _on_startup() -> None:
    """Offer the examples, and mark synthetic volumes, also those that a scene is loaded with."""
    from MedDiffusionLib.widget.annotation import annotate_views
    from MedDiffusionLib.widget.examples import register_sample_data

    register_sample_data()
    annotate_views()


class MedDiffusionWidget(ScriptedLoadableModuleWidget):
    """The module's panel; MedDiffusionLib.widget.panel does the work."""

    def setup(self) -> None:
        from MedDiffusionLib.widget.panel import Panel
        from MedDiffusionLib.widget.runner import shared_runner

        ScriptedLoadableModuleWidget.setup(self)
        form = slicer.util.loadUI(self.resourcePath("UI/MedDiffusion.ui"))
        self.layout.addWidget(form)
        self.ui = slicer.util.childWidgetVariables(form)
        form.setMRMLScene(slicer.mrmlScene)
        self.logic = MedDiffusionLogic()
        self.panel = Panel(self.ui, self.logic, shared_runner())
        if getattr(self.parent, "isEntered", False):  # Reloaded, while it is shown.
            self.panel.enter()

    def enter(self) -> None:
        self.panel.enter()

    def exit(self) -> None:
        self.panel.exit()

    def cleanup(self) -> None:
        self.panel.cleanup()
        self.logic.cleanup()


class MedDiffusionLogic(ScriptedLoadableModuleLogic):
    """Syntheses from a script::

        logic = MedDiffusionLogic()
        volumes = logic.synthesize(labelNode, samples=2, seed=7)

    All logics and the panel share one worker process, which keeps the model loaded.
    """

    def startSynthesis(  # noqa: N802
        self,
        labelNode: Any,  # noqa: N803
        model: str = "hippocampus-mr",
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        native: bool = False,
        device: str = "auto",
        segments: Sequence[str] | None = None,
        overrides: Mapping[int | str, str] | None = None,
    ) -> SynthesisJob:
        """Start a synthesis from a segmentation or label map node, and return at once.

        The job has callbacks and ``cancel()``. What the arguments mean is told at
        MedDiffusionLib.scene.jobs.SceneLogic.startSynthesis and
        MedDiffusionLib.synthesis.settings.Settings. Raises compute.errors.UserError where it
        cannot start.
        """
        from MedDiffusionLib.synthesis.settings import Settings
        from MedDiffusionLib.widget.runner import shared_runner

        settings = Settings(samples, seed, steps, sampler, guidance, native)
        runner = shared_runner()
        return runner.start_synthesis(labelNode, model, settings, device, segments, overrides)

    def synthesize(self, labelNode: Any, *arguments: Any, **options: Any) -> list[Any]:  # noqa: N803
        """Make volumes from a segmentation or label map node; waits, but keeps Slicer alive.

        The arguments are those of startSynthesis. Raises compute.errors.UserError when it fails,
        Cancelled when it is cancelled.
        """
        from MedDiffusionLib.widget.runner import shared_runner

        job = self.startSynthesis(labelNode, *arguments, **options)
        return shared_runner().scene_logic.finish(job)

    def generate(
        self,
        model: str,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        device: str = "auto",
    ) -> list[Any]:
        """Make volumes without a label map, by a model that needs none; waits as synthesize."""
        from MedDiffusionLib.synthesis.settings import Settings
        from MedDiffusionLib.widget.runner import shared_runner

        runner = shared_runner()
        job = runner.start_generation(model, Settings(samples, seed, steps, sampler), device)
        return runner.scene_logic.finish(job)

    def cleanup(self) -> None:
        """End the worker process and everything that it does."""
        from MedDiffusionLib.widget.runner import close_runner

        close_runner()


class MedDiffusionTest(ScriptedLoadableModuleTest):
    """The self-test: the whole path, with the bundled model and its example."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def test_synthesis_from_the_example(self) -> None:
        from MedDiffusionLib.bundles.catalog import find_model
        from MedDiffusionLib.bundles.manifest import read_manifest
        from MedDiffusionLib.widget.examples import add_example, example_for
        from MedDiffusionLib.widget.views import source_volume

        model = "hippocampus-mr"
        example = example_for(model)
        assert example is not None
        labels = add_example(read_manifest(find_model(model)), *example)
        self.delayDisplay("The example label map is loaded")
        volumes = MedDiffusionLogic().synthesize(labels, model, samples=1, seed=1, steps=2)
        self.assertEqual(len(volumes), 1)
        compare = slicer.modules.volumes.logic().CompareVolumeGeometry
        self.assertEqual(compare(volumes[0], source_volume(labels)), "")
        self.assertGreater(slicer.util.arrayFromVolume(volumes[0]).std(), 0)
        self.delayDisplay("The synthetic volume lies on its label map")
