"""Which volumes are synthetic, and which label map they come from: what their attributes say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

ATTRIBUTE = "MedDiffusion."
"""What the names of provenance attributes start with: ``MedDiffusion.seed``, ...."""
SYNTHETIC = ATTRIBUTE + "synthetic"
"""The attribute of synthetic volumes that have no provenance: previews."""
LABELS_ROLE = ATTRIBUTE + "labels"
"""The reference from a result to the node of its label map."""
LABEL_MAP_STATE = ATTRIBUTE + "labelMapState"
"""The attribute of a result that keeps ``label_map_state`` as it was when its job started."""
NO_LABEL_MAP = "none"
"""What that attribute is of a volume that was made without a label map."""
LABEL_OVERRIDES = ATTRIBUTE + "labelOverrides"
"""The attribute of a result that keeps what its labels were said to be."""


def mark_synthetic(node: Any) -> None:
    """Mark a volume that is shown before it is a result."""
    node.SetAttribute(SYNTHETIC, "1")


def is_synthetic(node: Any) -> bool:
    """Whether a node (or None) is a synthetic volume: a result, also a loaded one, or a preview."""
    return node is not None and bool(
        node.GetAttribute(ATTRIBUTE + "model") or node.GetAttribute(SYNTHETIC)
    )


def overrides_text(overrides: Mapping[int | str, str]) -> str:
    """What a result keeps of what its labels were said to be."""
    return json.dumps({str(key): name for key, name in overrides.items()}, sort_keys=True)
