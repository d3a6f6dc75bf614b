"""Label names inside NIfTI files: the label table of Caret, which TotalSegmentator writes too."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from ...compute.parsing import parse_integer
from ...volumes.formats import image_suffix
from ...volumes.formats.nifti import nifti_extensions

_START, _END = b"<LabelTable>", b"</LabelTable>"


def read_label_table(path: Path) -> dict[int, str]:
    """Label value -> name out of a NIfTI file's header; empty where it has no (readable) table.

    The file must be one that :func:`...volumes.reading.read_label_map` has read.
    """
    if image_suffix(path) not in (".nii", ".nii.gz"):
        return {}
    for extension in nifti_extensions(path):
        _, start, rest = extension.partition(_START)
        table, end, _ = rest.partition(_END)
        if not start or not end:
            continue
        try:
            # The table alone, without the document around it, which could declare entities.
            labels = ElementTree.fromstring(start + table + end).iter("Label")
            named = {
                parse_integer(label.attrib["Key"]): (label.text or "").strip() for label in labels
            }
        except (ElementTree.ParseError, KeyError, ValueError):
            continue
        return {value: name for value, name in named.items() if value > 0 and name}
    return {}
