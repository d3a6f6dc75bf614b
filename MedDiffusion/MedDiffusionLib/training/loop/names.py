"""The files of a run in its folder. Needs no torch: the panel in Slicer's process reads them."""

from __future__ import annotations

CHECKPOINT_NAME = "checkpoint.safetensors"
LOG_NAME = "log.jsonl"
CURVE_NAME = "loss.png"
MONTAGE_NAME = "montage.png"
STOP_NAME = "stop"
"""Made by whoever wants the run to end: it looks for the file after every step."""
