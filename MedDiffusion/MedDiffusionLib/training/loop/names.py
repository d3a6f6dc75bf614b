"""The files of a run in its folder. Needs no torch: the panel in Slicer's process reads them."""

from __future__ import annotations

CHECKPOINT_NAME = "checkpoint.safetensors"
LOG_NAME = "log.jsonl"
CURVE_NAME = "loss.png"
MONTAGE_NAME = "montage.png"
PLAN_NAME = "plan.json"
PRIVATE_NAME = "PRIVATE.txt"
"""Says that the folder is not to be passed on."""
STOP_NAME = "stop"
"""Made by whoever wants the run to end: it looks for the file after every step."""
DISTILLATION_NAME = "distillation"
"""The folder of a last stage, where guidance is learned: a checkpoint, a log, pictures, and the
weights of what teaches it."""
REPRESENTATION_NAME = "representation"
"""The folder of the first stage, where a representation is learned: a checkpoint, a log, pictures
and, once it is done, its weights."""
