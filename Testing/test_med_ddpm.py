"""Med-DDPM against values that the authors' own program made, of random weights.

The golden files are described in the README of the shared data's folder ``checkpoints``.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_factory import shared_file
from MedDiffusionLib.bundles.importers import IMPORTERS, import_checkpoint
from MedDiffusionLib.bundles.importers.med_ddpm import schedule_buffers
from MedDiffusionLib.bundles.model import Model, build_model
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.archives import read_archive
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.diffusion.denoiser import Denoiser
from MedDiffusionLib.diffusion.networks.med_ddpm import MedDDPMUNet, step_embedding
from MedDiffusionLib.diffusion.samplers import SAMPLERS
from MedDiffusionLib.diffusion.schedules import Discrete, cosine_betas
from MedDiffusionLib.synthesis.region import make_region
from MedDiffusionLib.volumes.volume import Kind, Volume

CLOSE = 2e-5
"""Of values of deviation 0.3 to 1; float32 on another machine differs by some 3e-6."""
Arrays = dict[str, NDArray]


def golden(part: str) -> Arrays:
    with np.load(shared_file(f"checkpoints/med-ddpm-small-T1-{part}.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return shared_file("checkpoints/med-ddpm-small-T1.pt")


def imported(path: Path, **options: object) -> Model:
    return IMPORTERS["med-ddpm"].import_model(read_archive(path), options)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Model:
    """In the network's own order of axes, in which the golden arrays are."""
    return imported(checkpoint, axes="ijk", size=[16, 16, 16])


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def indices(masks: NDArray) -> Tensor:
    """Label indices ``[B, d, h, w]`` of masks ``[B, 2, d, h, w]``."""
    inside = torch.from_numpy(masks) > 0
    return inside[:, 0] + 2 * inside[:, 1].long()


def close(values: Tensor, expected: NDArray) -> None:
    torch.testing.assert_close(values, tensor(expected), rtol=0, atol=CLOSE)


def predicted(model: Model, x: NDArray, t: NDArray, masks: NDArray) -> Tensor:
    batch = tensor(x)
    known = torch.ones(len(batch), 2)
    return model.denoiser.network(batch, tensor(t), indices(masks), known)


# ---- the network and its schedule


def test_the_noise_that_it_predicts_is_that_of_the_authors_program(model: Model) -> None:
    known = golden("forward")
    for step, expected in zip(known["fwd_t"], known["fwd_eps"], strict=True):
        close(predicted(model, known["fwd_x"], step[None], known["fwd_cond"]), expected)
    made = predicted(model, known["fwd2_x"], known["fwd2_t"], known["fwd2_cond"])
    close(made, known["fwd2_eps"])


def test_the_other_weights_of_the_file_predict_as_they_do_there(checkpoint: Path) -> None:
    known = golden("forward")
    other = imported(checkpoint, weights="model", axes="ijk")
    made = predicted(other, known["fwd_x"], np.array([124]), known["fwd_cond"])
    close(made, known["fwd_eps_t124_modelweights"])


def test_the_embedding_of_steps_is_that_of_the_authors_program() -> None:
    known = golden("forward")
    close(step_embedding(tensor(known["temb_t"]), 32), known["temb"])


def test_axes_are_turned_on_the_way_in_and_out_and_nothing_else(
    model: Model, checkpoint: Path
) -> None:
    known = golden("forward")
    turned = imported(checkpoint)
    x, masks = known["fwd2_x"].transpose(0, 1, 4, 3, 2), known["fwd2_cond"].transpose(0, 1, 4, 3, 2)
    made = predicted(turned, x.copy(), known["fwd2_t"], masks.copy())
    close(made.permute(0, 1, 4, 3, 2), known["fwd2_eps"])


def test_the_schedule_is_that_of_the_file_to_the_bit(checkpoint: Path, model: Model) -> None:
    stored = read_archive(checkpoint).content["ema"]
    schedule = model.denoiser.schedule
    assert isinstance(schedule, Discrete)
    assert torch.equal(schedule.betas, stored["betas"].load())
    assert torch.equal(cosine_betas(250).float(), schedule.betas)
    for name, expected in schedule_buffers(cosine_betas(250)).items():
        assert torch.equal(stored[name].load(), expected), name
    alpha, sigma = schedule(torch.arange(1, 251, dtype=torch.float64) / 250)
    torch.testing.assert_close(alpha.float(), stored["sqrt_alphas_cumprod"].load(), rtol=1e-4,
                               atol=1e-7)  # fmt: skip
    expected = stored["sqrt_one_minus_alphas_cumprod"].load()
    torch.testing.assert_close(sigma.float(), expected, rtol=1e-4, atol=1e-7)


