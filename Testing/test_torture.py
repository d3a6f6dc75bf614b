"""A fixed small sample of the torture test; and it would notice what it looks for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from torture.judge import (
    Broken,
    Ended,
    Tree,
    check_end,
    check_kept,
    check_new,
    check_volume,
    check_words,
    look_at,
)
from torture.kinds import KINDS, Kind
from torture.launching import Launcher, Running, Skipped, Surroundings
from torture.run import Torture, choose_inputs
from torture.stage import Stage
from torture.things import Things, make_things

pytestmark = pytest.mark.process

SAMPLE = {
    "fuzz": 4, "crafted": 4, "dicom": 2, "bundles": 4, "sharing": 2, "options": 3, "folders": 1,
    "environment": 1, "interrupt": 1, "training": 2, "resuming": 1, "disk-full": 1, "valid": 1,
}  # fmt: skip
"""How many of each kind; those that start processes of their own are few. What a killed batch
leaves, ``test_results.py`` holds."""
SEED = 7
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def things(root: Path) -> Things:
    return make_things(root / "things")


@pytest.fixture
def place(root: Path) -> Path:
    """A folder for the inputs of one test."""
    folder = Path(tempfile.mkdtemp(dir=root))
    folder.chmod(0o755)
    return folder


def ended(code: int = 0, out: str = "", err: str = "", **facts: object) -> Ended:
    return Ended(code, out, err, 0, 0.0, **facts)  # type: ignore[arg-type]


# ---- the sample


def test_a_sample_of_bad_odd_and_hostile_inputs_is_met_as_promised(
    place: Path, things: Things
) -> None:
    inputs = [(BY_NAME[name], n) for name, count in SAMPLE.items() for n in range(count)]
    tried = Torture(place, things, SEED, real_share=0, keep=False).run(inputs, jobs=2)
    assert len(tried) == len(inputs)
    assert [f"{x.kind}:{x.number} {x.problem} {x.commands}" for x in tried if x.problem] == []


def test_a_fork_and_the_installed_command_get_the_same_verdicts(
    place: Path, things: Things
) -> None:
    inputs = [(BY_NAME[name], 0) for name in ("fuzz", "bundles", "options")]
    said = []
    for share in (0.0, 1.0):
        folder = place / str(share)
        folder.mkdir()
        Torture(folder, things, SEED, share, keep=True).run(inputs, jobs=1)
        texts = sorted(folder.glob("*-said/*"))
        assert len(texts) >= 2 * len(inputs)
        said.append({
            path.relative_to(folder): path.read_text("utf-8").replace(str(folder), "")
            for path in texts
        })  # fmt: skip
    assert said[0] == said[1]


# ---- it would notice


def refused(stage: Stage) -> None:
    stage.synthesize("nowhere.nii", made=True)


def hang(stage: Stage) -> None:
    os.mkfifo(stage.folder / "silent")
    # Opening it waits for a writer, for ever.
    stage.launcher.wait(
        running := stage.start("models", stdout=str(stage.folder / "silent"), most_seconds=0.5)
    )
    stage.hold(not running.stopped, running.stopped)


def test_a_refusal_where_a_volume_is_due_is_a_failure_and_a_hang_is_ended(
    place: Path, things: Things
) -> None:
    torture = Torture(place, things, 0, real_share=0, keep=True)
    inputs = [(Kind("refused", 1, refused), 0), (Kind("hang", 1, hang), 0)]
    first, second = (one.problem for one in torture.run(inputs, jobs=1))
    assert first.startswith("refused, exit code 1: meddiffusion: error:")
    assert second == "not done after 0.5 s"


def test_what_changes_or_goes_is_data_lost(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    before = look_at(tmp_path)
    check_kept(before, look_at(tmp_path))
    (tmp_path / "a").write_text("thine")
    with pytest.raises(Broken, match="'a' was changed"):
        check_kept(before, look_at(tmp_path))
    check_kept(before, look_at(tmp_path), replaced=["a"])
    (tmp_path / "a").unlink()
    with pytest.raises(Broken, match="'a' is gone"):
        check_kept(before, look_at(tmp_path))


@pytest.mark.parametrize(
    ("after", "done", "words"),
    [
        ({"out/v.nii": ()}, True, None),
        ({"out/v.nii": ()}, False, "left after a refusal"),
        ({"out/v.nii": (), "x": ()}, True, "beside what was asked for"),
        ({}, True, "without 'out/v.nii'"),
        ({".meddiffusion-0123456789abcdef.nii": ()}, False, "stray file"),
    ],
)
def test_new_files_are_those_asked_for(after: Tree, done: bool, words: str | None) -> None:
    def check() -> None:
        check_new({}, after, ["out/v.nii"], lambda name: False, done)

    if words is None:
        check()
    else:
        with pytest.raises(Broken, match=words):
            check()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (ended(1, err="Traceback (most recent call last):\n  x\nKeyError: 'a'\n"), "KeyError"),
        (ended(-11), "death by signal 11"),
        (ended(-9, stopped="over 2 GB of memory"), "over 2 GB"),
        (ended(3), "exit code 3"),
        (ended(0, left_processes=True), "left a process"),
    ],
)
def test_bad_ends_are_noticed(end: Ended, words: str) -> None:
    with pytest.raises(Broken, match=words):
        check_end(end)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (ended(1, err="meddiffusion: error: It is so: do so.\n"), None),
        (ended(2, err="meddiffusion: error: no such option (see meddiffusion --help)\n"), None),
        (ended(0, out="v.nii\n"), None),
        (ended(1), "0 error sentences"),
        (ended(1, err="meddiffusion: error: A.\nmeddiffusion: error: B.\n"), "2 error sentences"),
        (ended(1, err="meddiffusion: error: A\n"), "no sentence"),
        (ended(1, err="WARNING: x\nmeddiffusion: error: A.\n"), "beside the sentence"),
        (ended(0, err="meddiffusion: error: A.\n"), "exit code 0 with an error"),
        (ended(0, out="\x1b[31mred\n"), "control character"),
        (ended(1, err=f"meddiffusion: error: {'a' * 3000}.\n"), "characters"),
    ],
)
def test_what_is_said_is_one_sentence(end: Ended, words: str | None) -> None:
    if words is None:
        check_words(end)
    else:
        with pytest.raises(Broken, match=words):
            check_words(end)


def test_a_volume_that_is_no_volume_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "v.nii.gz").write_bytes(b"")
    with pytest.raises(Broken, match="cannot be read"):
        check_volume(tmp_path / "v.nii.gz")


def test_inputs_are_shared_out_by_weight_and_are_the_same_again() -> None:
    inputs = choose_inputs(1645, [])
    assert len(inputs) == 1645
    assert inputs == choose_inputs(1645, [])
    assert {kind.name for kind, _ in choose_inputs(20, [])} == {kind.name for kind in KINDS}
    assert {kind.name for kind, _ in choose_inputs(20, ["fuzz"])} == {"fuzz"}


class Nothing(Launcher):
    """Starts no command: an input is made, and that is all."""

    def __init__(self) -> None:
        pass

    def start(self, arguments: Sequence[object], around: Surroundings) -> Running:
        raise Skipped("only the input is wanted")


@pytest.mark.parametrize("name", ["fuzz", "crafted", "bundles", "sharing", "training"])
def test_an_input_is_a_function_of_seed_kind_and_number(
    name: str, place: Path, things: Things
) -> None:
    def made(seed: int, number: int, where: str) -> Tree:
        stage = Stage(
            place / where, name, number, seed, Random(f"{seed} {name} {number}"), things,
            Nothing(), real=False,
        )  # fmt: skip
        stage.folder.mkdir()
        with pytest.raises(Skipped):
            BY_NAME[name].play(stage)
        return look_at(stage.folder)

    for number in range(5):
        again = [made(SEED, number, f"{name} {number} {n}") for n in (1, 2)]
        assert again[0] == again[1]
    assert made(SEED, 0, f"{name} one") != made(SEED + 1, 3, f"{name} other")
