"""The module from a script, its self-test, and its sample data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from host import missing
from host.fixtures import host, started_host
from module_panel import drawn, module, panel, tiny, wait

__all__ = ["drawn", "host", "module", "panel", "started_host", "tiny"]

pytest_plugins = ("host.isolation",)
LACKING = missing("slicer_core", "PySide6")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)


def test_the_samplers_offered_are_the_engines(host: Any) -> None:
    from MedDiffusionLib.diffusion.samplers import SAMPLERS
    from MedDiffusionLib.widget.parameters import Sampler

    assert [one.value for one in Sampler if one.value] == list(SAMPLERS)


def test_the_self_test_passes(host: Any, module: Any) -> None:
    import slicer

    slicer.selfTests["MedDiffusion"]()
    sys.modules["MedDiffusion"].MedDiffusionLogic().cleanup()


def test_a_script_may_start_a_synthesis_and_go_on(host: Any, drawn: Any) -> None:
    logic = sys.modules["MedDiffusion"].MedDiffusionLogic()
    done: list[Any] = []
    job = logic.startSynthesis(drawn.panel.parameters.label_node, model="tiny", seed=3)
    job.onFinished = done.extend
    wait(host, lambda: job.ended)
    assert [node.GetAttribute("MedDiffusion.seed") for node in done] == ["3"]
    assert drawn.ui.resultList.count == 1


def test_the_example_is_offered_as_sample_data_without_a_download(host: Any, module: Any) -> None:
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    from host import sample_data

    sample_data.registered.clear()
    host.finish_startup()
    (source,) = sample_data.registered
    assert source["category"] == "MedDiffusion"
    assert Path(url2pathname(urlparse(source["uris"]).path)).is_file()
