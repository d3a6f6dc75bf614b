"""Modal dialogs answer themselves, so that a test neither hangs nor misses one.

Everything that would pop up is written to ``shown``; ``answers`` maps a dialog's kind
("QMessageBox", "QFileDialog.getOpenFileName", …) to what the user answers, one after the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from PySide6 import QtGui, QtWidgets


class Shown(NamedTuple):
    kind: str
    title: str
    text: str


shown: list[Shown] = []
answers: dict[str, list[Any]] = {}


def answer(kind: str, default: Any) -> Any:
    return answers[kind].pop(0) if answers.get(kind) else default


def clear() -> None:
    shown.clear()
    answers.clear()


def run_message_box(box: Any, *_: Any) -> Any:
    """Answer a message box with its default button, or OK, or Yes: what Enter would do."""
    shown.append(Shown("QMessageBox", box.windowTitle, box.text))
    button = box.defaultButton()
    default = box.standardButton(button) if button is not None else agreement(box)
    return answer("QMessageBox", default)


def agreement(box: Any) -> Any:
    kinds = QtWidgets.QMessageBox.StandardButton
    given = box.standardButtons
    return next((kind for kind in (kinds.Ok, kinds.Yes) if kind & given), kinds.Ok)


def run_dialog(dialog: Any, *_: Any) -> Any:
    shown.append(Shown("QDialog", dialog.windowTitle, ""))
    return answer("QDialog", int(QtWidgets.QDialog.DialogCode.Accepted.value))


def static_message(name: str, default: Any) -> Any:
    def ask(_parent: Any, title: str, text: str, *_: Any) -> Any:
        shown.append(Shown(f"QMessageBox.{name}", title, text))
        return answer(f"QMessageBox.{name}", default)

    return staticmethod(ask)


def static_file(name: str, default: Any) -> Any:
    def ask(_parent: Any = None, title: str = "", *_: Any, **__: Any) -> Any:
        shown.append(Shown(f"QFileDialog.{name}", title, ""))
        return answer(f"QFileDialog.{name}", default)

    return staticmethod(ask)


def ask_text(_parent: Any, title: str, text: str, *_: Any) -> Any:
    """PythonQt gives the text alone, an empty one where the dialog was cancelled."""
    shown.append(Shown("QInputDialog.getText", title, text))
    return answer("QInputDialog.getText", "")


def open_url(url: Any) -> bool:
    shown.append(Shown("QDesktopServices.openUrl", "", url.toString()))
    return True


def install() -> None:
    """Put the answers in the place of the event loops that would wait for a person."""
    box: Any = QtWidgets.QMessageBox
    dialog: Any = QtWidgets.QDialog
    files: Any = QtWidgets.QFileDialog
    box.exec = box.exec_ = run_message_box
    dialog.exec = dialog.exec_ = run_dialog
    kinds = QtWidgets.QMessageBox.StandardButton
    for name in ("information", "warning", "critical"):
        setattr(box, name, static_message(name, kinds.Ok))
    box.question = static_message("question", kinds.Yes)
    # PythonQt gives the path alone, PySide6 a pair.
    for name in ("getOpenFileName", "getSaveFileName", "getExistingDirectory"):
        setattr(files, name, static_file(name, ""))
    files.getOpenFileNames = static_file("getOpenFileNames", ())
    inputs: Any = QtWidgets.QInputDialog
    inputs.getText = staticmethod(ask_text)
    services: Any = QtGui.QDesktopServices
    services.openUrl = staticmethod(open_url)
