"""A scripted module lives on the host as in Slicer: load, open, enter, use, exit, clean up."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import missing
from host.fixtures import host, started_host

__all__ = ["host", "started_host"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

FORM = """
    <ui version="4.0"><class>Tiny</class>
    <widget class="qMRMLWidget" name="Tiny"><layout class="QFormLayout" name="form">
    <item row="0" column="0"><widget class="qMRMLNodeComboBox" name="input">
      <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>
      </property>
      <property name="noneEnabled"><bool>true</bool></property>
      <property name="SlicerParameterName" stdset="0"><string>input</string></property></widget>
    </item>
    <item row="1" column="0"><widget class="ctkSliderWidget" name="strength">
      <property name="maximum"><double>5.000000000000000</double></property>
      <property name="SlicerParameterName" stdset="0"><string>strength</string></property>
    </widget></item>
    <item row="2" column="0"><widget class="QSpinBox" name="seed">
      <property name="SlicerParameterName" stdset="0"><string>seed</string></property></widget>
    </item>
    <item row="3" column="0"><widget class="QCheckBox" name="outlines">
      <property name="SlicerParameterName" stdset="0"><string>outlines</string></property></widget>
    </item>
    <item row="4" column="0"><widget class="QComboBox" name="quality">
      <property name="SlicerParameterName" stdset="0"><string>quality</string></property></widget>
    </item>
    <item row="5" column="0"><widget class="QPushButton" name="apply">
      <property name="text"><string>Apply</string></property></widget></item>
    </layout></widget>
    <connections><connection>
      <sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
      <receiver>input</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
    </connection></connections></ui>
"""

MODULE = '''
    """A tiny scripted module as Slicer's template writes one."""
    from typing import Annotated, Optional
    import qt
    import slicer
    import vtk
    from slicer.i18n import tr as _
    from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget)
    from slicer.util import VTKObservationMixin

    events = []

    class Tiny(ScriptedLoadableModule):
        def __init__(self, parent):
            ScriptedLoadableModule.__init__(self, parent)
            self.parent.title = _("Tiny {n}").format(n=1)
            self.parent.categories = ["Image Synthesis"]
            slicer.app.connect("startupCompleted()", lambda: events.append("started"))

    @parameterNodeWrapper
    class Parameters:
        input: slicer.vtkMRMLScalarVolumeNode
        other: Optional[slicer.vtkMRMLSegmentationNode]
        strength: Annotated[float, WithinRange(0, 2)] = 0.5
        seed: int = 7
        outlines: bool = True
        quality: Annotated[str, Choice(["fast", "best"]), Default("best")]
        model: str = "hippocampus"
        steps: Optional[int]
        names: list[str]

    class TinyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
        def __init__(self, parent=None):
            ScriptedLoadableModuleWidget.__init__(self, parent)
            VTKObservationMixin.__init__(self)

        def setup(self):
            ScriptedLoadableModuleWidget.setup(self)
            form = slicer.util.loadUI(self.resourcePath("UI/Tiny.ui"))
            self.layout.addWidget(form)
            self.ui = slicer.util.childWidgetVariables(form)
            form.setMRMLScene(slicer.mrmlScene)
            self.logic = TinyLogic()
            self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onClose)
            self.ui.apply.connect("clicked(bool)", self.onApply)
            self.wrapper, self.tag = None, None
            events.append("setup")

        def enter(self):
            events.append("enter")
            self.wrapper = Parameters(self.logic.getParameterNode())
            self.tag = self.wrapper.connectGui(self.ui)

        def exit(self):
            events.append("exit")
            if self.wrapper:
                self.wrapper.disconnectGui(self.tag)
                self.wrapper = None

        def onClose(self, caller, event):
            self.exit()

        def onApply(self):
            events.append(f"apply {self.wrapper.seed}")

        def cleanup(self):
            events.append("cleanup")
            self.removeObservers()

    class TinyLogic(ScriptedLoadableModuleLogic):
        pass

    class TinyTest(ScriptedLoadableModuleTest):
        def test_it(self):
            self.delayDisplay("Testing", msec=10)
            events.append("tested")
