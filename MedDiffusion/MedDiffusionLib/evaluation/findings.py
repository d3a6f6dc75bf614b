"""What is odd about the cases themselves, before anybody believes a figure of them."""

from __future__ import annotations

import numpy as np

from ..compute.errors import UserError
from .figures.checks import Floats
from .results import Results
from .subjects.label_fidelity import POOR, nanmean

_MISFIT = 0.4
"""Of the median Dice of the real volumes: a case below this share fits its label map badly."""
_MIXED = 0.25
"""Share of cases with a bad fit from which on the data are mixed up."""
_FEWEST = 4
_OTHER = 0.5
"""How far medians of labels in [-1, 1] lie from the training cases' in another contrast."""
_COARSE = 1.5
_MOST_NAMED = 5


def refuse_mixed(results: Results) -> None:
    """Raise UserError where images and label maps of many cases are not of the same patients."""
    odd = _misfits(results)
    if len(odd) >= 2 and len(odd) >= _MIXED * len(results.names):
        raise UserError(
            f"In {len(odd)} of {len(results.names)} real volumes segmenters do not find the label "
            f"map that is given with them ({_named(odd)})",
            "see whether images and label maps are of the same patients",
            code="mixed-patients",
        )


def findings_of(results: Results) -> list[str]:
    """Sentences about single cases and about the judges."""
    said = []
    if len(results.segmenters) == 1:
        said.append(
            f"Only {results.segmenters[0]} judged: what two segmenters of different make agree in "
            "is worth more."
        )
    for case in results.content["cases"]:
        if case["lacks"]:
            said.append(
                f"{case['name']} lacks {', '.join(case['lacks'])}: it counts for the other labels."
            )
        ratio = max(case["spacing"]) / max(results.content["grid"]["spacing"])
        if ratio > _COARSE:
            said.append(
                f"{case['name']} has voxels of up to {max(case['spacing']):g} mm, coarser than the "
                f"model's {max(results.content['grid']['spacing']):g} mm: it is smoother than what "
                "the model makes."
            )
    for name in _other_contrasts(results):
        said.append(
            f"{name} looks like another contrast than the training cases: its labels are brighter "
            "or darker by a quarter of the model's range and more."
        )
    for name in _misfits(results):
        said.append(
            f"In the real volume of {name} segmenters do not find its label map: see whether both "
            "are of one patient."
        )
    for segmenter in results.segmenters:
        dice = _real_dice(results, segmenter)
        if len(dice) and np.nanmedian(dice) < POOR:
            said.append(
                f"The segmenter {segmenter} finds the labels of real volumes poorly (Dice "
                f"{np.nanmedian(dice):.2f}): it is no judge. Train it longer, on more cases, and "
                "see whether the images are of the model's contrast."
            )
    return said


def _other_contrasts(results: Results) -> list[str]:
    """The cases whose labels have grey levels far from those of the training cases."""
    training = np.array(results.content["training_medians"], np.float64)
    if not training.size:
        return []
    usual = np.nanmedian(training, 0)
    spread = np.nanmax(np.abs(training - usual))
    found = []
    for case in results.content["cases"]:
        away = np.abs(np.array(case["medians"], np.float64) - usual)
        known = away[~np.isnan(away)]
        if known.size and known.mean() > max(_OTHER, 2 * spread):
            found.append(case["name"])
    return found


def _misfits(results: Results) -> list[str]:
    """The cases whose real volume no segmenter finds the label map in, though in others."""
    judged = [_real_dice(results, segmenter) for segmenter in results.segmenters]
    if not judged or len(results.names) < _FEWEST:
        return []
    bad = np.ones(len(results.names), bool)
    for dice in judged:
        good = np.nanmedian(dice[dice >= np.nanmedian(dice)])
        bad &= dice < _MISFIT * good
    return [name for name, is_bad in zip(results.names, bad, strict=True) if is_bad]


def _real_dice(results: Results, segmenter: str) -> Floats:
    """The mean Dice over labels of each case ``[n]``."""
    if not all("dice" in case["real"] for case in results.content["cases"]):
        return np.zeros(0)
    rows = [case["real"]["dice"][segmenter] for case in results.content["cases"]]
    return nanmean(np.array(rows, np.float64), -1)


def _named(names: list[str]) -> str:
    more = " and more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
