"""The networks, by the name that manifests give them."""

from .resunet import ResUNet

NETWORKS = {"resunet": ResUNet}
