"""The page of an audit: one HTML file, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compute.parsing import printable
from .audit import Measured
from .verdict import FAILED, INCONCLUSIVE, PASSED, Judged

PAGE_NAME = "report.html"
_PAIRS = 12
_MOST_NAMED = 12
_HEIGHT = 150
"""Pixels of a picture."""
# Nothing may be loaded, whatever a text in the page says.
_HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d242b; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; }
h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ccd3da; }
table { border-collapse: collapse; margin: .8em 0 1.4em; font-size: 13px; }
th, td { text-align: left; padding: .25em .7em; border-bottom: 1px solid #e3e7eb; }
.verdict { font-size: 1.3em; font-weight: 600; padding: .5em .8em; border-left: 6px solid #888; }
.passed { border-color: #3d8b45; } .failed { border-color: #b3261e; }
.inconclusive { border-color: #c48a1c; }
figure { display: inline-block; margin: 0 1.4em 1.2em 0; } figcaption { font-size: 13px; }
figure img { display: block; margin-bottom: 2px; image-rendering: pixelated; }
footer { color: #5c6570; margin: 3em 0 1em; font-size: 13px; }
"""
_MEANS = {
    PASSED: "no test found more than chance gives, and the detector finds what was planted",
    FAILED: "the model gives back more of its training cases than of cases that it has not seen",
    INCONCLUSIVE: "nothing was found, and it cannot be said that there is nothing",
}


def page(content: Mapping[str, Any], measured: Measured, judged: Judged) -> str:
    """The page of ``audit.json``'s content, with pictures of the nearest pairs."""
    model = content["model"]
    title = _text(f"Audit of {model['name']} {model['version']}: does it copy its training cases?")
    verdict = _text(f"{judged.verdict.capitalize()}: {_MEANS[judged.verdict]}.")
    said = "".join(f"<p>{_text(sentence)}</p>" for sentence in judged.sentences)
    parts = [
        f'<p class="verdict {judged.verdict}">{verdict}</p>{said}',
        _facts(content),
        _proof(content),
        _tests(content),
        _copies(content),
        _reidentification(content),
        _pairs(content, measured, judged),
    ]
    foot = _text(
        f"MedDiffusion {content['meddiffusion']}, {content['date']}. This page shows slices of "
        "real scans: do not pass it on further than these. For research only."
    )
    return (
        f"{_HEAD}<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"{''.join(parts)}<footer>{foot}</footer></body></html>\n"
    )


def _facts(content: Mapping[str, Any]) -> str:
    cases, samples = content["cases"], content["samples"]
    trained = sum(case["part"] == "training" for case in cases)
    made = content["settings"]
    rows = [
        ("training cases", trained),
        ("held-out cases", len(cases) - trained),
        ("samples", f"{len(samples)}: {made['sampler']}, {made['steps']} steps, guidance "
                    f"{made['guidance']:g}"),
        ("seed", content["seed"]),
        ("SHA-256 of the weights", content["model"]["weights_sha256"]),
        ("SHA-256 of the data", content["data_sha256"]),
    ]  # fmt: skip
    return _section("What was audited", "", _table(("what", "value"), rows))


def _proof(content: Mapping[str, Any]) -> str:
    found = content["detector"]["planted_copies_found"]
    rows = [(kind, f"{row['found']} of {row['of']}", "yes" if row["proved"] else "no")
            for kind, row in found.items()]  # fmt: skip
    said = (
        "Copies of training cases were planted. The detector, which learned from half of the cases "
        "what volumes of one scan have in common, calls a copy what is nearer to a training case "
        f"than {content['detector']['distance']:.3f} (correlation distance). 59 of 60 found, or 49 "
        "of 50, prove that at least 90 % of such copies are."
    )
    table = _table(("kind of copy", "found", "proved"), rows)
    return _section("Does the detector find copies?", said, table + _alike(content))


def _alike(content: Mapping[str, Any]) -> str:
    pairs = content["real_cases_that_are_alike"]
    if not pairs:
        return ""
    shown = ", ".join(" and ".join(pair["cases"]) for pair in pairs[:_MOST_NAMED])
    more = f", and {len(pairs) - _MOST_NAMED} more pairs" if len(pairs) > _MOST_NAMED else ""
    said = (
        f"Real cases that the detector takes for copies of each other: {shown}{more}. Where they "
        "are of one patient, as left and right side or two scans are, say so by a group pattern or "
        "a table's column group: else they make the threshold too lenient."
    )
    return f"<p>{_text(said)}</p>"


