"""The report of a study: a new folder with one page, its tables and exports. Needs scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..compute.errors import UserError
from ..reports.page import html_page
from ..reports.tables import Section
from ..volumes.writing import writing
from .analysis import Analysis, analyse
from .exports import mrmcaov_csv, redcap_csv, redcap_data_csv, tidy_csv
from .judged import gather
from .report_sections import sections, verdict_sentences
from .work_folder import work_folder

PAGE_NAME = "report.html"
TABLES_NAME = "tables"
EXPORTS_NAME = "exports"


@dataclass(frozen=True)
class Report:
    """A report that was written; ``sentences``: the verdicts and what is missing."""

    page: Path
    sentences: tuple[str, ...]


def write_report(studies: Sequence[Path], key: Path, output: Path) -> Report:
    """Analyse one study, from the folders that its readers worked in, into a new folder.

    On any error there is no folder. Raises UserError as ``gather`` and ``analyse`` do, and where
    ``output`` exists or cannot be written.
    """
    _check_output(output, studies)
    gathered = gather(studies, key)
    analysis = analyse(gathered)
    parts = sections(analysis)
    with writing(output), work_folder(output.parent) as place:
        folder = place / "report"
        (folder / TABLES_NAME).mkdir(parents=True)
        (folder / EXPORTS_NAME).mkdir()
        _write(folder / PAGE_NAME, page(analysis, parts))
        for part in parts:
            for each in part.tables:
                _write(folder / TABLES_NAME / f"{each.name}.csv", each.csv())
        _write(folder / "answers.csv", tidy_csv(gathered))
        _write(folder / EXPORTS_NAME / "redcap-dictionary.csv", redcap_csv(gathered.study.protocol))
        _write(folder / EXPORTS_NAME / "redcap-data.csv", redcap_data_csv(gathered))
        if (rows := mrmcaov_csv(gathered)) is not None:
            _write(folder / EXPORTS_NAME / "mrmcaov.csv", rows)
        if output.is_dir():
            # Only an empty one is let through, and the system removes no other.
            output.rmdir()
        folder.rename(output)
    return Report(output / PAGE_NAME, (*verdict_sentences(analysis), *analysis.notes))


def page(analysis: Analysis, parts: Sequence[Section]) -> str:
    """The page, whole in itself."""
    return html_page(f"Reader study: {analysis.gathered.study.title}", parts)


def _check_output(output: Path, studies: Sequence[Path]) -> None:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError("exists", "choose another name", path=output, code="report-exists")
    for study in studies:
        if study.resolve() in (output.resolve(), *output.resolve().parents):
            raise UserError(
                "would lie in the study, where readers could open it",
                "choose another place for the report",
                path=output,
                code="report-in-study",
            )


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", newline="")
