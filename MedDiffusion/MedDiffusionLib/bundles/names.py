"""The names of a bundle's files, for those who look for them without torch."""

MANIFEST_NAME = "model.json"
WEIGHTS_NAME = "weights.safetensors"
SHAPE_MODEL_NAME = "shape.safetensors"
