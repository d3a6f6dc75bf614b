"""The form for a checkpoint of another program: name, license, and what the file does not tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from .gui import agrees
from .install import ensure_installed
from .presenters.importing import Request, imported, suggested_name, under_way
from .runner import Runner
from .wording import plain, sentence


class ImportForm:
    """Shown once a checkpoint was chosen; the worker reads the file, Slicer never does."""

    def __init__(
        self,
        ui: Any,
        runner: Runner,
        say: Callable[[str], None],
        on_imported: Callable[[str], None],
    ) -> None:
        self._ui = ui
        self._runner = runner
        self._say = say
        self._on_imported = on_imported
        self._source: Path | None = None
        self._busy = False
        self._gone = False
        ui.importStartButton.connect("clicked(bool)", self._on_start)
        ui.importCancelButton.connect("clicked(bool)", self._close)
        self._show()

    def ask(self, source: Path) -> None:
        """Ask how a checkpoint is to be imported."""
        self._source = source
        self._ui.importFileLabel.text = plain(source.name)
        self._ui.importNameEdit.text = suggested_name(source)
        self._ui.importLicenseEdit.text = ""
        self._ui.importOptionsEdit.text = ""
        self._show()

    def cleanup(self) -> None:
        """Let go of an import that is under way: its end must not reach a panel that is gone."""
        self._gone = True

    def _on_start(self) -> None:
        ui = self._ui
        if self._source is None or self._busy:
            return
        request = Request(
            self._source,
            ui.importNameEdit.text.strip(),
            ui.importLicenseEdit.text,
            ui.importOptionsEdit.text,
        )
        if request.refusal:
            self._say(request.refusal)
            return
        if not ensure_installed(self._say):
            return
        try:
            sent = request.agreed(agrees)
            if sent is None:
                return
            self._runner.start_import(sent, self._on_finished, self._on_failed, self._on_ended)
        except UserError as error:
            self._say(sentence(error))
            return
        self._busy = True
        self._say(under_way(request))
        self._show()

    def _on_finished(self, name: str) -> None:
        if self._gone:
            return
        self._busy = False
        self._close()
        self._on_imported(name)
        self._say(imported(name))

    def _on_failed(self, error: UserError) -> None:
        """The form stays: an option may be what is missing."""
        self._end(sentence(error))

    def _on_ended(self) -> None:
        self._end("")

    def _end(self, said: str) -> None:
        if self._gone:
            return
        self._busy = False
        self._say(said)
        self._show()

    def _close(self) -> None:
        self._source = None
        self._show()

    def _show(self) -> None:
        self._ui.importForm.setVisible(self._source is not None)
        for button in ("importStartButton", "importCancelButton", "importModelButton"):
            getattr(self._ui, button).enabled = not self._busy
