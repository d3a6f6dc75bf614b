"""Several processes on one run: the same gradient, the same model, and an orderly end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import gradient_process
from conftest import make_bundle
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.errors import UserError
from stages_factory import staged_plan
from training_factory import make_plan, read_log, run, write_data

PATIENCE = 600.0
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux", reason="needs torchrun"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_data(tmp_path, 6)
    return tmp_path


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """Two processes under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    return subprocess.Popen(
        [*command, *map(str, arguments)], text=True, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, what was printed, and our own sentences among the errors."""
    try:
        out, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    ours = [line for line in errors.splitlines() if line.startswith("meddiffusion: ")]
    ours = [line for line in ours if not line.startswith("meddiffusion: warning: ")]
    assert ours or process.returncode == 0, errors
    return process.returncode, out, "\n".join(ours)


def arguments(data: Path, output: Path, iterations: int, **training: Any) -> list[object]:
    preset = data / "preset.json"
    preset.write_text(json.dumps(make_plan(**{"batch": 3, **training})))
    split = data / "split.json"
    names = [f"case {n}" for n in range(6)]
    split.write_text(json.dumps({"train": names[:5], "validation": names[5:]}))
    return ["--images", data / "images", "--labels", data / "labels", "--output", output,
            "--preset", preset, "--split", split, "--device", "cpu",
            "--iterations", iterations]  # fmt: skip


def wait_for(process: subprocess.Popen[str], output: Path, iteration: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        text = (output / "log.jsonl").read_text() if (output / "log.jsonl").exists() else ""
        if f'"iteration": {iteration}, "images"' in text:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


def process_of_rank(rank: int, output: Path) -> int:
    """The process that torchrun started as ``rank`` of the run that writes to ``output``."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"RANK={rank}".encode() in environment and str(output).encode() in command:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def two_processes(*arguments: object) -> list[subprocess.Popen[str]]:
    """Two processes of a group as torchrun starts them, without torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [{"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)], text=True, stdout=subprocess.PIPE,
            env={**os.environ, **group, **place},
        )
        for place in places
    ]  # fmt: skip


def test_two_processes_have_the_gradient_of_one_and_leave_no_thread(data: Path) -> None:
    """A thread that outlived the group would abort the interpreter now and then, on its way out."""
    started = two_processes(gradient_process.__file__, data, data / "two.safetensors")
    said = [process.communicate(timeout=PATIENCE)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert "gloo" not in "".join(said)
    gradient_process.main(data, data / "one.safetensors")
    one, two = (load_file(data / f"{name}.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)


def assert_same_run(one: Path, two: Path) -> None:
    """Two checkpoints are those of the same run, but for the order of float sums.

    Those differences grow with the run, and how far it came depends on the machine: they are held
    against the size of what they change.
    """
    first, second = (load_file(folder / "checkpoint.safetensors") for folder in (one, two))
    for key in first:
        off, size = (first[key] - second[key]).norm(), first[key].norm()
        assert off <= 0.01 * size + 1e-4 * first[key].numel() ** 0.5, f"{key}: {off} of {size}"


def test_two_processes_end_together_and_train_the_model_that_one_does(data: Path) -> None:
    """Ended by a process that is killed, then by a signal; then one process goes on alone."""
    two, one = data / "two", data / "one"
    process = torchrun("-m", "MedDiffusionLib.train", *arguments(data, two, 100_000))
    wait_for(process, two, 2)
    os.kill(process_of_rank(1, two), signal.SIGKILL)
    code, _, errors = finish(process)
    assert code == 1
    assert "Another process of this run is gone; iteration" in errors
    assert "--resume" in errors
    saved = read_log(two)[-1]["iteration"]
    assert saved >= 2
    process = torchrun("-m", "MedDiffusionLib.train", *arguments(data, two, 100_000), "--resume")
    wait_for(process, two, saved + 2)
    process.send_signal(signal.SIGTERM)
    code, _, errors = finish(process)
    assert code != 0
    assert "by SIGTERM; the checkpoint is in" in errors
    # Any number of processes may go on; here one, and just far enough to leave a model.
    end = read_log(two)[-1]["iteration"] + 1
    assert main(["train", *map(str, arguments(data, two, end)), "--resume"]) == 0
    assert main(["train", *map(str, arguments(data, one, end))]) == 0
    assert_same_run(one, two)
    assert read_bundle(two).manifest.to_json()["training"]["iterations"] == end
    steps = [x["iteration"] for x in read_log(two) if "loss" in x]
    assert steps == list(range(1, end + 1))
    assert not list(two.glob(".*"))


def test_two_processes_learn_the_representation_and_the_denoiser_that_one_does(data: Path) -> None:
    """The codebook is that of the whole batch, in every process."""
    plan = staged_plan({"batch": 3, "losses": {"adversarial_start": 0.5}}, batch=3, warmup=1)
    plan["manifest"]["architecture"]["representation"]["quantizer"] = {"name": "vq", "codes": 8}
    outputs = data / "one", data / "two"
    given = [*arguments(data, outputs[0], 8), *arguments(data, outputs[1], 8)]
    (data / "preset.json").write_text(json.dumps(plan))
    half = len(given) // 2
    code, out, errors = finish(torchrun("-m", "MedDiffusionLib.train", *given[half:]))
    assert (code, out) == (0, f"{outputs[1]}\n"), errors
    # One of the two speaks.
    assert (len(errors.splitlines()), errors.count("meddiffusion export")) == (1, 1)
    assert main(["train", *map(str, given[:half])]) == 0
    kept = [load_file(output / "representation" / "checkpoint.safetensors") for output in outputs]
    for name in ("codebook", "share"):
        first, second = (tensors[f"model.quantizer.{name}"] for tensors in kept)
        torch.testing.assert_close(first, second, rtol=0.02, atol=0.02)
    for folder in ("representation", "."):
        lines = [[x["loss"] for x in read_log(o / folder) if "loss" in x] for o in outputs]
        assert lines[0] == pytest.approx(lines[1], rel=0.02)
    assert_same_run(*outputs)


def test_more_processes_than_samples_in_a_batch_are_refused(tmp_path: Path) -> None:
    cases = write_data(tmp_path, 1)
    with pytest.raises(UserError, match="The batch is 2 and there are 3 processes"):
        run(cases, tmp_path / "model", 1, ranks=Ranks(0, 3))


def test_a_folder_is_synthesized_in_shares(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such processes need not know of each other: torchrun tells each its rank, and no more."""
    model = make_bundle(tmp_path / "tiny")
    made = [tmp_path / "0", tmp_path / "1"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, folder in enumerate(made):
        monkeypatch.setenv("RANK", str(rank))
        options = [data / "labels", "-o", folder, "--model", model, "--device", "cpu"]
        assert main(["synthesize", *map(str, options)]) == 0
    # Each volume, and its facts beside it, is made once, by one of the two.
    names = [sorted(path.name for path in folder.iterdir()) for folder in made]
    assert not set(names[0]) & set(names[1])
    assert len(names[0]) == len(names[1]) == 2 * 3
    alone = tmp_path / "alone"
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    options = [data / "labels", "-o", alone, "--model", model, "--device", "cpu"]
    assert main(["synthesize", *map(str, options)]) == 0
    assert sorted(p.name for p in alone.iterdir()) == sorted(names[0] + names[1])
