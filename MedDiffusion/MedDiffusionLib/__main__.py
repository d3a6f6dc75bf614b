"""``python -m MedDiffusionLib``, and ``meddiffusion``: the command, as a process of its own."""

import sys
from collections.abc import Sequence

from .commands.interrupts import end_at_once

end_at_once()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command in this process, which is all its own; returns the exit code."""
    from .commands.terminal import claim_streams, say

    claim_streams()
    try:
        from .commands.cli import main as run
    except ImportError as error:
        say(f"error: MedDiffusion is not installed whole ({error}): install it anew.")
        return 1
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
