"""``python -m MedDiffusionLib.worker``: the worker process."""

import sys

from .server import main

if __name__ == "__main__":
    sys.exit(main())