def test_single_steps_are_those_of_the_authors_program(model: Model) -> None:
    known = golden("forward")
    denoiser, labels = model.denoiser, indices(known["step_cond"])
    x, noise = tensor(known["step_x"]), tensor(known["step_noise"])
    for number, step in enumerate(known["step_t"]):
        t = torch.tensor([(step + 1) / 250])
        x0 = denoiser(x, t, labels, torch.ones(1, 2))
        # Rounding of what is divided by alpha, 2e-4 at the first step.
        rounding = 5e-3 if step == 249 else CLOSE
        expected = tensor(known["step_xrecon"][number]).clamp(-1, 1)
        torch.testing.assert_close(x0, expected, rtol=0, atol=rounding)
        times = torch.tensor([step + 1, step, 0], dtype=torch.float64).clamp(min=0) / 250
        stepped: list[Tensor] = []

        def denoise(x: Tensor, t: Tensor, stepped: list[Tensor] = stepped) -> Tensor:
            stepped.append(x)
            return denoiser(x, t.reshape(1), labels, torch.ones(1, 2))

        result = SAMPLERS["ddpm"](
            denoise, x, times if step else times[1:].new_tensor([1 / 250, 0]), denoiser.schedule,
            lambda: noise, lambda n, x0: None,
        )  # fmt: skip
        close(stepped[1] if step else result, known["step_result"][number])


# ---- a whole run


def test_a_whole_run_gives_the_volume_of_the_authors_program(checkpoint: Path) -> None:
    """From the label map's file to the array that was written, with their noise."""
    known = golden("fullrun")
    model = imported(checkpoint, size=[16, 16, 16])
    # What lies outside of the set of labels is background there; here one has to say so.
    array = np.where(known["label_file"] > 2, 0, known["label_file"]).astype(np.uint8)
    labels = Volume(array, known["affine"], Kind.LABEL)
    region = make_region(labels, labels.grid, model.labels)
    network = model.denoiser.network
    assert isinstance(network, MedDDPMUNet)
    masks = network.masks(region.indices.long(), torch.zeros(1))
    expected = tensor(known["cond_after_label2masks"]).permute(3, 0, 1, 2)[None] * 2 - 1
    assert torch.equal(masks, expected)
    assert torch.equal(masks.permute(0, 1, 4, 3, 2), tensor(known["cond"]))
    # Two at once: PyTorch takes its slowest convolution for single small volumes.
    draws = iter(tensor(known["noise"]).permute(0, 1, 2, 5, 4, 3).expand(-1, 2, -1, -1, -1, -1))
    start = tensor(known["x_T"]).permute(0, 1, 4, 3, 2).expand(2, -1, -1, -1, -1)
    schedule = model.denoiser.schedule
    indices, annotated = region.indices.long().expand(2, -1, -1, -1), region.annotated

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return model.denoiser(x, t.float().expand(2), indices, annotated)

    made = SAMPLERS["ddpm"](
        denoise, start, schedule.times(250), schedule, lambda: next(draws), lambda n, x0: None
    )
    for volume in made[:, 0]:
        close(volume, known["raw_written_image"])
    assert next(draws, None) is None, "as many draws as there"


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_finds_the_data_on_whole_steps(name: str) -> None:
    """For data of N(0.4, 0.1^2) the best estimate is known; what is taken are whole steps."""
    schedule = Discrete(250)
    seen: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t) * 250)
        alpha, sigma = schedule(t)
        gain = alpha * 0.1**2 / (alpha**2 * 0.1**2 + sigma**2)
        return 0.4 + gain * (x - alpha * 0.4)

    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(20_000, generator=generator, dtype=torch.float64)

    made = SAMPLERS[name](denoise, noise(), schedule.times(50), schedule, noise, lambda n, x0: None)
    assert made.mean().item() == pytest.approx(0.4, abs=0.01)
    assert made.std().item() == pytest.approx(0.1, abs=0.03)
    assert all(abs(step - round(step)) < 1e-9 for step in seen)
    assert len(set(seen)) == 50


@pytest.mark.parametrize("spacing", ["lambda", "even"])
@pytest.mark.parametrize("steps", [1, 2, 10, 37, 249, 250])
def test_steps_fall_from_the_last_by_one_at_least(spacing: str, steps: int) -> None:
    taken = Discrete(250, spacing).times(steps) * 250
    assert taken[0] == 250
    assert taken[-1] == 0
    assert (taken.diff() <= -1 + 1e-9).all()
    assert torch.allclose(taken, taken.round())
    with pytest.raises(UserError, match="250 steps, and 251"):
        Discrete(250, spacing).times(251)


def test_even_steps_are_those_of_the_fast_variant() -> None:
    steps = (Discrete(250, "even").times(10) * 250 - 1).round().int().tolist()
    assert steps == [249, 221, 194, 166, 138, 111, 83, 55, 28, 0, -1]


