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

FRONT_END_FILES = {"__main__", "train"}
"""In no room: the commands that Python starts by their module's name."""
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
FLOORS = {
    "compute": 0, "volumes": 1, "diffusion": 2, "bundles": 3, "synthesis": 4, "worker": 5,
    "training": 5, "statistics": 5, "reports": 6, "evaluation": 7, "studies": 7, "scene": 8,
    "commands": 8, "widget": 9,
}  # fmt: skip
"""The rooms of the library: a file imports from its own room and from lower floors alone."""
LIBRARIES = {"torch", "numpy", "SimpleITK", "safetensors", "nibabel"}
"""All that the engine may need at run time."""
EXTRAS = {"statistics": {"scipy"}, "evaluation": {"scipy", "monai"}}
"""What single rooms may need besides: extras, which are not always installed."""


def test_every_file_imports_only_inwards() -> None:
    assert list(wrong_imports(MODULE)) == []


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("compute/errors.py", "import slicer", "engine imports slicer"),
        ("training/request.py", "from ..scene.volumes import add_result", "engine imports"),
        ("new/deep/file.py", "from ...widget import gui", "engine imports"),
        ("volumes/reading.py", "def f():\n    import vtk", "engine imports vtk"),
        ("volumes/volume.py", "import pandas", "engine imports pandas"),
        ("volumes/volume.py", "def f():\n    import scipy", "engine imports scipy"),
        ("statistics/roc.py", "from ..training import request", "statistics is not above training"),
        ("scene/volumes.py", "import qt", "scene imports qt"),
        ("scene/volumes.py", "from ..widget.views import show_volume", "scene imports"),
        ("widget/presenters/results.py", "import qt", "presenter imports qt"),
        ("widget/presenters/new.py", "def f():\n    import ctk", "presenter imports ctk"),
        ("widget/presenters/new.py", "from slicer.util import getNode", "presenter imports slicer"),
        ("widget/presenters/results.py", "from ..views import show_volume", "presenter imports"),
        ("widget/presenters/fit.py", "from ...scene import canvas", "presenter imports"),
        ("widget/wording.py", "import qt", "wording imports qt"),
        ("scene/volumes.py", "from ..widget.wording import sentence", "scene imports"),
        ("synthesis/batch.py", "from .. import training", "synthesis is not above training"),
        ("worker/jobs.py", "from ..training.request import X", "worker is not above training"),
        ("volumes/grids.py", "from ..bundles import manifest", "volumes is not above bundles"),
        ("compute/files.py", "from ..volumes.grids import X", "compute is not above volumes"),
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
        allowed = LIBRARIES | EXTRAS.get(room_of(path.relative_to(module)), set())
        for name in imported_names(path, module):
            top, *rest = name.split(".")
            if top == PACKAGE:
                target = ring_of(Path(PACKAGE, *rest))
                if f"ring of {target}" in FORBIDDEN[ring]:
                    yield f"{where}: {ring} imports {name}"
                elif not is_above(room_of(path.relative_to(module)), *rest[:1]):
                    yield f"{where}: {room_of(path.relative_to(module))} is not above {rest[0]}"
            elif top in FORBIDDEN[ring]:
                yield f"{where}: {ring} imports {top}"
            elif ring == "engine" and top not in allowed | sys.stdlib_module_names:
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


def room_of(path: Path) -> str:
    """The room of a file below the module's folder; empty where it is in none."""
    return path.parts[1] if len(path.parts) > 2 and path.parts[0] == PACKAGE else ""


def is_above(room: str, other: str = "") -> bool:
    """Whether files of a room may import from another."""
    if room == other or room not in FLOORS or other not in FLOORS:
        return True
    return FLOORS[room] > FLOORS[other]


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in (MODULE / PACKAGE).iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(FLOORS)


def imported_names(path: Path, module: Path, *, at_once: bool = False) -> Iterator[str]:
    """Every module that a file imports, wherever in the file, relative ones made absolute.

    ``at_once``: only what is imported when the file is, not in functions or for types alone.
    """
    package = path.relative_to(module).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text("utf-8"))
    for node in statements(tree) if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *filter(None, [node.module])])
            # ``from . import training`` names a module only after the import, others may as well.
            yield from [name] if node.module and not at_once else []
            yield from (f"{name}.{a.name}" for a in node.names if at_once or not node.module)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that are executed when a file is imported."""
    for child in ast.iter_child_nodes(node):
        deferred = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not deferred and not for_types:
            yield child
            yield from statements(child)


def test_nothing_that_slicers_own_process_imports_loads_torch() -> None:
    library = MODULE / PACKAGE
    fronts = [*library.glob("scene/*.py"), *library.glob("widget/**/*.py")]
    found = loaded_by(fronts)
    assert len(found) > 100
    assert [way for name, way in found.items() if name.split(".")[0] == "torch"] == []


def test_a_way_to_torch_would_be_found() -> None:
    found = loaded_by([MODULE / PACKAGE / "synthesis" / "batch.py"])
    assert any(name.split(".")[0] == "torch" for name in found)


def loaded_by(files: list[Path]) -> dict[str, list[str]]:
    """What is loaded with some files, by the module's name: the way there from one of them."""
    found: dict[str, list[str]] = {}
    waiting = [(path, [path.stem]) for path in files]
    while waiting:
        path, way = waiting.pop()
        for name in imported_names(path, MODULE, at_once=True):
            if name in found:
                continue
            found[name] = [*way, name]
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                module = MODULE.joinpath(*parts[:end])
                for file in (module.with_suffix(".py"), module / "__init__.py"):
                    if file.is_file():
                        waiting.append((file, found[name]))
    return found
