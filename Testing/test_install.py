"""The extension as CMake installs it: nothing is left out, and it works without its source tree.

Slicer's build is imitated by Testing/cmake. What is installed is used in a process whose Python
has the packages of this one, but not this project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import SimpleITK as sitk

from host import missing

ROOT = Path(__file__).parents[1]
USE = Path(__file__).with_name("installed_extension.py")
MODULES = Path("lib") / "Slicer-5.12" / "qt-scripted-modules"
EXAMPLE = Path("MedDiffusionLib") / "Resources" / "Examples" / "hippocampus.nii.gz"

FIND = "from MedDiffusionLib.bundles.catalog import find_model; print(find_model('hippocampus-mr'))"

LACKING = missing("slicer_core", "PySide6")
on_host = pytest.mark.skipif(bool(LACKING), reason=LACKING)


class Failed(Exception):
    """A command ended with an error; says all that it printed."""


class Trees(NamedTuple):
    """The folders qt-scripted-modules of the build tree and of the installed tree."""

    built: Path
    installed: Path


def run(*command: object, modules: Path | None = None) -> str:
    """Run a command with no Python path but the given one; raises Failed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
    if modules is not None:
        environment["PYTHONPATH"] = str(modules)
    done = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=Path(sys.prefix),  # Not the source tree, which Python would search.
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stdout)
    return done.stdout


def program(name: str) -> str:
    """A program of the extra ``test``; it lies beside Python."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    assert found, f"{name} is missing: install the project with its extra test"
    return found


def configure(source: Path, build: Path) -> None:
    stand_in = Path(__file__).with_name("cmake")
    run(
        program("cmake"),
        *("-S", source, "-B", build, "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={program('ninja')}",
        f"-DCMAKE_TOOLCHAIN_FILE={stand_in / 'NoCompiler.cmake'}",
        f"-DSlicer_DIR={stand_in}",
    )


def build_and_install(build: Path, installed: Path) -> Trees:
    run(program("cmake"), "--build", build)
    run(program("cmake"), "--install", build, "--prefix", installed)
    return Trees(build / MODULES, installed / MODULES)


def install(source: Path, folder: Path) -> Trees:
    """Configure, build and install an extension."""
    configure(source, folder / "build")
    return build_and_install(folder / "build", folder / "installed")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    return install(ROOT, tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with this one's packages, but not the project.

    The project is installed in place: a ``.pth`` file names the source tree. Such files count in
    Python's own folder of packages, not in one that is only added to the path.
    """
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, symlinks=os.name == "posix")
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(paths["purelib"]) / "packages.pth").write_text("\n".join(sorted(packages)))
    found = Path(paths["scripts"]) / "python"
    with pytest.raises(Failed, match="ModuleNotFoundError"):
        run(found, "-c", "import MedDiffusionLib.bundles.catalog")
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what CMake reads."""
    copy = tmp_path / "source"
    for name in ("MedDiffusion", "Resources"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns(".*", "__pycache__")
        )
    for name in ("CMakeLists.txt", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def files_below(folder: Path) -> Iterator[str]:
    """The files of a folder by relative path, without what Python and editors leave there."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if path.is_file() and not hidden and path.suffix != ".pyc":
            yield inside.as_posix()


def expected_files() -> set[str]:
    """Where the files of the source tree belong, relative to lib/Slicer-x.y."""
    files = files_below(ROOT / "MedDiffusion")
    module = {name for name in files if Path(name).name != "CMakeLists.txt"}
    commands = {name for name in module if Path(name).with_suffix(".xml").as_posix() in module}
    resources = {
        f"MedDiffusionLib/Resources/{kind}/{name}"
        for kind in ("Examples", "Models", "Presets", "Protocols")
        for name in files_below(ROOT / "Resources" / kind)
    }
    scripted = (module - commands) | resources
    in_commands = {f"cli-modules/{Path(name).name}" for name in commands}
    return {f"{MODULES.name}/{name}" for name in scripted} | in_commands


def assert_equal_geometry(path: Path, other: Path) -> None:
    image, reference = sitk.ReadImage(path), sitk.ReadImage(other)
    assert image.GetSize() == reference.GetSize()
    assert image.GetSpacing() == pytest.approx(reference.GetSpacing())
    assert image.GetOrigin() == pytest.approx(reference.GetOrigin())
    assert image.GetDirection() == pytest.approx(reference.GetDirection())
    assert sitk.GetArrayViewFromImage(image).std() > 0


def test_every_file_of_the_source_tree_is_installed_and_no_other(trees: Trees) -> None:
    installed = set(files_below(trees.installed.parent))
    assert sorted(expected_files() - installed) == [], "in the source tree, but not installed"
    assert sorted(installed - expected_files()) == [], "installed, but not in the source tree"


def test_a_new_file_is_installed_at_the_next_build(source: Path, tmp_path: Path) -> None:
    """So none can be forgotten, and nobody has to configure anew."""
    before = install(source, tmp_path).installed
    new = Path("MedDiffusionLib") / "room" / "furniture.py"
    (source / "MedDiffusion" / new).parent.mkdir()
    (source / "MedDiffusion" / new).write_text("CHAIRS = 4\n")
    after = build_and_install(tmp_path / "build", tmp_path / "again").installed
    assert set(files_below(after)) - set(files_below(before)) == {new.as_posix()}
    assert (after / new).read_text() == "CHAIRS = 4\n"


def test_the_self_tests_are_registered(trees: Trees) -> None:
    build = trees.built.parents[2]
    listed = run(program("ctest"), "--test-dir", build, "--show-only")
    assert "py_MedDiffusion" in listed
    assert "py_RealismRating" in listed


@pytest.mark.parametrize("tree", Trees._fields)
def test_the_bundled_model_is_found_in_the_same_tree(python: Path, trees: Trees, tree: str) -> None:
    modules = getattr(trees, tree)
    assert modules in Path(run(python, "-c", FIND, modules=modules).strip()).parents


@on_host
def test_the_installed_panel_synthesizes_without_the_source_tree(
    python: Path, trees: Trees, tmp_path: Path
) -> None:
    """Its engine is that of a command: ``test_cli_modules_headless.py`` has an installed one."""
    run(python, USE, trees.installed, tmp_path / "volume.nrrd", modules=trees.installed)
    assert_equal_geometry(tmp_path / "volume.nrrd", trees.installed / EXAMPLE)


def test_an_installation_without_its_model_says_so(
    python: Path, trees: Trees, tmp_path: Path
) -> None:
    copy = shutil.copytree(trees.installed, tmp_path / "copy")
    shutil.rmtree(copy / "MedDiffusionLib" / "Resources" / "Models")
    with pytest.raises(Failed, match="is installed without its Resources folder"):
        run(python, "-c", FIND, modules=copy)
