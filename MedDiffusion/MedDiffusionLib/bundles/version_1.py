"""Bundles of version 1, as version 0.1 of MedDiffusion wrote them, in the terms of version 2."""

from __future__ import annotations

from typing import Any

_WEIGHTS = {
    "network.entry.": "network.conv_in.",
    "network.exit_norm.": "network.norm_out.",
    "network.exit.": "network.conv_out.",
    "network.present_embedding.": "network.annotated_embedding.",
}


def upgrade(content: Any) -> Any:
    """A manifest's content with what has changed since; all else is left for the check.

    The schedule was a name, and is an entry with options.
    """
    if not isinstance(content, dict) or not isinstance(content.get("architecture"), dict):
        return content
    architecture = dict(content["architecture"])
    if isinstance(architecture.get("schedule"), str):
        architecture["schedule"] = {"name": architecture["schedule"]}
    upgraded = {**content, "architecture": architecture}
    if content.get("bundle_version") == 1:
        upgraded["bundle_version"] = 2
    return upgraded


def weight_name(name: str) -> str:
    """What a weight of version 1 is called now."""
    for old, new in _WEIGHTS.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
    return f"denoiser.{name}"
