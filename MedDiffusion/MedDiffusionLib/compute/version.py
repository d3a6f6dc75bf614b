"""The version of MedDiffusion: the extension, its library and its command."""

__version__ = "0.1.0"
