"""Slicer's own parser and engine run the two command-line modules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import make_bundle
from data_factory import AFFINES, two_boxes
from host import missing
from host.fixtures import booted_mrml, scene
from MedDiffusionLib import load
from MedDiffusionLib.bundles.manifest import read_manifest
from MedDiffusionLib.training.loop.names import CHECKPOINT_NAME, LOG_NAME
from MedDiffusionLib.volumes.volume import Segment
from training_factory import make_plan, read_log, write_data

__all__ = ["booted_mrml", "scene"]

pytest_plugins = ("host.isolation",)
pytestmark = pytest.mark.skipif(bool(missing("slicer_core")), reason=missing("slicer_core"))

FOLDER = Path(__file__).parents[1] / "MedDiffusion" / "CLI"


@pytest.fixture(scope="module")
def modules(booted_mrml: Any) -> Iterator[Any]:
    """The two modules, registered, by short name; Slicer's processing thread runs."""
    from host.command_line import CommandLineModule, processing

    names = {"synthesize": "MedDiffusionSynthesize", "train": "MedDiffusionTrain"}
    with processing():
        yield {key: CommandLineModule(FOLDER / f"{name}.py") for key, name in names.items()}


# ---- the parser


@pytest.mark.parametrize("name", ["MedDiffusionSynthesize", "MedDiffusionTrain"])
def test_slicer_parses_the_description_without_a_word(
    scene: Any, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    from host.command_line import Description

    Description((FOLDER / f"{name}.xml").read_text("utf-8"))
    assert capfd.readouterr() == ("", "")


def test_slicer_refuses_a_flag_with_a_hyphen(scene: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Why the flags have underscores; and so its parser is really asked."""
    from host.command_line import BadDescription, Description

    xml = (FOLDER / "MedDiffusionTrain.xml").read_text("utf-8")
    with pytest.raises(BadDescription):
        Description(xml.replace("<longflag>skip_bad", "<longflag>skip-bad"))
    assert "skip-bad" in capfd.readouterr().err


def test_slicer_has_every_parameter_with_its_default_and_flag(scene: Any, modules: Any) -> None:
    from xml.etree import ElementTree

    from host.command_line import parameter_names

    for module in modules.values():
        node = module.logic().CreateNodeInScene()
        tree = ElementTree.parse(Path(module.path).with_suffix(".xml"))
        elements = [e for e in tree.iter() if e.find("name") is not None]
        assert parameter_names(node) == [e.findtext("name") for e in elements]
        for element in elements:
            value = node.GetParameterAsString(element.findtext("name"))
            assert value == element.findtext("default", "")


# ---- synthesis


def label_node(scene: Any, labels: Any = None) -> Any:
    """A node of a label map, oblique unless given."""
    import slicer.util

    labels = labels or two_boxes(affine=AFFINES["oblique"])
    array = labels.array.astype(np.int16).transpose()
    return slicer.util.addVolumeFromArray(
        array, labels.affine, "drawn", "vtkMRMLLabelMapVolumeNode"
    )


def output_node(scene: Any) -> Any:
    return scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "synthetic")


def same_geometry(first: Any, second: Any) -> bool:
    import slicer

    return slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(first, second) == ""


def files_left(booted: Any) -> list[Path]:
    """What lies in Slicer's temporary folder."""
    return [path for path in booted.temporary.iterdir() if not path.name.startswith(".")]


def test_a_label_map_of_the_scene_becomes_a_volume_beside_it(
    scene: Any, booted_mrml: Any, modules: Any, tiny_bundle: Path
) -> None:
    import slicer.util

    from host.command_line import Run

    labels, volume = label_node(scene), output_node(scene)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, labels)
    # Slicer's windows do this for every new volume.
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    run = Run(
        modules["synthesize"], labelMap=labels, outputVolume=volume, model=tiny_bundle, seed=5,
        steps=300, device="cpu",
    ).wait()  # fmt: skip
    assert (run.status, run.errors, run.output.strip()) == ("Completed", "", "")
    assert run.statuses[-3:] == ["Running", "Completing", "Completed"]
    assert_progress(run)
    assert [run.value(name) for name in ("volumes", "usedModel", "usedSeed")] == ["1", "tiny", "5"]
    assert same_geometry(volume, labels)
    assert slicer.util.arrayFromVolume(volume).std() > 0
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume)) == study
    assert files_left(booted_mrml) == []


def assert_progress(run: Any) -> None:
    """It was seen, and rose to its highest value; which values were seen is up to the machine."""
    rising = run.progress[: run.progress.index(max(run.progress)) + 1]
    assert 0 < rising[-1] <= 100
    assert rising == sorted(rising)


