"""The report of a study: a new folder with one page, its tables and exports. Needs scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..compute.errors import UserError
from ..compute.version import __version__
from ..volumes.writing import writing
from .analysis import Analysis, analyse
from .exports import mrmcaov_csv, redcap_csv, redcap_data_csv, tidy_csv
from .judged import gather
from .report_sections import sections, verdict_sentences
from .tables import Section, shown_text
from .work_folder import work_folder

PAGE_NAME = "report.html"
TABLES_NAME = "tables"
EXPORTS_NAME = "exports"

# Nothing may be loaded, whatever a text in the page says.
_HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d242b; max-width: 1200px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; }
h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ccd3da; }
table { border-collapse: collapse; margin: .8em 0 1.4em; font-size: 13px; }
caption { text-align: left; font-weight: 600; padding: .3em 0; }
th, td { text-align: left; padding: .25em .7em; border-bottom: 1px solid #e3e7eb;
  vertical-align: top; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } figure { margin: 1em 0; } figcaption { font-weight: 600; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif;
  fill: #1d242b; }
summary { cursor: pointer; font-weight: 600; margin: .6em 0; }
footer { color: #5c6570; margin: 3em 0 1em; font-size: 13px; }
"""


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
    """The page, whole in itself: no script, nothing from elsewhere, all text escaped."""
    study = analysis.gathered.study
    title = shown_text(f"Reader study: {study.title}")
    body = "".join(map(_section, parts))
    foot = shown_text(f"MedDiffusion {__version__}. For research only.")
    return (
        f"{_HEAD}<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"{body}<footer>{foot}</footer></body></html>\n"
    )


def _section(part: Section) -> str:
    said = "".join(f"<p>{shown_text(sentence)}</p>" for sentence in part.sentences)
    pictures = "".join(part.plots)
    tables = "".join(each.html() for each in part.tables)
    return f"<section><h2>{shown_text(part.title)}</h2>{said}{pictures}{tables}</section>"


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
