"""What the tests of Realism Rating share: its panel, tiny studies, readers who click or type."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.fixtures import once
from rating_factory import make_tiny_study
from waiting import wait

MODULE = Path(__file__).parents[1] / "MedDiffusion" / "RealismRating.py"


@pytest.fixture(scope="module")
def rating_module(started_host: Any) -> Any:
    from host.modules import load_module

    return once("rating module", lambda: load_module(MODULE))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 12 cases and 2 repeats, for R1 and R2, which nobody answers in."""
    return once("made", lambda: make_tiny_study(tmp_path_factory.mktemp("made")))


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A copy of it, with its key."""
    return copied(made, tmp_path)


@pytest.fixture
def panel(host: Any, rating_module: Any) -> Iterator[Any]:
    """The open panel of the module, in sight."""
    import slicer

    from host.modules import close_widget, open_widget

    slicer.app.userSettings().clear()
    widget = open_widget(rating_module)
    show_windows(host, widget)
    yield widget
    # A test may have opened it anew.
    close_widget(slicer.modules.RealismRatingWidget)


@pytest.fixture
def shown(host: Any, panel: Any, study: Path) -> Any:
    """The panel with R1's first case in sight."""
    open_study(host, panel, study, "R1")
    to_case(host, panel)
    return panel


def copied(study: Path, folder: Path) -> Path:
    """A copy of a study and its key, of the same dates."""
    shutil.copy2(key_of(study), key_of(folder / "study"))
    return shutil.copytree(study, folder / "study")


def key_of(study: Path) -> Path:
    return study.with_name(f"{study.name}.key.json")


def show_windows(host: Any, widget: Any) -> None:
    """The panel in the main window, as in Slicer: keys reach what is seen alone."""
    host.main_window.setCentralWidget(widget.parent)
    host.main_window.show()
    host.main_window.activateWindow()
    host.process_events()


def open_study(host: Any, widget: Any, study: Path, reader: str, session: int = 1) -> None:
    """Fill in the first page, and press Open."""
    ui = widget.ui
    ui.studyPath.currentPath = str(study)
    ui.readerEdit.text = reader
    ui.sessionSpinBox.value = session
    ui.openButton.click()
    host.process_events()


def to_case(host: Any, widget: Any) -> None:
    """Read on to the next case, and wait until it is shown."""
    ui = widget.ui
    while ui.pageBox.visible and ui.continueButton.visible:
        ui.continueButton.click()
        host.process_events()
    wait_for_case(host, widget)


def wait_for_case(host: Any, widget: Any) -> None:
    """Until the case is shown, or another page is."""
    rating = widget.panel.rating
    wait(
        host,
        lambda: rating.is_shown or widget.ui.pageBox.visible,
        lambda: (rating.stage, widget.ui.sessionStatus.text),
    )


def presentation(widget: Any) -> str:
    """Which showing of which case is the current one."""
    return str(widget.panel.rating._step.presentation)


def answer_of(shown: str) -> int:
    """What our readers say to a presentation: 1 to 6."""
    return 1 + hashlib.sha256(shown.encode()).digest()[0] % 6


def radio_buttons(widget: Any) -> list[Any]:
    """Those of the case, in their order."""
    from PySide6.QtWidgets import QRadioButton

    return list(widget.ui.questionsBox.findChildren(QRadioButton))


def press(host: Any, widget: Any, *names: str) -> None:
    """Press keys, one after the other, wherever the focus is: "3", "Return", "Space", …."""
    import slicer
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    for name in names:
        key = getattr(Qt.Key, f"Key_{name}")
        QTest.keyClick(slicer.app.focusWidget() or widget.parent, key)
        host.process_events()


def write(text: str) -> None:
    """Type a text where the cursor is."""
    import slicer
    from PySide6.QtTest import QTest

    QTest.keyClicks(slicer.app.focusWidget(), text)


def slice_logics(*views: str) -> list[Any]:
    import slicer

    logic = slicer.app.applicationLogic()
    return [logic.GetSliceLogicByLayoutName(view) for view in views]
