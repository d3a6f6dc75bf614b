"""What a synthesis takes is known before it starts, and refused where it is too much."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cli_runs import model, nifti, out, refused, synthesize
from MedDiffusionLib import load
from MedDiffusionLib.compute import memory
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.synthesis import costs as costs_module
from MedDiffusionLib.synthesis import synthesis
from MedDiffusionLib.synthesis.costs import check_memory, check_time, duration
from MedDiffusionLib.synthesis.region import labelled_part, region_grid
from MedDiffusionLib.synthesis.settings import Settings
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes import resampling
from MedDiffusionLib.volumes.resampling import resample
from MedDiffusionLib.volumes.volume import Grid, Kind, Volume

__all__ = ["model", "out"]

CPU = torch.device("cpu")
GIGABYTE = 10**9


@pytest.fixture
def made(tiny_bundle: Path) -> Synthesizer:
    return load(tiny_bundle, "cpu")


def box(size: int, labelled: int, spacing: float = 1.0) -> Volume:
    """A cube of voxels with a cube of labels in its middle."""
    array = np.zeros((size,) * 3, np.uint8)
    first = (size - labelled) // 2
    array[(slice(first, first + labelled),) * 3] = 1
    return Volume(array, np.diag([spacing, spacing, spacing, 1]), Kind.LABEL)


def test_blocks_and_evaluations_are_counted(made: Synthesizer) -> None:
    seen: list[int] = []
    made._denoiser.network.register_forward_hook(lambda *_: seen.append(1))
    for settings in (
        Settings(samples=2, steps=3),
        Settings(steps=1, guidance=2.0),
        Settings(steps=3, guidance=2.0, guidance_range=(0.1, 0.9)),
    ):
        prepared = made.prepare(box(24, 20), settings)
        costs = prepared.costs(settings.samples)
        # 20 voxels and a quarter of the field of view of 16: 24, in blocks that overlap by half.
        assert costs.region == (24, 24, 24)
        assert costs.blocks == 2**3
        assert made.seconds_per_evaluation > 0
        seen.clear()
        list(prepared.samples())
        assert len(seen) == costs.evaluations


def test_memory_grows_with_the_region_and_with_the_output(made: Synthesizer) -> None:
    def needed(labels: Volume, **settings: bool) -> int:
        return made.prepare(labels, Settings(**settings)).costs(1).memory_bytes  # type: ignore[arg-type]

    small, wide, coarse = box(64, 10), box(64, 60), box(64, 60, 20.0)
    assert needed(small) >= 4 * 64**3, "the output itself"
    assert needed(wide) > needed(small)
    # 60 voxels of 20 mm on a grid of 1 mm: 1,204 voxels a side, eight latents of 4 bytes each.
    assert needed(coarse) > 8 * 4 * 1204**3
    large = box(300, 10)
    assert needed(large, native=True) < 4 * 300**3 < needed(large)


def test_too_much_memory_is_one_sentence_with_the_way_out(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(costs_module, "available_memory", lambda device: 2 * GIGABYTE)
    source = nifti(tmp_path / "labels.nii.gz", box(50, 46).array, np.diag([20, 20, 20, 1]))
    sentence = refused(capfd, synthesize(source, out / "v.nii.gz", model))
    for words in ("of memory, and 2.0 GB are free", "924 x 924 x 924", "--native", "--yes", "crop"):
        assert words in sentence
    assert list(out.iterdir()) == []


def test_too_long_is_one_sentence_and_may_be_accepted(
    tmp_path: Path, out: Path, model: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(synthesis, "_MANY_EVALUATIONS", 10)
    monkeypatch.setattr(Synthesizer, "seconds_per_evaluation", 480.0)
    source = nifti(tmp_path / "labels.nii.gz", box(24, 20).array)
    command = source, out / "v.nii.gz", model, "--steps", "2"
    # 20 + 4 voxels in blocks of 16 that overlap by half: 2 x 2 x 2, twice, in 480 s each.
    sentence = refused(capfd, synthesize(*command))
    assert "takes about 2.1 hours" in sentence
    assert "8 blocks, 16 evaluations" in sentence
    assert list(out.iterdir()) == []
    assert synthesize(*command, "--yes") == 0
    assert "this takes about 2.1 hours" in capfd.readouterr().err
    monkeypatch.setattr(Synthesizer, "seconds_per_evaluation", 15.0)
    assert synthesize(*command, "--overwrite") == 0
    assert "this takes about 4 minutes" in capfd.readouterr().err


def test_a_script_accepts_costs_too(made: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs_module, "available_memory", lambda device: 1)
    with pytest.raises(UserError) as caught:
        made.synthesize(box(20, 8))
    assert caught.value.code == "too-much"
    assert len(made.synthesize(box(20, 8), accept_costs=True)) == 1


def test_small_jobs_are_not_measured(made: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Synthesizer, "seconds_per_evaluation", property(pytest.fail))
    made.synthesize(box(20, 8), samples=3)


@pytest.mark.parametrize(
    ("seconds", "words"), [(42.3, "42 seconds"), (1500, "25 minutes"), (12600, "3.5 hours")]
)
def test_durations_are_said_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_gpus_own_memory_counts(made: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = made.prepare(box(20, 8), Settings()).costs(1)
    assert costs.device_bytes == 0
    on_gpu = SimpleNamespace(**{**vars(costs), "device_bytes": 3 * GIGABYTE, "describe": str})
    monkeypatch.setattr(
        costs_module, "available_memory",
        lambda device: GIGABYTE if device.type == "cuda" else 100 * GIGABYTE,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"3\.0 GB of the GPU's memory, and 1\.0 GB are free"):
        check_memory(on_gpu, torch.device("cuda"))  # type: ignore[arg-type]
    check_time(costs)


# ---- how much memory there is


def test_the_least_of_system_group_and_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, free in (("_system_memory", 8), ("_group_memory", 5), ("_limited_memory", None)):
        monkeypatch.setattr(memory, name, lambda free=free: free)
    assert memory.available_memory(CPU) == 5
    monkeypatch.setattr(memory, "_limited_memory", lambda: -3)
    assert memory.available_memory(CPU) == 0
    for name in ("_system_memory", "_group_memory", "_limited_memory"):
        monkeypatch.setattr(memory, name, lambda: None)
    assert memory.available_memory(CPU) is None


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_is_found(tmp_path: Path, version: int) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "root"
    own.write_text("12:cpu:/\n4:memory:/a/b\n" if version == 1 else "0::/a/b\n")
    limit, used, inactive = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if version == 1
        else ("memory.max", "memory.current", "inactive_file")
    )
    base = root / "memory" if version == 1 else root
    for folder, most in (("a/b", "max"), ("a", "1000")):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder / limit).write_text(f"{most}\n")
        (base / folder / used).write_text("700\n")
        (base / folder / "memory.stat").write_text(f"anon 1\n{inactive} 50\n")
    assert memory._group_memory(root, own) == 1000 - 700 + 50
    assert memory._group_memory(root, tmp_path / "none") is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="another system tells otherwise")
def test_this_machine_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.available_memory(CPU)
    assert free is not None and 10**7 < free < 10**14
    assert memory._limited_memory() is None or memory._limited_memory() != 0
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10**15, 10**15))
    limited = memory._limited_memory()
    assert limited is not None and 10**14 < limited < 10**15


# ---- large label maps with a small region


def test_only_the_labelled_part_of_a_large_label_map_is_used(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    monkeypatch.setattr("MedDiffusionLib.synthesis.region._WHOLE", 1000)
    spec = load(tiny_bundle, "cpu").model.manifest.grid
    for spacing in ([1, 1, 1], [0.7, 0.9, 1.1], [0.5, 0.5, 4]):
        array = np.zeros((60, 50, 40), np.uint8)
        array[20:31, 22:30, 15:19] = np.random.default_rng(0).integers(1, 3, (11, 8, 4))
        whole = Volume(array, np.diag([*spacing, 1]).astype(float), Kind.LABEL)
        part = labelled_part(whole)
        assert part.array.size < array.size / 2
        assert np.shares_memory(part.array, array)
        grid = region_grid(whole, spec, (2, 2, 2))
        found = region_grid(part, spec, (2, 2, 2), whole)
        np.testing.assert_allclose(found.affine, grid.affine, atol=1e-9)
        agreeing = resample(part, grid).array == resample(whole, grid).array
        assert agreeing.mean() > 0.999, "but for ties"


def test_intensities_on_a_large_grid_are_those_on_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)
    image = Volume(array, np.eye(4), Kind.INTENSITY)
    affine = np.diag([0.8, 1.3, 0.6, 1.0])
    for first in ([-20.0, -3.0, 2.0], [-70.0, 0.0, 0.0]):
        affine[:3, 3] = first
        grid = Grid((60, 50, 40), affine)
        expected = resample(image, grid, -5).array
        with monkeypatch.context() as large:
            large.setattr(resampling, "_LARGE", 1000)
            found = resample(image, grid, -5).array
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert ((found == -5) == (expected == -5)).all()
