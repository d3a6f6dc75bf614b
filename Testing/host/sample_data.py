"""The module ``SampleData`` as far as modules register their data with it."""

from __future__ import annotations

from typing import Any

registered: list[dict[str, Any]] = []
categories: dict[str, str] = {}

KNOWN = frozenset(
    [
        "category",
        "sampleName",
        "uris",
        "fileNames",
        "nodeNames",
        "customDownloader",
        "thumbnailFileName",
        "loadFileTypes",
        "loadFiles",
        "loadFileProperties",
        "checksums",
        "loadFileType",
    ]
)


class SampleDataLogic:
    """Writes down what is registered, and refuses what Slicer's logic has no parameter for."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        categories[category] = title

    @staticmethod
    def registerCustomSampleDataSource(**source: Any) -> None:
        unknown = set(source) - KNOWN
        if unknown:
            raise TypeError(f"registerCustomSampleDataSource has no {', '.join(sorted(unknown))}")
        registered.append(source)