def _tests(content: Mapping[str, Any]) -> str:
    rows = [
        (test["name"], _shown(test), f"{test['null']:g}", f"{test['p_holm']:.3g}",
         f"{test['training']} / {test['held_out']}")
        for test in content["tests"]
    ]  # fmt: skip
    control = content["loss_gap_between_training_cases"]
    said = (
        "What is compared are training cases and held-out cases. Without memorization the first "
        "four figures are 0.5 and the last is 0. The loss gap's control, between parts of the "
        f"training cases, is {_shown(control)}. p is raised for the number of tests (Holm)."
    )
    columns = ("test", "found, 95 % interval", "without memorization", "p", "training / held out")
    return _section("Are training cases favoured?", said, _table(columns, rows))


def _copies(content: Mapping[str, Any]) -> str:
    rows = [(name, _shown(share)) for name, share in content["copies"].items()]
    said = (
        "5 % of real volumes that are no copies are called so by construction. A sample is like "
        "the case whose label map it has: what counts is the share from training label maps beyond "
        "that from held-out ones with their own case among the compared."
    )
    return _section("How many samples are called copies", said,
                    _table(("samples", "share, 95 % interval"), rows))  # fmt: skip


def _reidentification(content: Mapping[str, Any]) -> str:
    rows = [
        (maps, way, _shown(found["rank_1"]), f"{found['by_chance']:.3f}", _shown(found["area"]),
         found["volumes"])
        for maps, ways in content["reidentification"].items()
        for way, found in ways.items()
    ]  # fmt: skip
    if not rows:
        return ""
    said = (
        "Who has the real scans looks for the one that a synthetic volume belongs to. Rank 1: how "
        "often it is the first. Area: how often it comes before another; 0.5 by guessing."
    )
    columns = ("made from", "compared by", "rank 1", "by guessing", "area", "volumes")
    return _section("Re-identification", said, _table(columns, rows))


def _pairs(content: Mapping[str, Any], measured: Measured, judged: Judged) -> str:
    place = {case["name"]: n for n, case in enumerate(content["cases"])}
    samples = content["samples"]
    order = sorted(range(len(samples)), key=lambda n: samples[n]["distance"])[:_PAIRS]
    figures = []
    for n in order:
        sample = samples[n]
        nearest = sample["nearest_training_case"]
        said = (
            f"sample of {sample['case']} (seed {sample['seed']}) above, {nearest} below; distance "
            f"{sample['distance']:.3f}{', called a copy' if judged.flagged[n] > 0.5 else ''}"
        )
        pictures = [measured.sample_planes[n], measured.case_planes[place[nearest]]]
        shown = "".join(f'<img alt="" src="{_picture(each)}">' for each in pictures)
        figures.append(f"<figure>{shown}<figcaption>{_text(said)}</figcaption></figure>")
    said = "The samples that are nearest to a training case: middle slices, first contrast."
    return _section("The nearest pairs", said, "".join(figures))


def _picture(panels: Sequence[NDArray[np.uint8]]) -> str:
    """Three planes beside each other as a PNG in the page."""
    height = max(panel.shape[0] for panel in panels)
    row = np.concatenate([np.pad(p, ((0, height - p.shape[0]), (0, 2))) for p in panels], 1)
    scale = max(1, _HEIGHT // height)
    return png_url(row.repeat(scale, 0).repeat(scale, 1))


def png_url(picture: NDArray[np.uint8]) -> str:
    """A gray picture ``[row, column]`` as an address that holds it."""
    height, width = picture.shape
    lines = b"".join(b"\0" + row.tobytes() for row in picture)

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    return f"data:image/png;base64,{base64.b64encode(file).decode('ascii')}"


def _section(title: str, said: str, inner: str) -> str:
    text = f"<p>{_text(said)}</p>" if said else ""
    return f"<section><h2>{_text(title)}</h2>{text}{inner}</section>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _shown(found: Mapping[str, Any]) -> str:
    numbers = [found[key] for key in ("estimate", "low", "high")]
    if numbers[0] is None:
        return "-"
    one, low, high = ("-" if number is None else f"{number:.3f}" for number in numbers)
    return f"{one} [{low}, {high}]"


def _text(content: object) -> str:
    return escape(printable(str(content)))