'''


@pytest.fixture(scope="module")
def module(started_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from host.modules import load_module

    folder = tmp_path_factory.mktemp("module")
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Resources" / "UI" / "Tiny.ui").write_text(textwrap.dedent(FORM).strip())
    (folder / "Tiny.py").write_text(textwrap.dedent(MODULE))
    return load_module(folder / "Tiny.py")


@pytest.fixture
def panel(host: Any, module: Any) -> Iterator[Any]:
    from host.modules import close_widget, open_widget

    sys.modules["Tiny"].events.clear()
    widget = open_widget(module)
    yield widget
    if hasattr(slicer_modules(), "TinyWidget"):
        close_widget(widget)


def slicer_modules() -> Any:
    import slicer

    return slicer.modules


def add_volume(name: str) -> Any:
    import slicer.util

    return slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.int16), name=name)


def test_slicers_own_files_are_used_where_a_source_tree_is_named(host: Any) -> None:
    import os

    import slicer.parameterNodeWrapper
    import slicer.ScriptedLoadableModule

    for part in (slicer.parameterNodeWrapper, slicer.ScriptedLoadableModule):
        own = "slicer_stubs" in str(part.__file__)
        assert own is not bool(os.environ.get("SLICER_SOURCE_DIR"))


def test_a_module_has_the_attributes_of_slicers_and_no_others(host: Any, module: Any) -> None:
    assert module.title == "Tiny 1"
    assert module.categories == ("Image Synthesis",)
    assert slicer_modules().tiny is module
    with pytest.raises(AttributeError):
        module.tittle = "Tiny"
    with pytest.raises(AttributeError, match="read-only"):
        module.path = "/"


def test_a_panel_goes_through_its_life(host: Any, module: Any) -> None:
    from host.modules import close_widget, open_widget, set_entered

    events = sys.modules["Tiny"].events
    events.clear()
    host.finish_startup()
    widget = open_widget(module)
    widget.ui.apply.click()
    set_entered(widget, False)
    assert open_widget(module) is widget
    observed = len(widget.Observations)
    close_widget(widget)
    assert events == ["started", "setup", "enter", "apply 7", "exit", "enter", "exit", "cleanup"]
    assert (observed, widget.Observations) == (1, [])


def test_the_self_test_of_a_module_runs(host: Any, module: Any) -> None:
    import slicer

    slicer.selfTests["Tiny"]()
    assert sys.modules["Tiny"].events[-1] == "tested"


def test_parameters_and_widgets_follow_each_other(panel: Any) -> None:
    volume = add_volume("brain")
    panel.ui.strength.value = 1.5
    panel.ui.seed.value = 11
    panel.ui.outlines.click()
    panel.ui.input.setCurrentNode(volume)
    panel.ui.quality.currentIndex = 0
    wrapper = panel.wrapper
    assert (wrapper.strength, wrapper.seed, wrapper.outlines) == (1.5, 11, False)
    assert (wrapper.input, wrapper.quality) == (volume, "fast")
    wrapper.seed = 12
    wrapper.input = None
    wrapper.quality = "best"
    assert (panel.ui.seed.value, panel.ui.input.currentNode()) == (12, None)
    assert panel.ui.quality.currentText == "best"


def test_a_disconnected_panel_leaves_the_parameters_alone(panel: Any) -> None:
    wrapper = panel.wrapper
    panel.exit()
    panel.ui.seed.value = 3
    wrapper.strength = 1.25
    assert wrapper.seed == 7
    assert panel.ui.strength.value == 0.5


def test_values_outside_their_limits_or_types_are_refused(panel: Any) -> None:
    for name, value, error in [
        ("strength", 3.0, ValueError),
        ("quality", "worst", ValueError),
        ("seed", "7", TypeError),
        ("seed", None, ValueError),
        ("outlines", 1, TypeError),
        ("input", panel.logic.getParameterNode(), TypeError),
    ]:
        with pytest.raises(error):
            setattr(panel.wrapper, name, value)
    assert panel.ui.strength.maximum == 2


def test_parameters_are_written_in_slicers_format(panel: Any) -> None:
    panel.wrapper.names = ["a", "b"]
    panel.wrapper.steps = 4
    panel.wrapper.input = add_volume("brain")
    node = panel.logic.getParameterNode()
    texts = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert texts == {
        "input": "",
        "model": "hippocampus",
        "names.0": "a",
        "names.1": "b",
        "names.len": "2",
        "other.1": "True",
        "outlines": "True",
        "quality": "best",
        "seed": "7",
        "steps.0": "4",
        "strength": "0.5",
    }
    assert node.GetNodeReference("input").GetName() == "brain"


def test_parameters_survive_saving_and_loading_the_scene(
    host: Any, panel: Any, tmp_path: Path
) -> None:
    import slicer.util

    wrapper = panel.wrapper
    wrapper.input = add_volume("brain")
    wrapper.seed, wrapper.steps, wrapper.names = 99, None, ["x"]
    slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    host.scene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"), {})
    again = sys.modules["Tiny"].Parameters(panel.logic.getParameterNode())
    assert (again.seed, again.steps, list(again.names)) == (99, None, ["x"])
    assert again.input.GetName() == "brain"


def test_a_node_selector_follows_the_scene(panel: Any, host: Any) -> None:
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    seen: list[Any] = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    selector.connect("currentNodeChanged(bool)", seen.append)
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    assert not selector.enabled
    selector.setMRMLScene(host.scene)
    first = add_volume("first")
    host.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    second = selector.addNode()
    assert selector.nodeCount() == 2
    host.scene.RemoveNode(second)
    assert seen == [first, True, second, True, first, True]
    selector.deleteLater()


def test_a_form_with_an_unknown_class_property_or_slot_is_refused(
    host: Any, tmp_path: Path
) -> None:
    import slicer.util

    form = textwrap.dedent(FORM).strip()
    for right, wrong in [
        ("ctkSliderWidget", "ctkSlideWidget"),
        ('name="noneEnabled"', 'name="noneAllowed"'),
        ("<slot>setMRMLScene(", "<slot>setScene("),
        ("<signal>mrmlSceneChanged(", "<signal>sceneChanged("),
    ]:
        (tmp_path / "form.ui").write_text(form.replace(right, wrong))
        with pytest.raises(RuntimeError, match=r"form\.ui: "):
            slicer.util.loadUI(str(tmp_path / "form.ui"))


def test_the_segment_editor_wants_its_node_before_the_scene(host: Any) -> None:
    import slicer

    editor = slicer.qMRMLSegmentEditorWidget()
    with pytest.raises(RuntimeError, match="before setMRMLScene"):
        editor.setMRMLScene(host.scene)
    editor.setMRMLSegmentEditorNode(host.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setMRMLScene(host.scene)
    segmentation = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(add_volume("source"))
    assert editor.segmentationNode() is segmentation
    assert editor.sourceVolumeNode().GetName() == "source"
    with pytest.raises(AttributeError):
        editor.setReferenceVolumeNode(None)


def test_messages_are_written_down_and_packages_are_not_installed(host: Any) -> None:
    import slicer.packaging
    import slicer.util

    from host import dialogs, packages

    slicer.util.errorDisplay("It failed.")
    assert slicer.util.confirmOkCancelDisplay("Really?")
    assert [one.text for one in dialogs.shown] == ["It failed.", "Really?"]
    dialogs.shown.clear()
    slicer.packaging.pip_ensure(["torch>=2.5"], requester="MedDiffusion")
    slicer.util.pip_install("nothing")
    assert packages.requested == [("torch>=2.5",), ("nothing",)]


def test_sample_data_is_written_down_and_a_wrong_parameter_is_refused(host: Any) -> None:
    sample_data = importlib.import_module("SampleData")
    logic = sample_data.SampleDataLogic
    logic.registerCustomSampleDataSource(category="MedDiffusion", sampleName="Labels")
    assert sample_data.registered[-1]["sampleName"] == "Labels"
    with pytest.raises(TypeError, match="no name"):
        logic.registerCustomSampleDataSource(name="Labels")


def test_an_error_in_an_observer_does_not_go_unnoticed(host: Any) -> None:
    node = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    node.AddObserver("ModifiedEvent", lambda *_: 1 / 0)
    node.SetName("other")
    assert "ZeroDivisionError" in host.errors[-1]
    node.RemoveAllObservers()
    host.errors.clear()


def test_views_show_what_is_in_the_scene(host: Any, tmp_path: Path) -> None:
    import slicer.util

    from host.views import SliceView, ThreeDView

    manager = slicer.app.layoutManager()
    assert manager.sliceViewNames() == ("Red", "Green", "Yellow")
    view = SliceView(manager.sliceWidget("Red").sliceLogic())
    assert view.array().max() == 0
    volume = add_volume("brain")
    slicer.util.arrayFromVolume(volume)[:, :2] = 0
    slicer.util.arrayFromVolumeModified(volume)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    pixels = view.array(200, 160)
    assert pixels.shape == (160, 200, 3)
    # Axial, patient's front up: the rows at the back are bright.
    assert pixels[60:70, 100].max() < 30 < 200 < pixels[100:110, 100].min() or (
        pixels[100:110, 100].max() < 30 < 200 < pixels[60:70, 100].min()
    )
    view.close()
    three_d = ThreeDView(manager.threeDWidget(0).mrmlViewNode())
    three_d.save(tmp_path / "view.png")
    assert (tmp_path / "view.png").stat().st_size > 500
    three_d.close()


def test_a_layout_brings_its_views(host: Any) -> None:
    import slicer

    manager = slicer.app.layoutManager()
    seen: list[int] = []
    manager.connect("layoutChanged(int)", seen.append)
    before = manager.layout
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert manager.sliceViewNames() == ("Red",)
    assert manager.threeDViewCount == 0
    manager.layout = before
    assert seen == [slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView, before]
    manager.disconnect("layoutChanged(int)")
