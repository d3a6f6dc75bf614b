"""What is seen of a case: the same way each time, and nothing but voxels tells the arms apart."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from blinding import Facts, differences, walk
from host import missing
from host.fixtures import host, started_host
from MedDiffusionLib.studies.answers import read_answers
from MedDiffusionLib.studies.key import read_key
from MedDiffusionLib.studies.study import read_study
from rating_factory import make_tiny_study
from rating_module import (
    key_of,
    made,
    open_study,
    panel,
    presentation,
    press,
    rating_module,
    shown,
    slice_logics,
    study,
    to_case,
    wait_for_case,
)

__all__ = ["host", "made", "panel", "rating_module", "shown", "started_host", "study"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


VIEWS = ("RatingAxial1", "RatingCoronal1", "RatingSagittal1")


# ---- what is seen


def poses() -> list[tuple[object, ...]]:
    """What each view shows: plane, zoom, orientation, window and interpolation."""
    import slicer

    found: list[tuple[object, ...]] = []
    for logic in slice_logics(*VIEWS):
        node, composite = logic.GetSliceNode(), logic.GetSliceCompositeNode()
        display = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID()).GetDisplayNode()
        matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        look = display.GetWindowLevelMin(), display.GetWindowLevelMax(), display.GetInterpolate()
        thick = node.GetSlabReconstructionEnabled()
        found.append((matrix.tolist(), node.GetFieldOfView(), node.GetOrientation(), look, thick))
    return found


def test_each_case_is_shown_the_same_way_whatever_the_reader_did(
    host: Any, shown: Any, study: Path
) -> None:
    before = poses()
    assert [pose[2] for pose in before] == ["Axial", "Coronal", "Sagittal"]
    assert {pose[3] for pose in before} == {(0.0, 1000.0, 1)}
    axial, coronal, _sagittal = slice_logics(*VIEWS)
    for offset in (1.0, 2.0, 3.0, 2.0):
        axial.SetSliceOffset(offset)
    coronal.GetSliceNode().SetFieldOfView(5, 5, 1)
    coronal.GetSliceNode().SetSlabReconstructionEnabled(True)
    (node,) = shown.panel.screen.nodes
    for window in (300, 400, 500):
        node.GetDisplayNode().SetWindowLevel(window, 200)
    node.GetDisplayNode().SetInterpolate(False)
    press(host, shown, "1", "Return")
    wait_for_case(host, shown)
    assert poses() == before
    (logged,) = read_answers(read_study(study))
    assert logged.window_changes == 1
    # The three that are shown at first, and three more of the axial ones.
    assert logged.slices_seen == 6


def test_views_that_get_their_sizes_later_are_fitted_again(host: Any, shown: Any) -> None:
    (axial,) = slice_logics("RatingAxial1")
    axial.ResizeSliceNode(800, 300)
    host.process_events(60)
    _width, height, _depth = axial.GetSliceNode().GetFieldOfView()
    # The whole volume, of 19 voxels of 1 mm, and no more.
    assert height == pytest.approx(19.0)


def test_a_pause_shows_nothing(host: Any, shown: Any) -> None:
    def backgrounds() -> set[str | None]:
        logics = slice_logics(*VIEWS)
        return {logic.GetSliceCompositeNode().GetBackgroundVolumeID() for logic in logics}

    assert None not in backgrounds()
    shown.ui.pauseButton.click()
    assert backgrounds() == {None}
    assert not shown.ui.caseBox.visible
    shown.ui.continueButton.click()
    wait_for_case(host, shown)
    assert None not in backgrounds()


def test_what_slicer_writes_about_volumes_is_off_meanwhile(
    host: Any, panel: Any, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from PySide6.QtWidgets import QWidget

    probe = QWidget(host.main_window)
    probe.setObjectName("DataProbeCollapsibleWidget")
    probe.show()
    updates: list[bool] = []
    corners = types.SimpleNamespace(sliceViewAnnotationsEnabled=True)
    corners.updateSliceViewFromGUI = lambda: updates.append(corners.sliceViewAnnotationsEnabled)
    instance = types.SimpleNamespace(infoWidget=types.SimpleNamespace(sliceAnnotations=corners))
    newer = {"on": True}
    logic = types.SimpleNamespace(
        GetSliceViewAnnotationsEnabled=lambda: newer["on"],
        SetSliceViewAnnotationsEnabled=lambda on: newer.update(on=on),
    )
    module = types.SimpleNamespace(logic=lambda: logic)
    monkeypatch.setattr(slicer.modules, "DataProbeInstance", instance, raising=False)
    monkeypatch.setattr(slicer.modules, "cornertext", module, raising=False)
    before = slicer.app.layoutManager().layout

    def is_on() -> tuple[bool, bool, bool]:
        return not probe.isHidden(), corners.sliceViewAnnotationsEnabled, newer["on"]

    open_study(host, panel, study, "R1")
    to_case(host, panel)
    assert is_on() == (False, False, False)
    panel.ui.closeButton.click()
    assert is_on() == (True, True, True)
    assert updates == [False, True]
    assert slicer.app.layoutManager().layout == before
    probe.deleteLater()


def test_volumes_of_a_choice_stand_side_by_side_and_move_together(
    host: Any, panel: Any, tmp_path: Path
) -> None:
    import slicer

    study = make_tiny_study(tmp_path, 8, protocol="2afc", training=1)
    open_study(host, panel, study, "R1")
    to_case(host, panel)
    assert "to practise on" in panel.ui.progressLabel.text
    manager = slicer.app.layoutManager()
    assert len(manager.sliceViewNames()) == 6
    left, right = slice_logics("RatingAxial1", "RatingAxial2")
    names = [
        slicer.mrmlScene.GetNodeByID(
            logic.GetSliceCompositeNode().GetBackgroundVolumeID()
        ).GetName()
        for logic in (left, right)
    ]
    assert names == ["Volume 1", "Volume 2"]
    left.StartSliceOffsetInteraction()
    left.SetSliceOffset(3.0)
    left.EndSliceOffsetInteraction()
    assert right.GetSliceOffset() == pytest.approx(3.0)
    assert slice_logics("RatingCoronal1")[0].GetSliceOffset() == pytest.approx(0.0, abs=0.51)
    press(host, panel, "2", "Return")
    assert panel.ui.pageText.text.startswith("The real one is:")
    to_case(host, panel)
    press(host, panel, "1", "Return")
    (logged,) = read_answers(read_study(study))
    assert logged.answer == 1


# ---- nothing else is seen


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


def places(widget: Any, study: Path) -> Shown:
    import slicer

    file = read_study(study).case(presentation(widget)).files[0]
    (node,) = widget.panel.screen.nodes
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
    at = places(panel, study)
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
