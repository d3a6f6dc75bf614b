"""The host refuses what Slicer, PythonQt and CTK would refuse, and hides no error."""

from __future__ import annotations

import importlib
import os
import textwrap
from pathlib import Path
from typing import Annotated, Any, Optional

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
      <property name="noneEnabled"><bool>true</bool></property></widget></item>
    <item row="1" column="0"><widget class="ctkSliderWidget" name="strength"/></item>
    </layout></widget>
    <connections><connection>
      <sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
      <receiver>input</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
    </connection></connections></ui>
"""


@pytest.fixture
def qt(host: Any) -> Any:
    import qt

    return qt


@pytest.fixture
def ctk(host: Any) -> Any:
    import ctk

    return ctk


def add_volume(name: str) -> Any:
    import slicer.util

    return slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.int16), name=name)


# ---- PythonQt


def test_a_property_is_an_attribute_and_hides_its_getter(qt: Any) -> None:
    button = qt.QPushButton("Go")
    assert button.text == "Go"
    with pytest.raises(TypeError):
        button.text()
    button.text = "Stop"
    button.setText("Wait")
    assert button.text == "Wait"
    button.name = "apply"
    assert button.objectName == button.name == "apply"
    assert qt.QProgressBar().text == ""  # A virtual getter of a subclass is hidden, too.


@pytest.mark.parametrize("name", ["foo", "_private", "caption"])
def test_an_unknown_attribute_is_refused(qt: Any, ctk: Any, name: str) -> None:
    menu = qt.QMenu()
    for widget in (qt.QPushButton(), ctk.ctkSliderWidget(), menu.addAction("x")):
        with pytest.raises(AttributeError):
            setattr(widget, name, 1)
        with pytest.raises(AttributeError):
            getattr(widget, name)


def test_a_read_only_property_is_refused(qt: Any, ctk: Any) -> None:
    with pytest.raises(AttributeError, match="read-only"):
        qt.QPushButton().sizeHint = qt.QSize(1, 1)
    with pytest.raises(AttributeError, match="read-only"):
        ctk.ctkDoubleSpinBox().cleanText = "1"


def test_a_dynamic_property_becomes_an_attribute(qt: Any) -> None:
    widget = qt.QWidget()
    widget.setProperty("SlicerParameterName", "seed")
    assert widget.SlicerParameterName == "seed"
    widget.SlicerParameterName = "steps"
    assert widget.property("SlicerParameterName") == "steps"


def test_a_function_gets_as_many_signal_arguments_as_it_takes(qt: Any) -> None:
    button = qt.QPushButton()
    button.checkable = True
    seen: list[Any] = []
    button.connect("clicked(bool)", lambda: seen.append("none"))
    button.connect("clicked(bool)", lambda checked=None: seen.append(checked))
    button.connect("clicked()", lambda *given: seen.append(given))
    button.toggled.connect(seen.append)
    button.click()
    assert seen == [True, "none", True, ()]


def test_a_disconnected_function_is_not_called(qt: Any) -> None:
    button = qt.QPushButton()
    seen: list[Any] = []
    button.connect("clicked(bool)", seen.append)
    assert button.disconnect("clicked(bool)", seen.append)
    button.click()
    assert seen == []


def test_an_unknown_signal_is_refused(qt: Any, ctk: Any) -> None:
    with pytest.raises(ValueError, match="no signal"):
        qt.QPushButton().connect("pushed()", print)
    with pytest.raises(ValueError, match="no signal"):
        ctk.ctkSliderWidget().connect("valueChanged(int)", print)


def test_enumerations_are_ints_and_string_lists_are_tuples(qt: Any, ctk: Any) -> None:
    assert qt.Qt.Checked == 2
    assert int(qt.QMessageBox.Ok) == 1024
    path = ctk.ctkPathLineEdit()
    path.nameFilters = ["*.nrrd", "*.nii"]
    assert path.nameFilters == ("*.nrrd", "*.nii")


@pytest.mark.parametrize("call", ["setRange", "setMinimum", "sliderMoved", "blink"])
def test_a_method_that_the_table_does_not_list_is_refused(ctk: Any, call: str) -> None:
    with pytest.raises(AttributeError, match=call):
        getattr(ctk.ctkSliderWidget(), call)


def test_a_listed_method_without_a_stand_in_says_that_the_host_lacks_it(ctk: Any) -> None:
    with pytest.raises(NotImplementedError, match="test host"):
        ctk.ctkPathLineEdit().browse()


def test_an_exception_in_a_slot_or_observer_is_kept_and_does_not_reach_the_caller(
    host: Any, qt: Any
) -> None:
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    qt.QTimer.singleShot(0, lambda: dict[str, int]()["nothing"])
    host.process_events()
    node = host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    node.AddObserver("ModifiedEvent", lambda *_: [].pop())
    node.SetName("other")
    node.RemoveAllObservers()
    assert [text.strip().splitlines()[-1] for text in host.errors] == [
        "ZeroDivisionError: division by zero",
        "KeyError: 'nothing'",
        "IndexError: pop from empty list",
    ]
    host.errors.clear()


# ---- Slicer


def test_slicers_own_files_are_used_where_a_source_tree_is_named(host: Any) -> None:
    import slicer.parameterNodeWrapper
    import slicer.ScriptedLoadableModule

    for part in (slicer.parameterNodeWrapper, slicer.ScriptedLoadableModule):
        own = "slicer_stubs" in str(part.__file__)
        assert own is not bool(os.environ.get("SLICER_SOURCE_DIR"))


def test_a_module_has_the_attributes_of_slicers_and_no_others(host: Any) -> None:
    import slicer

    module = slicer.qSlicerScriptedLoadableModule()
    module.categories = ["Image Synthesis"]
    assert module.categories == ("Image Synthesis",)
    with pytest.raises(AttributeError):
        module.tittle = "Tiny"
    with pytest.raises(AttributeError, match="read-only"):
        module.path = "/"


@pytest.fixture
def wrapper(host: Any) -> Any:
    """A parameter node with a parameter of each kind."""
    import slicer
    from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper

    class Parameters:
        __annotations__ = {
            "input": slicer.vtkMRMLScalarVolumeNode,
            "other": Optional[slicer.vtkMRMLSegmentationNode],  # noqa: UP045
            "strength": Annotated[float, WithinRange(0, 2)],
            "seed": int,
            "outlines": bool,
            "quality": Annotated[str, Choice(["fast", "best"]), Default("best")],
            "steps": Optional[int],  # noqa: UP045
            "names": list[str],
        }
        strength, seed, outlines = 0.5, 7, True

    wrap: Any = parameterNodeWrapper(Parameters)
    return wrap(host.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def test_values_outside_their_limits_or_types_are_refused(wrapper: Any) -> None:
    for name, value, error in [
        ("strength", 3.0, ValueError),
        ("quality", "worst", ValueError),
        ("seed", "7", TypeError),
        ("seed", None, ValueError),
        ("outlines", 1, TypeError),
        ("input", wrapper.parameterNode, TypeError),
    ]:
        with pytest.raises(error):
            setattr(wrapper, name, value)


def test_parameters_are_written_in_slicers_format(wrapper: Any) -> None:
    wrapper.names = ["a", "b"]
    wrapper.steps = 4
    wrapper.input = add_volume("brain")
    node = wrapper.parameterNode
    texts = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert texts == {
        "input": "",
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


def test_a_form_with_an_unknown_class_property_or_slot_is_refused(
    host: Any, tmp_path: Path
) -> None:
    import slicer.util

    form = textwrap.dedent(FORM).strip()
    (tmp_path / "form.ui").write_text(form)
    assert slicer.util.loadUI(str(tmp_path / "form.ui")) is not None
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
    assert editor.segmentationNode() is segmentation
    with pytest.raises(AttributeError):
        editor.setReferenceVolumeNode(None)


def test_dialogs_answer_themselves_and_sample_data_is_checked(host: Any, qt: Any) -> None:
    import slicer.util

    from host import dialogs

    dialogs.answers["QMessageBox"] = [qt.QMessageBox.Cancel]
    assert not slicer.util.confirmOkCancelDisplay("Really?")
    assert slicer.util.confirmOkCancelDisplay("And now?")
    assert [one.text for one in dialogs.shown] == ["Really?", "And now?"]
    dialogs.shown.clear()
    logic = importlib.import_module("SampleData").SampleDataLogic
    with pytest.raises(TypeError, match="no name"):
        logic.registerCustomSampleDataSource(name="Labels")


def test_views_show_what_is_in_the_scene(host: Any, tmp_path: Path) -> None:
    import slicer.util

    from host.views import SliceView, ThreeDView

    manager = slicer.app.layoutManager()
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
