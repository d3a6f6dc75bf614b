"""The report: one page that needs nothing from elsewhere, tables, exports; or no folder at all."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from scipy import stats

from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.reports.tables import table
from MedDiffusionLib.statistics import planning, planning_readers
from MedDiffusionLib.statistics.estimate import Estimate
from MedDiffusionLib.studies.exports import REDCAP, redcap_csv
from MedDiffusionLib.studies.protocols import protocol_bytes, protocol_names, read_protocol
from MedDiffusionLib.studies.report import write_report
from MedDiffusionLib.studies.sizes import Wish, describe
from study_factory import write_study
from study_readers import answer_all, choice_study, drawn, opened, with_key

EVIL = "<script>alert('x')</script> & \"=1+1\" \u202e"


def answered(folder: Path, comment: str = "") -> Path:
    study, key = opened(folder)
    for n, reader in enumerate(study.readers):
        answer_all(study, key, reader, drawn(n), comment=comment)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = write_study(tmp_path / "study", 12, "published-then-real", title=f"A {EVIL}")
    return answered(folder, comment=f"=1+1\n{EVIL}")


def report(study: Path) -> Path:
    return write_report([study], study.with_name("KEY"), study.with_name("report")).page


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "circle", "rect", "line", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("circle", "rect", "line", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_from_elsewhere(study: Path) -> None:
    path = report(study)
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert path.stat().st_size < 5_000_000
    assert {"svg", "table", "figure"} <= set(page.tags)
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "a", "image", "use", "base"}
    assert not forbidden & set(page.tags)
    assert not {"src", "href", "xlink:href", "onload", "data"} & {n for n, _ in page.attributes}
    assert "://" not in text
    assert "url(" not in text
    assert "default-src 'none'" in dict(page.attributes)["content"] or "default-src 'none'" in text


def test_what_others_wrote_is_text_and_nothing_else(study: Path) -> None:
    page = Page(report(study).read_text("utf-8"))
    shown = "".join(page.text)
    assert "A <script>alert('x')</script> & \"=1+1\"" in shown
    assert "=1+1 <script>alert" in shown
    assert "script" not in page.tags
    # A character that turns the direction of what follows.
    assert "\u202e" not in shown
    (row, *_) = rows_of(study.with_name("report") / "answers.csv")
    assert row["comment"].startswith("'=1+1 <script>")


def test_the_page_and_its_tables_hold_scipys_numbers(study: Path) -> None:
    path = report(study)
    text = path.read_text("utf-8")
    answers = [row for row in rows_of(path.parent / "answers.csv")
               if (row["criterion"], row["reader"]) == ("real", "R1")]  # fmt: skip
    first: dict[str, bool] = {}
    for row in answers:
        first.setdefault(row["case"], (int(row["answer"]) <= 3) == (row["arm"] == "synthetic"))
    theirs = stats.binomtest(sum(first.values()), 12)
    low, high = theirs.proportion_ci(method="wilson")
    assert f"{sum(first.values()) / 12:.3f} [{low:.3f}, {high:.3f}]" in text
    (row,) = [r for r in rows_of(path.parent / "tables" / "real-readers.csv")
              if r["reader"] == "R1"]  # fmt: skip
    assert float(row["share (Wilson) low"]) == pytest.approx(low, abs=1e-9)
    assert float(row["p (exact)"]) == pytest.approx(theirs.pvalue, abs=1e-9)


def test_every_table_of_the_page_lies_beside_it(study: Path) -> None:
    path = report(study)
    captions = len(re.findall("<caption>", path.read_text("utf-8")))
    tables = list((path.parent / "tables").glob("*.csv"))
    assert captions == len(tables) > 10
    assert all(rows_of(each) for each in tables)


def test_a_report_of_choices_is_whole(tmp_path: Path) -> None:
    path = report(answered(choice_study(tmp_path / "study", 12)))
    assert "Real one chosen" in path.read_text("utf-8")
    rows = rows_of(path.parent / "answers.csv")
    assert all((row["arm"] == "real") == (row["right"] == "1") for row in rows)
    assert not (path.parent / "exports" / "mrmcaov.csv").exists()


def test_one_reader_and_two_cases_make_a_report(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 2, readers=["R1"], rotating=[[]])
    text = report(answered(folder)).read_text("utf-8")
    assert "nan" not in "".join(Page(text).text)
    assert "readers like these:" not in text


def test_an_example_is_said_to_be_one(tmp_path: Path) -> None:
    folder = with_key(write_study(tmp_path / "study"), lambda key: key.update(example=True))
    assert "Both arms are synthetic" in report(answered(folder)).read_text("utf-8")


def test_a_reader_who_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    study, key = opened(folder)
    answer_all(study, key, "R1", drawn(1))
    assert "R2 has not answered yet." in report(folder).read_text("utf-8")


def test_mrmcaov_gets_its_columns_with_synthetic_as_the_positive_truth(study: Path) -> None:
    page = report(study)
    rows = rows_of(page.parent / "exports" / "mrmcaov.csv")
    assert list(rows[0]) == ["reader", "treatment", "case", "truth", "rating"]
    # Each of 12 cases once for each of 2 readers, though repeats were shown.
    assert len({(row["reader"], row["case"]) for row in rows}) == len(rows) == 24
    (area,) = [
        row for row in rows_of(page.parent / "tables" / "real-pooled.csv")
        if (row["figure"], row["who"]) == ("Area under the ROC curve", "R1")
    ]  # fmt: skip
    ratings = [[int(r["rating"]) for r in rows if (r["reader"], r["truth"]) == ("R1", truth)]
               for truth in "10"]  # fmt: skip
    theirs = stats.mannwhitneyu(*ratings).statistic / 36
    assert float(area["estimate"]) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("name", protocol_names())
def test_redcaps_dictionary_has_18_columns_and_all_answers(name: str) -> None:
    protocol = read_protocol(name)
    rows = list(csv.reader(redcap_csv(protocol).splitlines()))
    assert {len(row) for row in rows} == {18}
    assert rows[0] == list(REDCAP)
    names = [row[0] for row in rows[1:]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", each) for each in names)
    assert names[0] == "record_id"
    radios = [row for row in rows if row[3] == "radio"]
    for row, question in zip(radios, protocol.questions, strict=True):
        choices = [choice.split(", ", 1) for choice in row[5].split(" | ")]
        assert [int(value) for value, _ in choices] == [o.value for o in question.options]


def test_an_own_scale_may_be_called_as_a_field_of_redcaps_form(tmp_path: Path) -> None:
    content = json.loads(protocol_bytes("published"))
    content["phases"][0]["questions"][0]["id"] = "reader"
    own = tmp_path / "own.json"
    own.write_text(json.dumps(content), "utf-8")
    names = [row[0] for row in csv.reader(redcap_csv(read_protocol(own)).splitlines())]
    assert len(set(names)) == len(names)


def test_redcaps_data_fits_its_dictionary_and_tells_no_arm(study: Path) -> None:
    exports = report(study).parent / "exports"
    fields = rows_of(exports / "redcap-dictionary.csv")
    rows = rows_of(exports / "redcap-data.csv")
    assert list(rows[0]) == [field["Variable / Field Name"] for field in fields]
    # 12 cases and 2 repeats in two parts by two readers.
    assert len({row["record_id"] for row in rows}) == len(rows) == 2 * 2 * 14
    for field in fields:
        given = {row[field["Variable / Field Name"]] for row in rows}
        if field["Field Type"] == "radio":
            choices = field["Choices, Calculations, OR Slider Labels"].split(" | ")
            assert given <= {"", *(choice.split(", ")[0] for choice in choices)}
    assert "synthetic" not in (exports / "redcap-data.csv").read_text("utf-8")
    answers = rows_of(exports.parent / "answers.csv")
    first = next(a for a in answers if a["criterion"] == "anatomy")
    showing = "-".join([first["reader"], first["session"], "1", first["case"]])
    found = {row["record_id"]: row["anatomy"] for row in rows}
    assert found[showing + (".2" if first["repeat"] == "1" else "")] == first["answer"]


def test_what_looks_like_a_formula_is_none_in_a_table() -> None:
    made = table("t", "T", ("a", "b"), [("=1+1", -0.5), ("@x", Estimate(0.5, 0.4, 0.6))])
    rows = list(csv.reader(made.csv().splitlines()))
    assert rows[1][0] == "'=1+1"
    assert rows[1][1] == "-0.5"
    assert rows[2][:4] == ["'@x", "0.5", "0.4", "0.6"]


def test_refusals_leave_no_folder(study: Path, tmp_path: Path) -> None:
    key, output = study.with_name("KEY"), tmp_path / "report"
    other = write_study(tmp_path / "other" / "study", id="f" * 16)
    with pytest.raises(UserError, match="was changed since"):
        write_report([study], other.with_name("KEY"), output)
    log = study / "answers" / "R1.jsonl"
    text = log.read_bytes()
    log.write_bytes(text.replace(b'"seconds":5.0', b'"seconds":4.0', 1))
    with pytest.raises(UserError, match="was edited or cut"):
        write_report([study], key, output)
    log.write_bytes(text)
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists: choose another name"):
        write_report([study], key, output)
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="would lie in the study"):
        write_report([study], key, study / "report")
    with pytest.raises(UserError, match="does not exist"):
        write_report([study], key, tmp_path / "no" / "report")
    assert not list(tmp_path.glob(".meddiffusion*"))


def test_the_command_writes_the_report_and_says_the_verdicts(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = study.with_name("report")
    key = str(study.with_name("KEY"))
    assert main(["study", "analyse", str(study), "--key", key, "-o", str(output)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(output / "report.html")
    assert "meddiffusion: Accuracy" in said.err
    assert main(["study", "analyse", str(study), "--key", key, "-o", str(output)]) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize("what", [["analyse", "S", "--key", "K", "-o", "R"],
                                  ["plan", "--margin", "0.1"]])  # fmt: skip
def test_without_scipy_one_sentence_says_what_to_install(
    what: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("MedDiffusionLib.statistics.find_spec", lambda name: None)
    assert main(["study", *what]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'pip install "meddiffusion[study]"' in said


def test_the_plan_gives_the_known_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "plan", "--half-width", "0.1", "--share", "0.6", "--margin", "0.1"]) == 0
    said = capsys.readouterr().out.splitlines()
    # The guide's: ±9.6 at 100 cases, so fewer for ±10; 210 for 60 %; exact tests need a few more
    # than Wilson's 212.
    assert "93 cases, one reader" in said[0]
    assert "210 cases, one reader" in said[1]
    assert f"{planning.equivalence_cases(0.1)} cases, one reader" in said[2]
    assert len(said) == 4


def test_the_plan_of_several_readers_has_the_power_and_not_with_fewer() -> None:
    wish = Wish(share=0.6, readers=3)
    found = re.search(r"these readers alone: (\d+) cases", describe(wish)[1])
    assert found is not None
    cases = int(found[1])
    powers = [planning_readers.readers_power(3, n, 0.6) for n in (cases - 1, cases)]
    assert powers[0] < 0.8 <= powers[1]


def test_the_plan_gives_readers_for_a_number_of_cases() -> None:
    said = describe(Wish(margin=0.1, cases=100))
    (line,) = [each for each in said if "for readers like these" in each]
    found = re.search(r"100 cases, for readers like these: (\d+) readers", line)
    assert found is not None
    powers = [planning_readers.others_power(n, 100, 0.5, margin=0.1)
              for n in (int(found[1]) - 1, int(found[1]))]  # fmt: skip
    assert powers[0] < 0.8 <= powers[1]


def test_the_plan_says_where_only_more_readers_or_only_more_cases_help() -> None:
    assert "like these: no number of cases, only more readers." in describe(
        Wish(margin=0.1, readers=3))[-2]  # fmt: skip
    assert "alone: no number of readers, only more cases." in describe(
        Wish(margin=0.1, cases=40))[2]  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(), "nothing to plan for"),
        (Wish(margin=0.5), "The margin is 0.5"),
        (Wish(margin=0.3, choices=4), "The margin is 0.3"),
        (Wish(share=0.5), "is what guessing gives"),
        (Wish(half_width=0.0), "The half-width is 0"),
        (Wish(cases=0), "The number of cases is 0"),
        (Wish(cases=10, readers=0), "The number of readers is 0"),
    ],
)
def test_wishes_that_cannot_be_are_refused(wish: Wish, said: str) -> None:
    with pytest.raises(UserError, match=said):
        describe(wish)


@pytest.mark.process
def test_nothing_of_the_plan_or_the_report_loads_torch() -> None:
    code = (
        "import sys; import MedDiffusionLib.studies.report, MedDiffusionLib.studies.sizes;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
