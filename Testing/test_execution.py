"""How a network runs: by the hardware alone, so that the same machine gives the same bits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from MedDiffusionLib.compute.devices import choose_device
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.execution import Execution, choose_execution

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("instructions", "bf16"), [([], False), (["avx512_bf16"], True), (["amx_tile"], True)]
)
def test_a_cpu_computes_in_bfloat16_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, instructions: list[str], bf16: bool
) -> None:
    answers = {
        f"_is_{name}_supported": lambda name=name: name in instructions
        for name in ("avx512_bf16", "amx_tile")
    }
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(**answers))
    assert choose_execution(CPU) == Execution(CPU, bf16, True)


def test_a_torch_that_does_not_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cpu", SimpleNamespace())
    assert choose_execution(CPU) == Execution(CPU, False, True)


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_execution(CUDA) == Execution(CUDA, fast, fast)
    assert choose_execution(MPS) == Execution(MPS, False, False)


def test_auto_finds_a_device_and_an_absent_one_is_refused() -> None:
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    absent = [n for n in ("cuda", "mps") if not getattr(torch, n).is_available()]
    for name in absent:
        with pytest.raises(UserError, match=f"No {name} device"):
            choose_device(name)
