"""Slicer's two command-line modules: the XML files that describe them and the scripts agree."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from MedDiffusionLib import __version__
from MedDiffusionLib.commands import options
from MedDiffusionLib.diffusion.samplers import SAMPLERS

MODULE = Path(__file__).parents[1] / "MedDiffusion"
FOLDER = MODULE / "CLI"
NAMES = ("MedDiffusionSynthesize", "MedDiffusionTrain")
PATHS = (Path, options.path)
TYPES = {
    "integer": (int, options.integer),
    "double": (float, options.number),
    "directory": PATHS,
    "file": PATHS,
    "image": PATHS,
}
NOT_DESCRIBED = {"help", "returnparameterfile"}


def load(name: str) -> Any:
    """The module's script, imported."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options_of(name: str) -> dict[str, argparse.Action]:
    actions = {action.dest: action for action in load(name).make_parser()._actions}
    return {key: action for key, action in actions.items() if key not in NOT_DESCRIBED}


def described(name: str) -> list[ElementTree.Element]:
    """The parameters of the XML file, in order."""
    root = ElementTree.parse(FOLDER / f"{name}.xml").getroot()
    header = {"label", "description"}
    return [
        child for group in root.iter("parameters") for child in group if child.tag not in header
    ]


def flagged(name: str) -> dict[str, ElementTree.Element]:
    """By flag, the parameters that are passed on the command line."""
    found = [(element.findtext("longflag", ""), element) for element in described(name)]
    return {flag: element for flag, element in found if flag}


@pytest.mark.parametrize("name", NAMES)
def test_slicer_takes_the_script_for_a_command_line_module(name: str) -> None:
    assert (FOLDER / f"{name}.py").read_bytes().startswith(b"#!")
    assert not (MODULE / "MedDiffusion.py").read_bytes().startswith(b"#!")
    root = ElementTree.parse(FOLDER / f"{name}.xml").getroot()
    assert root.findtext("category") == "Image Synthesis"
    assert root.findtext("version") == __version__


@pytest.mark.parametrize("name", NAMES)
def test_xml_and_script_have_the_same_parameters(name: str) -> None:
    known, elements = options_of(name), flagged(name)
    assert set(known) == set(elements)
    for flag, element in elements.items():
        option = known[flag]
        assert f"--{flag}" in option.option_strings
        first, *more = flag.split("_")
        assert element.findtext("name") == first + "".join(word.title() for word in more)
        assert element.findtext("description") == option.help
        assert [e.text for e in element.iter("element")] == list(option.choices or [])
        default = element.findtext("default") or ""
        if element.tag == "boolean":
            assert isinstance(option, argparse._StoreTrueAction)
            assert default == "false"
        elif element.tag in ("string", "string-enumeration"):
            assert option.type is None
            assert default == (option.default or "")
            assert bool(option.choices) == (element.tag == "string-enumeration")
            assert not option.choices or default in option.choices
        else:
            assert option.type in TYPES[element.tag]
            assert default == ("" if option.default is None else f"{option.default:g}")
            if low := element.findtext("constraints/minimum"):
                high = element.findtext("constraints/maximum", "")
                assert float(low) <= float(default) <= float(high)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_named_and_told_about_and_has_a_place(name: str) -> None:
    elements = described(name)
    names = [element.findtext("name") for element in elements]
    assert len(set(names)) == len(names)
    for element in elements:
        assert all(element.findtext(key) for key in ("name", "label", "description", "channel"))
        # An empty indexed parameter would leave the module idle without a word.
        assert element.find("index") is None
        assert element.find("flag") is None
        # Slicer shows the newlines of a description as such.
        assert "\n" not in element.findtext("description", "")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_a_volume_of_the_scene_is_deleted_on_cancel(name: str) -> None:
    """Slicer deletes the files of output parameters."""
    outputs = [e for e in flagged(name).values() if e.findtext("channel") == "output"]
    expected = {"MedDiffusionSynthesize": ["outputVolume"], "MedDiffusionTrain": []}
    assert [e.findtext("name") for e in outputs] == expected[name]


def test_the_samplers_are_those_of_the_engine() -> None:
    assert options_of("MedDiffusionSynthesize")["sampler"].choices == ("default", *SAMPLERS)


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_of_two_words_may_have_a_hyphen_too(name: str) -> None:
    for flag, option in options_of(name).items():
        assert f"--{flag.replace('_', '-')}" in option.option_strings
