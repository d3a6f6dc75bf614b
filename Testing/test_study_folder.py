"""A study's folder: what is read of it, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from MedDiffusionLib.bundles.catalog import resources_folder
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.studies import key, protocols, study
from MedDiffusionLib.studies.answers import AnswerLog
from MedDiffusionLib.studies.key import read_key
from MedDiffusionLib.studies.order import Draws, distance, spread
from MedDiffusionLib.studies.protocols import protocol_names, read_protocol
from MedDiffusionLib.studies.study import check_reader, order_of, read_study
from study_factory import answer_to, write_study

PUBLISHED = {
    "Realistic image appearance": (
        "Overall not recognizable as CT/MRI",
        "Overall unrealistic, but generally recognizable as CT/MRI",
        "Overall realistic and only minor unrealistic areas",
        "Can't tell whether fake or not",
    ),
    "Consistency between slices": (
        "No consistent slices",
        "Only few (up to 3) slices are consistent",
        "Majority of slices (> 10) are consistent",
        "All slices are consistent",
    ),
    "Anatomic correctness": (
        "Anatomic region not recognizable",
        "Anatomic region recognizable, but major parts of the images exhibit anatomic "
        "incorrectness",
        "Only minor anatomic incorrectness",
        "Anatomic features are correct",
    ),
}
"""Table 1 of Khader et al. 2023, Sci Rep 13:7303."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


@pytest.mark.parametrize("name", ["published", "published-then-real"])
def test_the_published_protocol_has_the_published_wording(name: str) -> None:
    questions = read_protocol(name).phases[0].questions
    assert {q.text: tuple(o.text for o in q.options) for q in questions} == PUBLISHED
    assert all([o.value for o in q.options] == [1, 2, 3, 4] for q in questions)


def test_all_protocols_fit_their_schema_and_are_listed() -> None:
    schema = json.loads(protocols.SCHEMA_PATH.read_text("utf-8"))
    files = list((resources_folder() / "Protocols").glob("*.json"))
    for path in files:
        jsonschema.validate(json.loads(path.read_text("utf-8")), schema)
    assert {*protocol_names()} == {path.stem for path in files}
    assert {read_protocol(name).id for name in protocol_names()} == {*protocol_names()}
    wanted = {"published", "real-or-synthetic", "published-then-real", "2afc", "m-afc"}
    assert wanted <= {*protocol_names()}


def test_confidence_has_six_points_and_choices_an_answer_for_each_volume() -> None:
    (question,) = read_protocol("real-or-synthetic").questions
    assert [option.value for option in question.options] == [1, 2, 3, 4, 5, 6]
    for name in ("2afc", "m-afc"):
        protocol = read_protocol(name)
        assert len(protocol.questions[0].options) == protocol.alternatives


def test_nothing_in_an_untold_phase_of_own_wording_speaks_of_synthetic_volumes() -> None:
    protocol = read_protocol("quality-then-real")
    said = repr(protocol.phases[0]) + protocol.instructions + protocol.title
    assert [phase.told for phase in protocol.phases] == [False, True]
    assert not any(word in said.lower() for word in ("synthetic", "fake", "real", "generated"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol_version": 2}, "update MedDiffusion"),
        ({"phases": []}, "0 entries"),
        ({"kind": "choice"}, "two alternatives"),
        ({"unknown": 1}, "unknown entry"),
        ({"title": " "}, "does not match"),
    ],
)
def test_what_is_no_protocol_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "own.json"
    path.write_bytes(protocols.protocol_bytes("real-or-synthetic"))
    edit(path, **change)
    with pytest.raises(UserError, match=said):
        read_protocol(path)


def test_two_answers_on_one_key_are_refused(tmp_path: Path) -> None:
    content = json.loads(protocols.protocol_bytes("published"))
    content["phases"][0]["questions"][0]["options"][1]["key"] = "1"
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(UserError, match="has the key '1' twice"):
        read_protocol(path)


def test_an_unknown_protocol_is_said_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"There is no protocol nonesuch: .*published"):
        read_protocol("nonesuch")