def test_the_network_is_told_what_the_schedule_says() -> None:
    schedule = Discrete(250)
    schedule.fed.mul_(4)
    told: list[float] = []

    class Network(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
            told.extend(t.tolist())
            return x

    from MedDiffusionLib.diffusion.parameterizations import PARAMETERIZATIONS

    denoiser = Denoiser(Network(), schedule, PARAMETERIZATIONS["epsilon-clipped"])
    x = torch.zeros(3, 1, 1, 1, 1)
    # As float32, in which a time reaches the denoiser.
    denoiser(x, torch.tensor([1 / 250, 0.4, 1.0]), x[:, 0].long(), torch.ones(3, 1))
    assert told == [0, 4 * 99, 4 * 249]


# ---- the published sizes


def published(kind: str, folder: Path) -> tuple[Path, int]:
    """A file of the published size with random numbers, all in one storage; its parameters."""
    known = json.loads(shared_file(f"checkpoints/med-ddpm-published-keys-{kind}.json").read_text())
    shapes = {name: tuple(each["shape"]) for name, each in known["state_dict"].items()}
    numbers = torch.randn(max(int(np.prod(shape)) for shape in shapes.values())) / 50
    state = OrderedDict(
        (name, numbers[: int(np.prod(shape))].view(shape)) for name, shape in shapes.items()
    )
    if "betas" in state:
        state.update(schedule_buffers(cosine_betas(250)))
        content = {"step": 100_000, "model": state, "ema": state}
    else:
        content = {"model": state}
    torch.save(content, folder / "published.pt")
    return folder / "published.pt", known["parameters"]


@pytest.mark.parametrize(
    ("kind", "labels", "channels", "grid", "attention"),
    [
        ("T1", {"head": 1, "tumour": 2}, ["T1w"], ("RAS", 1.5, (128, 128, 128)), [3]),
        (
            "brats",
            {"necrosis": 1, "oedema": 2, "enhancing tumour": 3, "brain": 4},
            ["T1w", "T1ce", "T2w", "FLAIR"],
            ("LPS", 1.0, (192, 192, 144)),
            [],
        ),
        ("fast-sampling", {"tumour": 2, "head": 1}, ["T1w"], ("RAS", 1.5, (128, 128, 128)), []),
    ],
)
def test_a_published_model_is_known_by_its_shapes(
    kind: str, labels: dict[str, int], channels: list[str], grid: tuple[str, float, tuple],
    attention: list[int], tmp_path: Path,
) -> None:  # fmt: skip
    path, parameters = published(kind, tmp_path)
    model = imported(path)
    manifest = model.manifest
    assert sum(p.numel() for p in model.denoiser.network.parameters()) == parameters
    assert {label.name: label.value for label in manifest.labels} == labels
    needed = [label.name for label in manifest.labels if not label.optional]
    assert needed == ["brain" if kind == "brats" else "head"]
    assert [channel.name for channel in manifest.channels] == channels
    spec = manifest.grid
    assert (spec.orientation, spec.spacing, spec.size) == (grid[0], (grid[1],) * 3, grid[2])
    network = manifest.architecture.network.options
    assert network["attention"] == attention
    assert network["multipliers"] == [1, 1, 2, 3, 4]
    assert network["outside"] == (0 if kind == "brats" else -1)
    assert network["strides"] == ([2, 1, 2] if kind == "fast-sampling" else [2, 2, 2])
    assert network["axes"] == ("ijk" if kind == "fast-sampling" else "kji")
    with torch.device("meta"):
        # Shapes alone, at the size that it was trained on.
        whole = torch.zeros(1, len(channels), *spec.size)
        shapes = build_model(manifest).denoiser.network
        made = shapes(whole, torch.zeros(1), whole[:, 0].long(), torch.ones(1, len(labels)))
    assert made.shape == whole.shape


def test_the_fast_variant_is_told_steps_of_a_thousand(tmp_path: Path) -> None:
    path, _parameters = published("fast-sampling", tmp_path)
    model = imported(path)
    schedule, sampling = model.denoiser.schedule, model.manifest.sampling
    assert isinstance(schedule, Discrete)
    assert (sampling.sampler, sampling.steps) == ("ddpm", 10)
    t = schedule.times(10)[:-1]
    assert schedule.network_time(t).tolist() == [
        996, 884, 776, 664, 552, 444, 332, 220, 112, 0,
    ]  # fmt: skip


# ---- geometry


def test_a_volume_has_the_geometry_of_the_label_map(
    checkpoint: Path, own_user_folder: Path, tmp_path: Path
) -> None:
    import_checkpoint(checkpoint, "small", {"size": [16, 16, 16]})
    labels = np.zeros((19, 17, 11), np.int16)
    labels[3:16, 4:15, 2:9] = 1  # A healthy head: there is no tumour.
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.4, 1.0, 2.5]
    affine[:3, 3] = 10, -20, 30
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    arguments = ["synthesize", str(tmp_path / "labels.nii.gz"), "-o", str(tmp_path / "v.nii.gz")]
    assert main([*arguments, "--model", "small", "--steps", "2"]) == 0
    made = nibabel.load(tmp_path / "v.nii.gz")
    assert made.shape == labels.shape
    np.testing.assert_allclose(made.affine, affine, atol=1e-5)
    values = np.asarray(made.dataobj)
    assert values.min() >= -1
    assert values.max() <= 1
