"""The Python packages that are needed and Slicer may lack: found, offered, never imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

import slicer

from .gui import waiting
from .wording import _, plain, tip

LEAST = {"torch": "2.5", "safetensors": "0.4", "nibabel": "5.2"}
"""What a synthesis needs: the oldest versions that will do, as in pyproject.toml."""
STUDIES = {"scipy": "1.11", "nibabel": "5.2"}
"""What reader studies need, each for a part."""
_under_way = threading.Lock()
"""Held while something is installed: the events of Slicer go on meanwhile, presses too."""


def _lacks(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def _version(package: str) -> str:
    """The installed version, found without an import; empty where there is none to be found."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> list[int]:
    """``2.5.1+cu121`` -> 2, 5, 1."""
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]


def _too_old(package: str) -> bool:
    version = _version(package)
    return bool(version) and _numbers(version) < _numbers(_least(package))


def _least(package: str) -> str:
    return {**STUDIES, **LEAST}[package]


def missing(packages: Iterable[str] = LEAST) -> list[str]:
    """The packages that are not there, or too old."""
    return [package for package in packages if _lacks(package) or _too_old(package)]


def installed() -> str:
    """What is there, with its versions."""
    found = [f"{p} {_version(p)}".strip() for p in LEAST if not _lacks(p)]
    return ", ".join(found) or _("nothing yet")


def cost() -> str:
    """What installing the missing packages means, in a sentence."""
    if "torch" in missing():
        old = _too_old("torch") and not _lacks("torch")
        found = _(" ({version} is installed)").format(version=_version("torch")) if old else ""
        return _(
            "Synthesis needs PyTorch {least} or later{found}, once: a download of 0.2 GB (CPU) to "
            "3 GB (NVIDIA GPU), which takes some minutes and up to 6 GB of disk."
        ).format(least=LEAST["torch"], found=found)
    names = ", ".join(_requirements(missing()))
    return _("Synthesis needs {names}, once: a few megabytes.").format(names=names)


def ensure_installed(say: Callable[[str], None]) -> bool:
    """Whether all is there, after asking for and installing what was not.

    What that costs is said before, and what is still in the way after it.
    """
    if not missing():
        return True
    return _alone(say, cost(), _install_missing)


def ensure_small(packages: Iterable[str], use: str, say: Callable[[str], None]) -> bool:
    """Whether these packages of ``STUDIES`` are there, after asking for and installing those that
    were not. ``use``: what needs them, as the beginning of a sentence."""
    lacking = missing(packages)
    if not lacking:
        return True
    names = ", ".join(_requirements(lacking))
    question = _("{use} needs {names}, once: a download of at most 0.1 GB.")
    question = question.format(use=use, names=names)
    return _alone(say, question, lambda: _install_small(lacking, use), torch=False)


def reinstall(say: Callable[[str], None]) -> bool:
    """Ask, then put PyTorch in anew, for where it is there and broken; whether it is there then."""
    text = _(
        "PyTorch is removed and installed anew: a download of 0.2 GB (CPU) to 3 GB (NVIDIA GPU), "
        "which takes some minutes. Restart Slicer before, if PyTorch was used in it."
    )
    return _alone(say, text, _reinstall_torch)


def _alone(
    say: Callable[[str], None], question: str, install: Callable[[], str], torch: bool = True
) -> bool:
    """Ask, and install if nothing is being installed already; whether it went well.

    ``torch``: whether PyTorch is among what a synthesis asked for.
    """
    if not _under_way.acquire(blocking=False):
        say(_("The installation is still running: wait until it is done."))
        return False
    try:
        say(question)
        slicer.app.processEvents()
        problem = _without_extension() if torch else ""
        if not problem and not slicer.util.confirmOkCancelDisplay(tip(question)):
            problem = _("Nothing was installed.")
            if torch:
                problem = _("Nothing was installed. Press Synthesize to be asked again.")
        if not problem:
            say(_("Installing: Slicer may not answer for some minutes…"))
            slicer.app.processEvents()
            with waiting():
                problem = install()
        say(problem)
        return not problem
    finally:
        _under_way.release()


def _without_extension() -> str:
    """Why PyTorch cannot be installed, where it is to be; empty where it can."""
    if "torch" not in missing() or not _lacks("PyTorchUtils"):
        return ""
    return _(
        "Synthesis needs PyTorch: install the extension PyTorch in the Extensions Manager, "
        "restart Slicer and try again."
    )


def _install_missing() -> str:
    """Install what is missing; what is still in the way, in a sentence."""
    lacking = missing()
    if "torch" in lacking and (problem := _install_torch()):
        return problem
    return _install_small([package for package in lacking if package != "torch"], _("Synthesis"))


def _reinstall_torch() -> str:
    if _lacks("PyTorchUtils"):
        return _(
            "The extension PyTorch is not there: install it in the Extensions Manager, restart "
            "Slicer and try again."
        )
    try:
        _pytorch().uninstallTorch()
    except Exception as error:
        return _(
            "PyTorch could not be removed ({error}): restart Slicer and try again at once."
        ).format(error=_first_line(error))
    importlib.invalidate_caches()
    return _install_torch()


def _pytorch() -> Any:
    python_packages: Any = importlib.import_module("PyTorchUtils")
    return python_packages.PyTorchUtilsLogic()


def _install_torch() -> str:
    try:
        torch = _pytorch().installTorch(
            askConfirmation=False, torchVersionRequirement=f">={LEAST['torch']}"
        )
    except Exception as error:  # Whatever pip, the network or a proxy come up with.
        return _("PyTorch could not be installed: {error}").format(error=_first_line(error))
    importlib.invalidate_caches()
    if torch is None or _lacks("torch"):
        return _(
            "PyTorch was not installed: synthesis needs it. Press Synthesize to be asked again."
        )
    if _too_old("torch"):
        text = _("PyTorch {version} stayed, which is too old: restart Slicer and reinstall it.")
        return text.format(version=_version("torch"))
    return ""


def _install_small(packages: list[str], use: str) -> str:
    if not packages:
        return ""
    requirements = _requirements(packages)
    names = ", ".join(requirements)
    try:
        try:
            packaging: Any = importlib.import_module("slicer.packaging")
        except ImportError:  # Slicer 5.10 and earlier.
            slicer.util.pip_install(requirements)
        else:
            packaging.pip_ensure(requirements, prompt_install=False, requester="MedDiffusion")
    except Exception as error:
        text = _("{names} could not be installed: {error}")
        return text.format(names=names, error=_first_line(error))
    importlib.invalidate_caches()
    still = ", ".join(_requirements(missing(packages)))
    text = _("{names} are not installed: {use} needs them.")
    return text.format(names=still, use=use) if still else ""


def _requirements(packages: list[str]) -> list[str]:
    return [f"{package}>={_least(package)}" for package in packages]


def _first_line(error: Exception) -> str:
    lines = plain(str(error).strip()).splitlines()
    return (lines or [type(error).__name__])[0][:300]
