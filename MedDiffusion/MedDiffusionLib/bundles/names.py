"""The names of a bundle's files, for those who look for them without torch."""

MANIFEST_NAME = "model.json"
WEIGHTS_NAME = "weights.safetensors"
SHAPE_MODEL_NAME = "shape.safetensors"
TEXT_NAMES = ("LICENSE", "MODEL_CARD.md")
"""Texts that its author may put beside."""
