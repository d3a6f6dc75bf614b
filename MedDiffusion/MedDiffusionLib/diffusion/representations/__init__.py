"""The representations, by the name that manifests give them; a new one is a file here and a line.

A representation is made with ``image_channels`` beside its own options.
"""

from .base import Representation, coarsen_mask
from .fixed import Haar, Identity
from .medical_vqgan import MedicalVQGAN

__all__ = ["REPRESENTATIONS", "Haar", "Identity", "Representation", "coarsen_mask"]

REPRESENTATIONS: dict[str, type[Identity | Haar | MedicalVQGAN]] = {
    "identity": Identity,
    "haar": Haar,
    "medical-vqgan": MedicalVQGAN,
}
