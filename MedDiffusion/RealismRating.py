"""Realism Rating: a reader study of real and synthetic volumes, blind.

Slicer finds its module here; what it does lies in MedDiffusionLib.
"""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

DOCUMENTATION = "https://github.com/meddiffusion/MedDiffusion#for-readers"


class RealismRating(ScriptedLoadableModule):
    """What Slicer knows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Realism Rating")
        parent.categories = ["Image Synthesis"]
        parent.contributors = ["MedDiffusion contributors"]
        parent.helpText = _(
            "Shows the cases of a reader study, blind: open the folder of the study, give your "
            "code, and answer case by case, by mouse or keys. Every answer is saved at once; a "
            "session can be paused, and goes on at the same case. For research only."
        )
        parent.helpText += f'<p><a href="{DOCUMENTATION}">{_("For readers, on one page")}</a></p>'
        parent.acknowledgementText = _(
            "The published protocol is that of Khader et al. 2023 (Scientific Reports 13:7303)."
        )


class RealismRatingWidget(ScriptedLoadableModuleWidget):
    """The module's panel; MedDiffusionLib.widget.rating_panel does the work."""

    def setup(self) -> None:
        from MedDiffusionLib.widget.rating_panel import RatingPanel

        ScriptedLoadableModuleWidget.setup(self)
        form = slicer.util.loadUI(self.resourcePath("UI/RealismRating.ui"))
        self.layout.addWidget(form)
        self.ui = slicer.util.childWidgetVariables(form)
        form.setMRMLScene(slicer.mrmlScene)
        self.panel = RatingPanel(self.ui)

    def enter(self) -> None:
        self.panel.enter()

    def exit(self) -> None:
        self.panel.exit()

    def cleanup(self) -> None:
        self.panel.cleanup()


class RealismRatingTest(ScriptedLoadableModuleTest):
    """The self-test: a case is shown, and nothing of the study stays in the scene."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def test_volumes_are_shown_and_put_away(self) -> None:
        import numpy as np

        from MedDiffusionLib.scene.rating_volumes import CaseVolumes, other_data
        from MedDiffusionLib.volumes.volume import Kind, Volume
        from MedDiffusionLib.widget.rating_views import RatingViews

        array = np.arange(16**3, dtype=np.int16).reshape(16, 16, 16, order="F")
        shown = CaseVolumes()
        views = RatingViews(lambda view, number: None, lambda: None)
        shown.show([Volume(array, np.eye(4), Kind.INTENSITY)] * 2, (0.0, 1000.0))
        views.show(shown.nodes)
        self.delayDisplay("Two volumes are shown side by side")
        self.assertEqual(other_data(), [])
        views.end()
        shown.remove()
        self.assertEqual(shown.nodes, [])
