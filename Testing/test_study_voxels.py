"""A study's own volumes, as the rating module reads them: stored, checked, and read ahead."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.studies.study import Study, read_study
from MedDiffusionLib.studies.voxels import ReadAhead, read_case
from MedDiffusionLib.volumes.reading import read_image
from rating_factory import make_tiny_study

PATIENCE = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_study(tmp_path_factory.mktemp("made"), 4)


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Study:
    import shutil

    return read_study(shutil.copytree(made, tmp_path / "study"))


@pytest.fixture
def ahead(study: Study) -> Iterator[ReadAhead]:
    reading = ReadAhead(study)
    yield reading
    reading.close()


def test_voxels_and_geometry_are_those_that_itk_reads(study: Study) -> None:
    for case in study.cases:
        (volume,) = read_case(study, case)
        expected = read_image(case.files[0])
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.array, expected.array)
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-12)


def test_voxels_lie_in_memory_as_vtk_has_them(study: Study) -> None:
    (volume,) = read_case(study, study.cases[0])
    assert volume.array.flags.f_contiguous
    assert volume.array.flags.writeable
    assert volume.array.flags.aligned


def hashed(study: Study, path: Path, content: bytes) -> Study:
    """The study as if the file had had this content when it was made."""
    path.write_bytes(content)
    listed = json.loads((study.folder / "study.json").read_bytes())
    for entry in listed["files"]:
        if entry["path"].endswith(path.name):
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (study.folder / "study.json").write_text(json.dumps(listed), "utf-8")
    return read_study(study.folder)


def test_a_file_that_was_changed_is_refused(study: Study) -> None:
    path = study.cases[0].files[0]
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    with pytest.raises(UserError, match=f"has a cases/{path.name} that was changed"):
        read_case(study, study.cases[0])


def test_a_file_that_is_gone_is_named(study: Study) -> None:
    path = study.cases[0].files[0]
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name} cannot be read \(No such file"):
        read_case(study, study.cases[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"type: short", b"type: float"),
        lambda content: content.replace(b"encoding: raw", b"encoding: gzip"),
        lambda content: content.replace(b"endian: little", b"endian: big"),
        lambda content: content[:-2],
        lambda content: b"P5" + content,
        lambda content: content.replace(b"sizes: ", b"sizes: 1000000 1000000 "),
        lambda content: content.replace(b"space origin: (", b"space origin: (nan,"),
        lambda content: b"\xff" * 100,
        lambda content: content.replace(b"kinds: ", b"data file: /dev/zero\nkinds: other "),
    ],
)
def test_what_is_not_of_the_pipelines_form_is_refused(
    study: Study, change: Callable[[bytes], bytes]
) -> None:
    path = study.cases[0].files[0]
    study = hashed(study, path, change(path.read_bytes()))
    with pytest.raises(UserError, match="is not of the form that studies have"):
        read_case(study, study.cases[0])


def test_cases_are_read_ahead_and_kept_until_others_are_asked_for(
    study: Study, ahead: ReadAhead
) -> None:
    first, second, third, _ = study.cases
    ahead.ask(first, second)
    while ahead.turn(1):
        pass
    kept = ahead.take(second, 0)
    assert kept is not None
    first.files[0].unlink()
    ahead.ask(first, third)
    assert ahead.take(first, 0) is not None, "it was read before"
    with pytest.raises(KeyError):
        ahead.take(second, 0)
    volumes = ahead.take(third, PATIENCE)
    assert volumes is not None
    np.testing.assert_array_equal(volumes[0].array, read_image(third.files[0]).array)


def test_a_case_that_could_not_be_read_is_tried_again(study: Study, ahead: ReadAhead) -> None:
    case = study.cases[0]
    content = case.files[0].read_bytes()
    case.files[0].unlink()
    ahead.ask(case)
    with pytest.raises(UserError):
        ahead.take(case, PATIENCE)
    case.files[0].write_bytes(content)
    ahead.ask(case)
    assert ahead.take(case, PATIENCE) is not None
