"""The Python packages that a synthesis needs and Slicer lacks: found, offered, never imported."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import slicer

from .wording import _

TORCH = "torch>=2.5"
SMALL = {"safetensors": "safetensors>=0.4", "nibabel": "nibabel>=5.2"}


def _lacks(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def missing() -> list[str]:
    """The requirements that are not there."""
    lacking = [requirement for package, requirement in SMALL.items() if _lacks(package)]
    return ([TORCH] if _lacks("torch") else []) + lacking


def cost() -> str:
    """What installing the missing packages means, in a sentence."""
    if TORCH in missing():
        return _(
            "Synthesis needs PyTorch, once: a download of 0.2 GB (CPU) to 3 GB (NVIDIA GPU), which "
            "takes some minutes and up to 6 GB of disk."
        )
    names = ", ".join(missing())
    return _("Synthesis needs {names}, once: a few megabytes.").format(names=names)


def ensure_installed(say: Callable[[str], None]) -> bool:
    """Whether all is there, after asking for and installing what was not.

    What that costs is said before, and what is still in the way after it.
    """
    if not missing():
        return True
    say(cost())
    slicer.app.processEvents()
    problem = install_missing()
    if problem:
        say(problem)
    return not problem


def install_missing() -> str:
    """Ask for and install what is missing; return what is still in the way, in a sentence.

    The question is the PyTorch extension's or Slicer's own: nobody is asked twice.
    """
    lacking = missing()
    if TORCH in lacking:
        if _lacks("PyTorchUtils"):
            return _(
                "Synthesis needs PyTorch: install the extension PyTorch in the Extensions Manager, "
                "restart Slicer and try again."
            )
        if problem := _install_torch():
            return problem
    return _install_small([requirement for requirement in lacking if requirement != TORCH])


def _install_torch() -> str:
    python_packages: Any = importlib.import_module("PyTorchUtils")
    try:
        torch = python_packages.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH.removeprefix("torch")
        )
    except Exception as error:  # Whatever pip, the network or a proxy come up with.
        return _("PyTorch could not be installed: {error}").format(error=_first_line(error))
    importlib.invalidate_caches()
    if torch is None or _lacks("torch"):
        return _(
            "PyTorch was not installed: synthesis needs it. Press Synthesize to be asked again."
        )
    return ""


def _install_small(requirements: list[str]) -> str:
    if not requirements:
        return ""
    names = ", ".join(requirements)
    try:
        packaging: Any = importlib.import_module("slicer.packaging")
        packaging.pip_ensure(requirements, requester="MedDiffusion")
    except ImportError:  # Slicer 5.10 and earlier.
        question = _("MedDiffusion needs the Python packages {names} (a few megabytes). Install?")
        if not slicer.util.confirmOkCancelDisplay(question.format(names=names)):
            return _not_installed(names)
        try:
            slicer.util.pip_install(requirements)
        except Exception as error:
            return _failed(names, error)
    except Exception as error:
        return _failed(names, error)
    importlib.invalidate_caches()
    return _not_installed(names) if missing() else ""


def _not_installed(names: str) -> str:
    return _("{names} are not installed: synthesis needs them.").format(names=names)


def _failed(names: str, error: Exception) -> str:
    text = _("{names} could not be installed: {error}")
    return text.format(names=names, error=_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
