"""What the denoiser of a run of two stages is trained on: latents, views, patches."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import make_bundle
from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.diffusion.representations import Autoencoder
from MedDiffusionLib.training.data import latents
from MedDiffusionLib.training.data.latents import ViewSettings
from MedDiffusionLib.training.data.loaded_cases import StoredCase
from MedDiffusionLib.training.data.patches import PatchSamples
from MedDiffusionLib.training.data.samples import Augmentation
from MedDiffusionLib.training.plan.settings import check_manifest
from MedDiffusionLib.volumes.grids import GridSpec
from stages_factory import cases_in, run_of, staged_plan
from training_factory import CPU, prepared


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases."""
    folder = tmp_path_factory.mktemp("data")
    cases_in(folder)
    return folder


@pytest.fixture
def stored(data: Path, tmp_path: Path) -> list[StoredCase]:
    return prepared(cases_in(data), tmp_path, check_manifest(staged_plan()["manifest"]))


def representation() -> Autoencoder:
    torch.manual_seed(0)
    made = build_model(check_manifest(staged_plan()["manifest"])).representation
    assert isinstance(made, Autoencoder)
    return made.eval()


def test_a_view_is_a_sample_laid_over_its_case_and_encoded(stored: list[StoredCase]) -> None:
    encoder, views = representation(), ViewSettings(3, Augmentation(), 7)
    encoded = latents.encode_cases(stored, views, encoder, CPU)
    again = latents.encoded_cases(stored, views, encoder)
    for one, same, case in zip(encoded, again, stored, strict=True):
        assert one.views[0].equals(case.fov)
        assert not one.views[1].equals(one.views[2])
        for number, view in enumerate(one.views):
            opened = case.open()
            with torch.inference_mode():
                wanted = encoder.encode(torch.from_numpy(opened.images_on(view))[None])[0]
            torch.testing.assert_close(
                torch.from_numpy(same.latent(number)).float(), wanted, rtol=1e-3, atol=1e-3
            )
            assert (same.labels(number) == opened.labels_on(view)).all()
            whole = opened.validity(view).reshape(8, 2, 8, 2, 8, 2).all((1, 3, 5))
            assert (same.inside(number)[0] == whole).all()
    # Other weights, another seed: other latents.
    with pytest.raises(UserError, match="lacks the latents of case 0"):
        latents.encoded_cases(stored, ViewSettings(3, Augmentation(), 8), encoder)


def test_a_latent_sample_is_a_function_of_seed_and_number(stored: list[StoredCase]) -> None:
    encoder, views = representation(), ViewSettings(2, Augmentation(), 0)
    encoded = latents.encode_cases(stored, views, encoder, CPU)
    encoder.set_scale(torch.tensor([0.5, -0.5]), torch.tensor([4.0, 4.0]))

    def samples(dropout: float, seed: int) -> latents.LatentSamples:
        return latents.LatentSamples(encoded, encoder, dropout, 2**40, seed, 0.25)

    first, second = samples(0.2, 0), samples(0.2, 0)
    first[3], first[9]
    for a, b in zip(astuple(first[5]), astuple(second[5]), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[5].images, samples(0.2, 1)[5].images)
    sample = samples(0.0, 0)[0]
    assert sample.images.shape == (2, 8, 8, 8)
    assert sample.labels.shape == (16, 16, 16)
    assert set(sample.weight.unique().tolist()) <= {0.25, 1.0}
    raw = [torch.from_numpy(c.latent(v)).float() for c in encoded for v in (0, 1)]
    shift = torch.tensor([0.5, -0.5])[:, None, None, None]
    assert any(torch.allclose(sample.images * 2 + shift, z, atol=1e-5) for z in raw)
    # All labels hidden: nothing is left of them.
    hidden = samples(1.0, 0)[0]
    assert not hidden.annotated.any()
    assert not hidden.labels.any()


def test_a_patch_lies_in_the_scan_where_there_is_something_to_see(
    stored: list[StoredCase],
) -> None:
    patches = PatchSamples(
        stored, GridSpec("RAS", (1.0, 1.0, 1.0), (16, 16, 16)), (8, 8, 8), [1, 2],
        Augmentation(shift=0, far_shift=0.0), 0.0, 2**40, 0,
    )  # fmt: skip
    made = [patches[number] for number in range(24)]
    assert {tuple(sample.images.shape) for sample in made} == {(1, 8, 8, 8)}
    # A scan of 18 x 20 x 14 voxels below a grid of 16^3.
    assert np.mean([float(sample.weight.mean()) for sample in made]) > 0.9
    assert all(float(sample.images.std()) > 0.05 for sample in made)
    assert len({float(sample.images[0, 0, 0, 0]) for sample in made}) == 24


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model whose representation is taken as it is."""
    planned = staged_plan()["manifest"]
    same = {name: planned[name] for name in ("architecture", "channels")}
    return make_bundle(tmp_path / "source", **same)


def test_latents_that_are_not_finite_are_refused_with_a_sentence(
    data: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Autoencoder, "_encode", lambda self, image: torch.full((1, 2, 8, 8, 8), torch.nan)
    )
    with pytest.raises(UserError, match="makes NaN or infinite latents of the case case 0"):
        plan = staged_plan({"from": str(source)})
        run_of(data, tmp_path / "model", 1, plan=plan)


def test_latents_that_do_not_vary_are_refused_with_a_sentence(
    data: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Autoencoder, "_encode", lambda self, image: torch.zeros(1, 2, 8, 8, 8))
    with pytest.raises(UserError, match="representation cannot be used"):
        plan = staged_plan({"from": str(source)})
        run_of(data, tmp_path / "model", 1, plan=plan)
