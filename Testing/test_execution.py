"""Where a network runs: measured once, kept, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import TINY, tiny_manifest
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.devices import choose_device
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.execution import Execution, choose_execution

CPU = torch.device("cpu")


def seconds(execution: Execution) -> float:
    """As if float32 with channels last were the fastest."""
    times = {(True, True): 4.0, (True, False): 3.0, (False, True): 1.0, (False, False): 2.0}
    return times[execution.bf16, execution.channels_last]


def test_the_fastest_way_is_chosen() -> None:
    assert choose_execution(CPU, "network", seconds) == Execution(CPU, False, True)


def test_the_choice_is_measured_once_and_kept(own_user_folder: Path) -> None:
    first = choose_execution(CPU, "network", seconds)
    assert choose_execution(CPU, "network", lambda e: pytest.fail("measured again")) == first
    (kept,) = json.loads((own_user_folder / "execution.json").read_text()).values()
    assert kept == {"bf16": False, "channels_last": True}


def test_another_network_is_measured_for_itself(own_user_folder: Path) -> None:
    build_model(tiny_manifest()).fastest_execution(CPU)
    architecture = {**TINY["architecture"], "schedule": {"name": "linear"}}
    build_model(tiny_manifest(architecture=architecture)).fastest_execution(CPU)
    assert len(json.loads((own_user_folder / "execution.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_record_is_measured_anew(own_user_folder: Path, content: str) -> None:
    (own_user_folder / "execution.json").write_text(content)
    choose_execution(CPU, "network", seconds)
    (kept,) = [
        choice
        for name, choice in json.loads((own_user_folder / "execution.json").read_text()).items()
        if name.endswith("network")
    ]
    assert kept == {"bf16": False, "channels_last": True}


def test_a_user_folder_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDDIFFUSION_HOME", str(tmp_path / "file" / "below"))
    assert choose_execution(CPU, "network", seconds).device == CPU


def test_auto_finds_a_device_and_an_absent_one_is_refused() -> None:
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    absent = [n for n in ("cuda", "mps") if not getattr(torch, n).is_available()]
    for name in absent:
        with pytest.raises(UserError, match=f"No {name} device"):
            choose_device(name)
