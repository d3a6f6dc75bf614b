"""Takes the README's pictures of a report: plots of a study that simulated readers answered.

    PYTHONPATH=Testing python Testing/study_pictures.py [FOLDER]

With a FOLDER the whole study, its key and its report are kept there, to learn from. There are no
volumes in it: three readers, to whom real ones look somewhat better, draw 40 answers an arm.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from MedDiffusionLib.studies.report import write_report
from study_factory import write_study
from study_readers import answer_all, drawn, opened

PICTURES = Path(__file__).parents[1] / "Resources" / "Screenshots"
PLOTS = {
    "study-answers": "Answers: Realistic image appearance",
    "study-accuracy": "Accuracy, 95 % intervals",
    "study-roc": "ROC curves",
}
"""Captions of the plots by the names of their pictures."""
STYLE = "<style>text { font: 12px sans-serif; fill: #1d242b; }</style>"


def main() -> None:
    if folders := sys.argv[1:]:
        take(Path(folders[0]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            take(Path(folder))


def take(folder: Path) -> None:
    study = write_study(
        folder / "study", 80, "published-then-real", title="Simulated readers",
        readers=["R1", "R2", "R3"], rotating=[[], [], []],
    )  # fmt: skip
    made, key = opened(study)
    for seed, reader in enumerate(made.readers):
        answer_all(made, key, reader, drawn(seed, better=0.5))
    report = write_report([study], folder / "KEY", folder / "report")
    print(*report.sentences, report.page, sep="\n")
    page = report.page.read_text("utf-8")
    for name, caption in PLOTS.items():
        (PICTURES / f"{name}.svg").write_text(picture(page, caption), "utf-8")


def picture(page: str, caption: str) -> str:
    """A plot of a page as a file of its own, on white."""
    figure = page.split(f"<figcaption>{caption}</figcaption>", 1)[1].split("</svg>", 1)[0]
    opening, parts = figure.split(">", 1)
    opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f'{opening}>{STYLE}<rect width="100%" height="100%" fill="#fff"/>{parts}</svg>\n'


if __name__ == "__main__":
    main()
