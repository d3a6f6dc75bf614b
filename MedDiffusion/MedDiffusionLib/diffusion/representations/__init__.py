"""The representations, by the name that manifests give them."""

from .base import Identity, Representation, coarsen_mask
from .haar import Haar

__all__ = ["REPRESENTATIONS", "Haar", "Identity", "Representation", "coarsen_mask"]

REPRESENTATIONS = {"identity": Identity, "haar": Haar}
