"""What the Extensions Index checks: three descriptions that agree, an icon, plain rules."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import SimpleITK as sitk

ROOT = Path(__file__).parents[1]
CMAKE = (ROOT / "CMakeLists.txt").read_text("utf-8")
INDEX = json.loads((ROOT / "MedDiffusion.json").read_text("utf-8"))
S4EXT = dict(
    line.split(" ", 1)
    for line in (ROOT / "MedDiffusion.s4ext").read_text("utf-8").splitlines()
    if " " in line and not line.startswith("#")
)
LIBRARY = ROOT / "MedDiffusion" / "MedDiffusionLib"


def cmake(variable: str) -> str:
    match = re.search(rf'set\({variable} "([^"]*)"\)', CMAKE)
    assert match, f"{variable} is not a plain string"
    return match.group(1)


def test_the_project_is_named_like_its_index_entry() -> None:
    assert re.search(r"^project\((\w+)\)", CMAKE, re.MULTILINE).group(1) == "MedDiffusion"  # type: ignore[union-attr]
    assert (ROOT / "MedDiffusion.json").is_file()


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("homepage", "EXTENSION_HOMEPAGE"),
        ("contributors", "EXTENSION_CONTRIBUTORS"),
        ("description", "EXTENSION_DESCRIPTION"),
        ("iconurl", "EXTENSION_ICONURL"),
        ("screenshoturls", "EXTENSION_SCREENSHOTURLS"),
        ("depends", "EXTENSION_DEPENDS"),
    ],
)
def test_s4ext_and_cmake_agree(key: str, variable: str) -> None:
    assert S4EXT[key] == cmake(variable)


def test_s4ext_and_json_agree() -> None:
    assert S4EXT["scmurl"] == INDEX["scm_url"]
    assert S4EXT["scmrevision"] == INDEX["scm_revision"]
    assert S4EXT["category"] == INDEX["category"] == "Image Synthesis"
    assert S4EXT["depends"].split() == INDEX["build_dependencies"] == ["PyTorch"]


@pytest.mark.parametrize("variable", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_pictures_of_the_index_entry_are_in_the_repository(variable: str) -> None:
    inside = cmake(variable).partition("/main/")[2]
    assert (ROOT / inside).is_file()


@pytest.mark.parametrize("module", ["MedDiffusion", "RealismRating"])
def test_the_icon_is_128_pixels_square(module: str) -> None:
    icon = sitk.ReadImage(ROOT / "MedDiffusion" / "Resources" / "Icons" / f"{module}.png")
    assert icon.GetSize() == (128, 128)


def test_the_license_is_apache_2() -> None:
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text("utf-8")
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_bundled_weights_fit_the_index() -> None:
    for weights in (ROOT / "Resources" / "Models").glob("*/weights.safetensors"):
        assert weights.stat().st_size <= 16_000_000


def test_text_files_have_unix_line_ends() -> None:
    for pattern in ("*.txt", "*.json", "*.s4ext", "*.toml", "MedDiffusion/**/*.py"):
        for path in ROOT.glob(pattern):
            assert b"\r\n" not in path.read_bytes(), path