def test_a_study_fits_its_schema_and_is_read(folder: Path) -> None:
    schema = json.loads(study.SCHEMA_PATH.read_text("utf-8"))
    jsonschema.validate(json.loads((folder / "study.json").read_text("utf-8")), schema)
    made = read_study(folder, thorough=True)
    assert [case.id for case in made.cases] == [f"case-{n:03}" for n in range(1, 13)]
    assert made.cases[0].files == (folder / "cases" / "case-001.nrrd",)
    assert (made.readers, made.margin, made.window) == (("R1", "R2"), 0.1, (0.0, 1000.0))


@pytest.mark.parametrize("name", ["study.json", "protocol.json", "cases/case-007.nrrd"])
def test_an_incomplete_study_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"is no whole study .*{Path(name).name}"):
        read_study(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no whole study"):
        read_study(tmp_path / "nowhere")


def test_a_study_of_a_newer_version_is_refused(folder: Path) -> None:
    edit(folder / "study.json", study_version=2, unheard_of=[])
    with pytest.raises(UserError, match=r"version 2.*update MedDiffusion"):
        read_study(folder)


def test_a_protocol_cannot_change(folder: Path) -> None:
    edit(folder / "protocol.json", title="Another")
    with pytest.raises(UserError, match=r"protocol\.json that was changed"):
        read_study(folder)


def test_a_case_that_changed_is_found(folder: Path) -> None:
    path = folder / "cases" / "case-007.nrrd"
    path.write_bytes(path.read_bytes().swapcase())
    made = read_study(folder)
    made.check_case(made.case("case-006"))
    with pytest.raises(UserError, match=r"case-007\.nrrd that was changed"):
        made.check_case(made.case("case-007"))
    with pytest.raises(UserError, match=r"case-007\.nrrd that was changed"):
        read_study(folder, thorough=True)
    path.write_bytes(b"short")
    with pytest.raises(UserError, match=r"case-007\.nrrd that was changed"):
        read_study(folder)


def test_the_margin_cannot_change_after_the_first_answer(folder: Path) -> None:
    made = read_study(folder)
    with AnswerLog(made, "R1", 1) as log:
        log.add(answer_to(made, 0))
    edit(folder / "study.json", margin=0.4)
    with pytest.raises(UserError, match=r"changed after the first answer \(of R1\)"):
        read_study(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pool": ["case-001", "case-001"]}, "not made of its cases"),
        ({"pool": ["case-099"]}, "not made of its cases"),
        ({"rotating": [[]]}, "one share of cases for each reader"),
        ({"readers": ["R1", "r1"]}, "two readers have one code"),
        ({"readers": ["../R1", "R2"]}, "is no code for a reader"),
        ({"margin": 0}, "margin"),
        ({"files": [{"path": "../x", "bytes": 1, "sha256": "0" * 64}]}, "does not match"),
        ({"groups": [["case-100"]]}, "groups"),
    ],
)
def test_a_study_that_contradicts_itself_is_refused(
    folder: Path, change: dict[str, Any], said: str
) -> None:
    edit(folder / "study.json", **change)
    with pytest.raises(UserError, match=said):
        read_study(folder)


@pytest.mark.parametrize(
    "code", ["", "a b", "R/1", "..", "é", "R" * 33, "NUL", "com1", "-R", "R\n"]
)
def test_a_reader_code_with_odd_letters_is_refused(code: str) -> None:
    with pytest.raises(UserError, match="is no code for a reader"):
        check_reader(code)


def test_a_reader_of_another_study_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="There is no reader R3"):
        order_of(read_study(folder), "R3", 1)


def test_an_order_has_every_case_and_a_fifth_of_them_twice(folder: Path) -> None:
    made = read_study(folder)
    order = order_of(made, "R1", 1)
    seen = Counter(made.case(presentation).id for presentation in order)
    assert set(seen) == {case.id for case in made.cases}
    assert sorted(seen.values()) == [1] * 10 + [2] * 2


