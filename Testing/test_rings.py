"""The rings and the rooms: which file may import what, held over every Python file."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[1] / "MedDiffusion"
PACKAGE = "MedDiffusionLib"

FRONT_END_FILES = {
    "__main__", "batch_command", "cli", "cli_train", "slicer_progress", "terminal", "train",
}  # fmt: skip
RINGS = {"scene": "scene", "widget": "front end", "commands": "front end", "CLI": "front end"}
PRESENTERS = ("widget", "presenters")
WORDING = ("widget", "wording")
"""The panel's words, which presenters use: it asks Slicer to translate them where there is one."""
HOST = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "PythonQt", "SampleData", "PyTorchUtils"}
OUTER = {f"ring of {ring}" for ring in ("scene", "front end", "presenter", "wording")}
FORBIDDEN = {
    "engine": HOST | OUTER,
    "scene": {"qt", "ctk", "PythonQt", "torch"} | OUTER - {"ring of scene"},
    "wording": HOST - {"slicer"} | {"torch"} | OUTER,
    "presenter": HOST | {"torch"} | OUTER - {"ring of presenter", "ring of wording"},
    "front end": set(),
}
"""Per ring: outside packages, and rings, that its files never import."""
LIBRARIES = {"torch", "numpy", "SimpleITK", "safetensors", "nibabel"}
"""All that the engine may need at run time."""


def test_every_file_imports_only_inwards() -> None:
    assert list(wrong_imports(MODULE)) == []


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("errors.py", "import slicer", "engine imports slicer"),
        ("training/cases.py", "from ..scene.volumes import add_result", "engine imports"),
        ("new/deep/file.py", "from ...widget import gui", "engine imports"),
        ("reading.py", "def f():\n    import vtk", "engine imports vtk"),
        ("volume.py", "import pandas", "engine imports pandas"),
        ("scene/volumes.py", "import qt", "scene imports qt"),
        ("scene/volumes.py", "from ..widget.views import show_volume", "scene imports"),
        ("widget/presenters/results.py", "import qt", "presenter imports qt"),
        ("widget/presenters/new.py", "def f():\n    import ctk", "presenter imports ctk"),
        ("widget/presenters/new.py", "from slicer.util import getNode", "presenter imports slicer"),
        ("widget/presenters/results.py", "from ..views import show_volume", "presenter imports"),
        ("widget/presenters/fit.py", "from ...scene import canvas", "presenter imports"),
        ("widget/wording.py", "import qt", "wording imports qt"),
        ("scene/volumes.py", "from ..widget.wording import sentence", "scene imports"),
        ("synthesis.py", "from . import training", "synthesis imports training"),
        ("synthesis.py", "from .training.log import Report", "synthesis imports training"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, file: str, line: str, said: str) -> None:
    copy = shutil.copytree(MODULE, tmp_path / "MedDiffusion")
    wrong = copy / PACKAGE / file
    wrong.parent.mkdir(parents=True, exist_ok=True)
    before = wrong.read_text("utf-8") if wrong.exists() else ""
    wrong.write_text(f"{before}\n{line}\n", "utf-8")
    (found,) = wrong_imports(copy)
    assert said in found
    assert file in found


def wrong_imports(module: Path) -> Iterator[str]:
    """A sentence per import that points outwards, of all Python files below a folder."""
    for path in sorted(module.rglob("*.py")):
        ring = ring_of(path.relative_to(module))
        where = path.relative_to(module).as_posix()
        for name in imported_names(path, module):
            top, *rest = name.split(".")
            if top == PACKAGE:
                target = ring_of(Path(PACKAGE, *rest))
                if f"ring of {target}" in FORBIDDEN[ring]:
                    yield f"{where}: {ring} imports {name}"
                if makes_volumes(where) and rest[:1] == ["training"]:
                    yield f"{where}: synthesis imports training"
            elif top in FORBIDDEN[ring]:
                yield f"{where}: {ring} imports {top}"
            elif ring == "engine" and top not in LIBRARIES | sys.stdlib_module_names:
                yield f"{where}: engine imports {top}"


def ring_of(path: Path) -> str:
    """The ring of a file or module below the module's folder."""
    if path.parts[0] != PACKAGE:
        return "front end"
    parts = path.with_suffix("").parts[1:]
    if parts[:2] == PRESENTERS:
        return "presenter"
    if parts[:2] == WORDING:
        return "wording"
    room = parts[0] if parts else ""
    return "front end" if room in FRONT_END_FILES else RINGS.get(room, "engine")


def makes_volumes(where: str) -> bool:
    """Whether a file is needed to synthesize, so that it must do without training."""
    return ring_of(Path(where)) == "engine" and not where.startswith(f"{PACKAGE}/training/")


def imported_names(path: Path, module: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file, relative ones made absolute."""
    package = path.relative_to(module).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *filter(None, [node.module])])
            # ``from . import training`` names a module only after the import.
            yield from [name] if node.module else (f"{name}.{a.name}" for a in node.names)
