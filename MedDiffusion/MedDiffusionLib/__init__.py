"""MedDiffusion's engine: a label map in, a synthetic MR or CT volume out."""

__version__ = "0.1.0"
