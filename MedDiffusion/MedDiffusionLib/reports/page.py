"""A report as one page, whole in itself: no script, nothing from elsewhere, all text escaped."""

from __future__ import annotations

from collections.abc import Sequence

from ..compute.version import __version__
from .tables import Section, shown_text

# Nothing may be loaded, whatever a text in the page says.
_HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
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
svg, img { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif;
  fill: #1d242b; }
summary { cursor: pointer; font-weight: 600; margin: .6em 0; }
footer { color: #5c6570; margin: 3em 0 1em; font-size: 13px; }
"""


def html_page(title: str, parts: Sequence[Section]) -> str:
    """The page of some sections; any text may be in title and sections."""
    shown = shown_text(title)
    body = "".join(map(_section, parts))
    foot = shown_text(f"MedDiffusion {__version__}. For research only.")
    return (
        f"{_HEAD}<title>{shown}</title><style>{_STYLE}</style></head><body><h1>{shown}</h1>"
        f"{body}<footer>{foot}</footer></body></html>\n"
    )


def _section(part: Section) -> str:
    said = "".join(f"<p>{shown_text(sentence)}</p>" for sentence in part.sentences)
    pictures = "".join(part.plots)
    tables = "".join(each.html() for each in part.tables)
    return f"<section><h2>{shown_text(part.title)}</h2>{said}{pictures}{tables}</section>"
