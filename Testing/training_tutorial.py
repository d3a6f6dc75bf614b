"""A training by clicks on the test host, on cases that the bundled model made itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from module_panel import MODULE, wait

CASES = 8


def make_cases(folder: Path) -> None:
    """Random label maps and their synthetic volumes, as a data set of folders."""
    from MedDiffusionLib.commands.cli import main

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for seed in range(CASES):
        labels = folder / "labels" / f"case-{seed}.nii.gz"
        assert main(["labelmap", "--random", "--seed", str(seed), "-o", str(labels)]) == 0
    options = ["--steps", "4", "--guidance", "1"]
    assert main(["synthesize", str(folder / "labels"), "-o", str(folder / "images"), *options]) == 0
    for made in (folder / "images").glob("*.json"):
        made.unlink()


@contextmanager
def training_module() -> Iterator[None]:
    """While this lasts, Slicer's engine for CLI modules runs and knows MedDiffusionTrain."""
    import slicer

    from host.command_line import CommandLineModule, processing

    with processing():
        CommandLineModule(MODULE.parent / "CLI" / "MedDiffusionTrain.py")
        yield
        delattr(slicer.modules, "meddiffusiontrain")


def wait_for_the_run(host: Any, widget: Any) -> None:
    """Wait until neither a check nor a training runs."""
    status = widget.ui.trainingStatus
    wait(host, lambda: not widget.panel.training.busy, lambda: status.text)


def train(
    host: Any, widget: Any, folder: Path, minutes: float, look: Callable[[str], None]
) -> None:
    """Check, train for some minutes, stop, and find the model in the picker."""
    ui = widget.ui
    for section in (ui.modelSection, ui.labelSection, ui.synthesisSection, ui.resultsSection):
        section.collapsed = True
    ui.trainingSection.collapsed = False
    ui.scansPath.currentPath = str(folder / "images")
    ui.labelMapsPath.currentPath = str(folder / "labels")
    ui.trainingNameEdit.text = "my-model"
    ui.trainingHoursSpinBox.value = 2
    ui.checkButton.click()
    wait_for_the_run(host, widget)
    look("check")
    ui.trainButton.click()
    status = ui.trainingStatus
    wait(host, lambda: status.text.startswith("Iteration"), lambda: status.text)
    host.process_events(round(60_000 * minutes))
    look("training")
    ui.trainButton.click()
    wait_for_the_run(host, widget)
    look("trained")
    assert ui.modelSelector.findData("my-model") >= 0, ui.trainingStatus.text
