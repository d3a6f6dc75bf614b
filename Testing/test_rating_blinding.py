"""Nothing of an open study tells the arms apart but voxels, and a leak would be found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from blinding import Facts, differences, walk
from host import missing
from host.fixtures import host, started_host
from MedDiffusionLib.studies.key import read_key
from MedDiffusionLib.studies.study import read_study
from rating_module import (
    key_of,
    made,
    open_study,
    panel,
    presentation,
    press,
    rating_module,
    study,
    to_case,
    wait_for_case,
)

__all__ = ["host", "made", "panel", "rating_module", "started_host", "study"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


class Shown(NamedTuple):
    """What a leak can be planted in."""

    widget: Any
    node: Any
    file: Path
    view: Any


def look(widget: Any, study: Path) -> tuple[str, Facts]:
    """The arm of the case that is shown, and all that can be known of it."""
    opened = read_study(study)
    key = read_key(key_of(study), opened)
    case = opened.case(presentation(widget))
    files = {str(place): path for place, path in enumerate(case.files)}
    return key.arm(case.id), walk(study, files)


def shown(widget: Any, study: Path) -> Shown:
    import slicer

    file = read_study(study).case(presentation(widget)).files[0]
    (node,) = widget.panel._volumes.nodes
    view = slicer.app.layoutManager().sliceWidget("RatingAxial1").sliceView()
    return Shown(widget, node, file, view)


def second_case(host: Any, panel: Any, study: Path) -> None:
    """The first one has no way back, which its button says."""
    open_study(host, panel, study, "R1")
    to_case(host, panel)
    press(host, panel, "3", "Return")
    wait_for_case(host, panel)


def test_nothing_but_voxels_tells_the_arms_apart(
    host: Any, panel: Any, study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    second_case(host, panel, study)
    title = host.main_window.windowTitle
    capfd.readouterr()
    arms: list[str] = []
    walks: list[Facts] = []
    while panel.ui.caseBox.visible:
        arm, facts = look(panel, study)
        arms.append(arm)
        walks.append(facts)
        press(host, panel, "3", "Return")
        wait_for_case(host, panel)
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "plugin" not in line]
    assert said == [], "Slicer's console stays silent"
    assert min(arms.count("real"), arms.count("synthetic")) >= 4
    assert len(walks[0]) > 1000
    for facts in walks[1:]:
        assert differences(walks[0], facts) == []
    assert host.main_window.windowTitle == title


def test_what_can_be_seen_holds_no_id_of_a_case(host: Any, panel: Any, study: Path) -> None:
    second_case(host, panel, study)
    _arm, facts = look(panel, study)
    texts = [text for place, text in facts.items() if not place.startswith(("folder", "file"))]
    assert not any("case-0" in text or str(study / "cases") in text for text in texts)


def actor(at: Shown) -> None:
    import vtk

    text = vtk.vtkTextActor()
    text.SetInput("synthetic")
    at.view.renderWindow().GetRenderers().GetFirstRenderer().AddViewProp(text)


def storage(at: Shown) -> None:
    at.node.AddDefaultStorageNode(str(at.file))


def setting(_at: Shown) -> None:
    import slicer

    slicer.app.userSettings().setValue("RecentlyLoadedFiles/1", "synthetic.nrrd")


def temporary_file(_at: Shown) -> None:
    import slicer

    (Path(slicer.app.temporaryPath) / "made-7.nrrd").touch()


def hierarchy(at: Shown) -> None:
    import slicer

    found = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    found.CreateFolderItem(found.GetSceneItemID(), "made")


LEAKS: dict[str, Callable[[Shown], object]] = {
    "node's name": lambda at: at.node.SetName("made 7"),
    "node's attribute": lambda at: at.node.SetAttribute("MedDiffusion.model", "m"),
    "node's description": lambda at: at.node.SetDescription("seed 7"),
    "node's voxel spacing": lambda at: at.node.SetSpacing(1, 1, 1.01),
    "storage path": storage,
    "array's name": lambda at: at.node.GetImageData().GetPointData().GetScalars().SetName("x"),
    "interpolation": lambda at: at.node.GetDisplayNode().SetInterpolate(False),
    "window": lambda at: at.node.GetDisplayNode().SetWindowLevelMinMax(0, 999),
    "subject hierarchy": hierarchy,
    "corner of a view": lambda at: at.view.cornerAnnotation().SetText(0, "B: made 7"),
    "text in a view": actor,
    "tooltip": lambda at: setattr(at.widget.ui.progressBar, "toolTip", "case-007"),
    "text of a widget": lambda at: setattr(at.widget.ui.whoLabel, "text", "synthetic"),
    "name of a widget": lambda at: at.widget.ui.questionsBox.setObjectName("synthetic"),
    "window title": lambda at: at.widget.parent.window().setWindowTitle("made 7.nrrd"),
    "recent file": setting,
    "temporary file": temporary_file,
    "date of the file": lambda at: os.utime(at.file, (5, 5)),
    "size of the file": lambda at: at.file.write_bytes(at.file.read_bytes() + b"0"),
    "header of the file": lambda at: at.file.write_bytes(
        at.file.read_bytes().replace(b"NRRD0004\n", b"NRRD0005\n", 1)
    ),
    "rights of the file": lambda at: at.file.chmod(0o600),
    "another file": lambda at: at.file.with_name("readme.txt").touch(),
}


def test_a_leak_of_any_kind_is_found(host: Any, panel: Any, study: Path) -> None:
    """Each is planted beside those before it, so that each must add something to what is found."""
    second_case(host, panel, study)
    at = shown(panel, study)
    _arm, before = look(panel, study)
    missed = []
    for name, plant in LEAKS.items():
        plant(at)
        found = walk(study, {"0": at.file})
        if not differences(before, found):
            missed.append(name)
        before = found
    (Path(at.file.parent) / "readme.txt").unlink()
    assert missed == []
