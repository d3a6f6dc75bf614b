"""``python -m MedDiffusionLib``: the ``meddiffusion`` command."""

import sys

from .commands.cli import main

sys.exit(main())