def test_orders_differ_between_readers_sessions_and_phases_and_stay(folder: Path) -> None:
    made = read_study(folder)
    orders = {order_of(made, *which) for which in
              (("R1", 1), ("R2", 1), ("R1", 2), ("R1", 1, 1), ("R1", 1))}  # fmt: skip
    assert len(orders) == 4
    assert order_of(read_study(folder), "R2", 1) == order_of(made, "R2", 1)


def test_repeats_and_groups_are_ten_apart(tmp_path: Path) -> None:
    groups = [[f"case-{n:03}", f"case-{n + 40:03}"] for n in range(1, 41)]
    made = read_study(write_study(tmp_path / "study", 80, groups=groups))
    group_of = {case: number for number, group in enumerate(groups) for case in group}
    for session in range(1, 6):
        order = order_of(made, "R1", session)
        assert len(order) == 96
        assert distance([group_of[made.case(p).id] for p in order]) >= 10


def test_nothing_comes_again_soon_after_a_phase_has_ended(tmp_path: Path) -> None:
    groups = [[f"case-{n:03}", f"case-{n + 20:03}"] for n in range(1, 21)]
    made = read_study(write_study(tmp_path / "study", 40, "published-then-real", groups=groups))
    group_of = {case: number for number, group in enumerate(groups) for case in group}
    for session in range(1, 6):
        both = [shown for phase in (0, 1) for shown in order_of(made, "R1", session, phase)]
        assert distance([group_of[made.case(shown).id] for shown in both]) >= 10


def test_a_reader_sees_the_pool_and_an_own_share(tmp_path: Path) -> None:
    ids = [f"case-{n:03}" for n in range(1, 13)]
    made = read_study(write_study(tmp_path / "study", pool=ids[:6], rotating=[ids[6:9], ids[9:]],
                                  repeats_percent=0))  # fmt: skip
    assert set(order_of(made, "R1", 1)) == {*ids[:9]}
    assert set(order_of(made, "R2", 1)) == {*ids[:6], *ids[9:]}


def test_draws_are_those_of_sha256_on_every_system() -> None:
    # printf 'seed\n0' | sha256sum | cut -c 1-16, and so on; each modulo 1000.
    draws = Draws("seed")
    assert [draws.below(1000) for _ in range(3)] == [90, 178, 321]


def test_every_order_of_three_is_as_probable_as_another() -> None:
    draws = Draws("seed")
    counts = Counter(tuple(draws.shuffled("abc")) for _ in range(6000))
    # Chi-square with 5 degrees of freedom is above 20.5 once in a thousand.
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5


def test_what_cannot_be_ten_apart_is_as_far_as_possible() -> None:
    groups = [0, 0, 1, 1, 2, 2]
    order = spread(groups, groups, 10, Draws("seed"))
    assert sorted(order) == groups
    assert distance(order) == 3
    assert spread([7, 7], [0, 0], 10, Draws("seed")) == [7, 7]


def test_a_key_tells_the_arms_of_its_study_alone(folder: Path) -> None:
    made = read_study(folder)
    path = folder.with_name("KEY")
    truth = read_key(path, made)
    schema = json.loads(key.SCHEMA_PATH.read_text("utf-8"))
    jsonschema.validate(json.loads(path.read_text("utf-8")), schema)
    assert [truth.arm(case.id) for case in made.cases] == ["real", "synthetic"] * 6
    edit(path, study="fedcba9876543210")
    with pytest.raises(UserError, match="is the key of another study"):
        read_key(path, made)


def test_a_key_that_was_changed_proves_nothing(folder: Path) -> None:
    path = folder.with_name("KEY")
    path.write_bytes(path.read_bytes().replace(b"real", b"synthetic"))
    with pytest.raises(UserError, match="was changed since the study was made"):
        read_key(path, read_study(folder))


def test_a_keys_hash_cannot_be_guessed_from_the_truth() -> None:
    same = key.Key("0123456789abcdef", {})
    assert len({key.key_bytes(same, key.new_nonce()) for _ in range(3)}) == 3