def test_segments_and_labels_of_other_values_are_matched_and_a_contrast_is_chosen(
    scene: Any, modules: Any, tmp_path: Path
) -> None:
    import slicer.util

    from host.command_line import Run

    channels = [{"name": n, "units": "arbitrary", "range": [0, 1000]} for n in ("T1w", "T2w")]
    model = make_bundle(tmp_path / "two", channels=channels)
    labels = two_boxes()
    odd = np.array([0, 7, 3], np.int32)[labels.array]
    moved = type(labels)(odd, labels.affine, labels.kind)
    made = []
    for node, more in (
        (label_node(scene, moved), {"table": "7=anterior, 3=posterior"}),
        (segmentation(scene, labels), {}),
    ):
        volume = output_node(scene)
        run = Run(
            modules["synthesize"], labelMap=node, outputVolume=volume, model=model, device="cpu",
            channel="T2w", **more,
        ).wait()  # fmt: skip
        assert (run.status, run.errors) == ("Completed", "")
        made.append(slicer.util.arrayFromVolume(volume))
    assert np.array_equal(made[0], made[1])
    first, second = (v.array.transpose() for v in load(model, "cpu").synthesize(labels))
    # The engine may compute in other bits here; the two contrasts differ by far more.
    assert np.corrcoef(made[0].ravel(), second.ravel())[0, 1] > 0.99
    assert np.corrcoef(made[0].ravel(), first.ravel())[0, 1] < 0.9


def segmentation(scene: Any, labels: Any) -> Any:
    """A node with one named segment a label, in another order than the model's."""
    import slicer.util

    reference = label_node(scene, labels)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    for segment in (Segment(2, "posterior"), Segment(1, "anterior")):
        added = node.GetSegmentation().AddEmptySegment("", segment.name)
        mask = (labels.array == segment.value).astype(np.uint8).transpose()
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, added, reference)
    return node


def test_a_failed_synthesis_says_why_and_leaves_the_volume_empty(
    scene: Any, booted_mrml: Any, modules: Any, tiny_bundle: Path
) -> None:
    from host.command_line import Run

    empty = two_boxes()
    empty.array[:] = 0
    volume = output_node(scene)
    run = Run(
        modules["synthesize"], labelMap=label_node(scene, empty), outputVolume=volume,
        model=tiny_bundle,
    ).wait()  # fmt: skip
    assert run.status == "Completed with errors"
    assert "is empty: label at least one voxel." in sentence_of(run)
    assert volume.GetImageData() is None
    assert files_left(booted_mrml) == []


def sentence_of(run: Any) -> str:
    """The one sentence of a failed run."""
    (line,) = run.errors.splitlines()
    assert line.startswith("meddiffusion: error: ")
    return str(line)


# ---- training


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Cases in the folders images and labels, and a preset that saves all the time."""
    write_data(tmp_path, 3)
    preset = make_plan(checkpoint_minutes=0.001)
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    return tmp_path


def lines_of(path: Path) -> int:
    return path.read_text("utf-8").count("\n")


def training(data: Path) -> dict[str, Any]:
    folders = {name: data / name for name in ("images", "labels")}
    return {**folders, "output": data / "model", "preset": data / "preset.json", "device": "cpu"}


def test_a_cancelled_training_goes_on_from_its_checkpoint_until_a_file_stops_it_with_a_model(
    scene: Any, booted_mrml: Any, modules: Any, data: Path
) -> None:
    from host.command_line import Run

    output, many = data / "model", 10_000
    run = Run(modules["train"], **training(data), iterations=many, name="mine")
    run.wait(until=lambda: run.node.GetProgress() > 0 and (output / CHECKPOINT_NAME).is_file())
    run.node.Cancel()
    run.wait()
    assert run.status == "Cancelled"
    assert not (output / "model.json").exists()
    before, log = read_log(output), output / LOG_NAME
    done = before[-1]["iteration"]
    assert 0 < done < many
    again = Run(modules["train"], **training(data), iterations=many, resume=True, name="mine")
    again.wait(until=lambda: again.node.GetProgress() > 0 and lines_of(log) > len(before) + 1)
    (output / "stop").touch()
    again.wait()
    assert (again.status, again.errors, again.value("ending")) == ("Completed", "", "stopped")
    assert_progress(again)
    # It did not begin anew: the lines before the checkpoint are those of the first run.
    assert read_log(output)[0] == before[0]
    assert 0 < float(again.value("finalLoss")) < 10
    manifest = read_manifest(Path(again.value("bundle")))
    assert manifest.training is not None
    end = int(again.value("iterationsDone"))
    assert done < end < many
    assert (manifest.name, manifest.training.iterations) == ("mine", end)
    assert files_left(booted_mrml) == []


def test_a_failed_training_says_why(scene: Any, modules: Any, data: Path) -> None:
    from host.command_line import Run

    (data / "labels" / "case 1.nrrd").write_text("no label map")
    run = Run(modules["train"], **training(data), check=True).wait()
    assert run.status == "Completed with errors"
    assert "case 1.nrrd" in run.output
    assert "The data cannot be trained on: " in sentence_of(run)
