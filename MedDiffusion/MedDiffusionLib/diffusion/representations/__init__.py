"""The representations, by the name that manifests give them; a new one is a file here and a line.

A representation is made with ``image_channels`` and ``label_count`` beside its own options.
"""

from .autoencoder import Autoencoder
from .base import Factors, Representation, coarsen_mask, voxels_of
from .fixed import Haar, Identity
from .medical_vqgan import MedicalVQGAN

__all__ = [
    "REPRESENTATIONS",
    "Autoencoder",
    "Factors",
    "Haar",
    "Identity",
    "MedicalVQGAN",
    "Representation",
    "coarsen_mask",
    "voxels_of",
]

REPRESENTATIONS: dict[str, type[Identity | Haar | Autoencoder | MedicalVQGAN]] = {
    "identity": Identity,
    "haar": Haar,
    "autoencoder": Autoencoder,
    "medical-vqgan": MedicalVQGAN,
}
