"""What a plan says of the losses of a learned representation."""

from __future__ import annotations

from dataclasses import dataclass

from ...compute.schema import Schema

_WEIGHT = {"type": "number", "minimum": 0, "maximum": 1000}

LOSSES: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "gradient": _WEIGHT,
        "adversarial": _WEIGHT,
        "adversarial_start": {"type": "number", "minimum": 0, "maximum": 1},
        "feature_matching": _WEIGHT,
    },
}


@dataclass(frozen=True)
class Losses:
    """The weights of the losses beside the mean absolute error, whose weight is 1."""

    gradient: float = 1.0
    """Of the mean absolute error of differences between neighbours: it keeps borders sharp."""
    adversarial: float = 0.5
    """Of the adversary: the gradient that it has at the decoder's last layer, as a share of that
    of the other losses. 0: there is none."""
    adversarial_start: float = 0.4
    """How much of the run is done when the adversary comes: first there must be an image."""
    feature_matching: float = 2.0
    """Of the discriminators' features, beside their scores."""
