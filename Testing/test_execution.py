"""Where a network runs: measured once, kept, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import TINY
from MedDiffusionLib.bundles.manifest import Manifest
from MedDiffusionLib.compute import execution
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.execution import choose_device, choose_execution

CPU = torch.device("cpu")
MANIFEST = Manifest(TINY)


def test_the_fastest_way_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {(True, True): 4.0, (True, False): 3.0, (False, True): 1.0, (False, False): 2.0}
    monkeypatch.setattr(execution, "_seconds", lambda e, m: times[e.bf16, e.channels_last])
    chosen = choose_execution(CPU, MANIFEST)
    assert (chosen.bf16, chosen.channels_last) == (False, True)


def test_the_choice_is_measured_once_and_kept(
    own_user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = choose_execution(CPU, MANIFEST)
    monkeypatch.setattr(execution, "_seconds", lambda e, m: pytest.fail("measured again"))
    assert choose_execution(CPU, MANIFEST) == first
    (kept,) = json.loads((own_user_folder / "execution.json").read_text()).values()
    assert kept == {"bf16": first.bf16, "channels_last": first.channels_last}


def test_another_network_is_measured_for_itself(own_user_folder: Path) -> None:
    choose_execution(CPU, MANIFEST)
    other = {**TINY, "architecture": {**TINY["architecture"], "schedule": "linear"}}
    choose_execution(CPU, Manifest(other))
    assert len(json.loads((own_user_folder / "execution.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_record_is_measured_anew(own_user_folder: Path, content: str) -> None:
    (own_user_folder / "execution.json").write_text(content)
    first = choose_execution(CPU, MANIFEST)
    assert choose_execution(CPU, MANIFEST) == first


def test_a_user_folder_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDDIFFUSION_HOME", str(tmp_path / "file" / "below"))
    assert choose_execution(CPU, MANIFEST).device == CPU


def test_auto_finds_a_device_and_an_absent_one_is_refused() -> None:
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    absent = [n for n in ("cuda", "mps") if not getattr(torch, n).is_available()]
    for name in absent:
        with pytest.raises(UserError, match=f"No {name} device"):
            choose_device(name)
