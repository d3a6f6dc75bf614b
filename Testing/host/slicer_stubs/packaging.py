"""``slicer.packaging``: here it only writes down what a module asks for."""

from __future__ import annotations

from host.packages import pip_ensure

__all__ = ["pip_ensure", "pip_install"]

pip_install = pip_ensure
