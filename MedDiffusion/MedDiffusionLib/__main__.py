"""``python -m MedDiffusionLib``: the ``meddiffusion`` command."""

import sys

from .cli import main

sys.exit(main())
