"""The stand-in of PythonQt behaves as PythonQt: strict about what it is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from host import missing

pytest_plugins = ("host.isolation",)
pytestmark = pytest.mark.skipif(bool(missing("PySide6")), reason=missing("PySide6"))

KEPT: list[Any] = []


@pytest.fixture(scope="module")
def qt() -> Any:
    import os

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from host import dialogs
    from host import qt as stand_in

    qt: Any = stand_in
    dialogs.install()
    KEPT.append(qt.QApplication([]))
    return qt


@pytest.fixture(scope="module")
def ctk(qt: Any) -> Any:
    from host import ctk

    return ctk


@pytest.fixture
def errors() -> Any:
    from host.signals import ERRORS

    ERRORS.clear()
    return ERRORS


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


def test_a_virtual_getter_of_a_subclass_is_hidden_too(qt: Any) -> None:
    assert qt.QPushButton("Go").sizeHint.width() > 0
    assert qt.QProgressBar().text == ""


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


def test_a_python_subclass_keeps_attributes_of_its_own(qt: Any) -> None:
    class Panel(qt.QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.count = 3

    assert Panel().count == 3


def test_a_dynamic_property_becomes_an_attribute(qt: Any) -> None:
    widget = qt.QWidget()
    widget.setProperty("SlicerParameterName", "seed")
    assert widget.SlicerParameterName == "seed"
    widget.SlicerParameterName = "steps"
    assert widget.property("SlicerParameterName") == "steps"


def test_a_function_gets_as_many_signal_arguments_as_it_takes(qt: Any, errors: Any) -> None:
    button = qt.QPushButton()
    button.checkable = True
    seen: list[Any] = []
    button.connect("clicked(bool)", lambda: seen.append("none"))
    button.connect("clicked(bool)", lambda checked=None: seen.append(checked))
    button.connect("clicked()", lambda *given: seen.append(given))
    button.toggled.connect(seen.append)
    button.click()
    assert seen == [True, "none", True, ()]
    assert errors == []


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


def test_an_exception_in_a_slot_is_kept_and_does_not_reach_the_caller(
    qt: Any, errors: list[str]
) -> None:
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    qt.QTimer.singleShot(0, lambda: dict[str, int]()["nothing"])
    qt.QApplication.processEvents()
    assert [text.strip().splitlines()[-1] for text in errors] == [
        "ZeroDivisionError: division by zero",
        "KeyError: 'nothing'",
    ]


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


def test_a_stand_in_may_not_offer_more_than_the_table(qt: Any, ctk: Any) -> None:
    from host.standin import StandIn

    with pytest.raises(TypeError, match="has no blink in Slicer"):
        StandIn("ctkSliderWidget", (qt.QWidget,), {"blink": lambda self: None})
    with pytest.raises(TypeError, match="derives from QWidget"):
        StandIn("ctkSliderWidget", (qt.QSlider,), {})


def test_a_value_of_the_wrong_type_is_refused(ctk: Any) -> None:
    from pathlib import Path

    with pytest.raises(ValueError, match="QString"):
        ctk.ctkPathLineEdit().currentPath = Path("/tmp")


def test_a_slider_widget_keeps_to_its_limits_and_tells_its_value(ctk: Any) -> None:
    slider = ctk.ctkSliderWidget()
    seen: list[float] = []
    slider.connect("valueChanged(double)", seen.append)
    slider.maximum = 10
    slider.value = 7.5
    slider.setValue(70)
    assert slider.value == 10
    assert seen == [7.5, 10]


def test_a_collapsible_button_hides_what_it_holds(qt: Any, ctk: Any) -> None:
    section = ctk.ctkCollapsibleButton()
    section.text = "Advanced"
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("a"), qt.QLabel("b")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.hide()
    section.show()
    seen: list[bool] = []
    section.connect("contentsCollapsed(bool)", seen.append)
    section.click()
    assert section.collapsed
    assert not shown.visible
    section.collapsed = False
    assert shown.visible
    assert not hidden.visible
    assert seen == [True, False]


def test_a_message_box_answers_itself_and_is_written_down(qt: Any) -> None:
    from host import dialogs

    dialogs.clear()
    dialogs.answers["QMessageBox.question"] = [qt.QMessageBox.No]
    assert qt.QMessageBox.question(None, "Title", "Sure?") == qt.QMessageBox.No
    box = qt.QMessageBox()
    box.text = "Done"
    assert box.exec_() == qt.QMessageBox.Ok
    assert [one.text for one in dialogs.shown] == ["Sure?", "Done"]
