"""The networks, by the name that manifests give them; a new one is a file here and a line.

A network is an ``nn.Module`` made with ``latent_channels``, ``label_count`` and ``factors`` beside
its own options, that has ``multiple`` (what latent sizes are multiples of), ``recompute`` (whether
the backward pass computes activations anew) and the ``forward`` of :class:`.resunet.ResUNet`.
"""

from .resunet import ResUNet

NETWORKS = {"resunet": ResUNet}
