"""``python -m MedDiffusionLib.train``: the ``meddiffusion train`` command, for torchrun."""

import sys

from .__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
