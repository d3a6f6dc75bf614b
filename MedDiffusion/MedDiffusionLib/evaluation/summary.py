"""Figures of all subjects from what was measured, and what could not be made of it."""

from __future__ import annotations

from collections.abc import Iterable

from ..compute.errors import UserError
from .figure import Figure
from .results import Results
from .subjects import SUBJECTS

_UNDETERMINED = ("too-few-cases", "too-few-values", "constant", "too-small")
"""Codes of errors that say of a figure that these cases do not determine it."""


def summarize(results: Results, names: Iterable[str]) -> tuple[list[Figure], list[str]]:
    """All figures of the named subjects, and a sentence for each subject that has none."""
    figures: list[Figure] = []
    missing: list[str] = []
    patients = len(set(results.patient_numbers))
    for name in names:
        subject = SUBJECTS[name]
        missing += subject.missing(patients)
        if patients < subject.fewest:
            continue
        try:
            figures += subject.figures(results)
        except UserError as error:
            if error.code not in _UNDETERMINED:
                raise
            missing.append(f"{subject.title}: {error.sentence()}")
    return figures, missing


def fewest_sentence() -> str:
    """How many cases are needed for which subject."""
    needs = [f"{subject.fewest} for {subject.title.lower()}" for subject in SUBJECTS.values()]
    return ", ".join(needs)
