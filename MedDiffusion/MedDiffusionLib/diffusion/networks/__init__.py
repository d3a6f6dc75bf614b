"""The networks, by the name that manifests give them; a new one is a file here and a line.

A network is an ``nn.Module`` made with ``latent_channels``, ``label_count`` and ``factors`` beside
its own options, that has ``multiple`` (what latent sizes are multiples of: a number, or one for
each axis), ``recompute`` (whether the backward pass computes activations anew) and the ``forward``
of :class:`.resunet.ResUNet`.
"""

from .med_ddpm import MedDDPMUNet
from .medical_diffusion import MedicalDiffusionUNet
from .resunet import ResUNet

NETWORKS: dict[str, type[MedDDPMUNet | MedicalDiffusionUNet | ResUNet]] = {
    "resunet": ResUNet,
    "med-ddpm": MedDDPMUNet,
    "medical-diffusion": MedicalDiffusionUNet,
}
