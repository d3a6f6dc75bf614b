"""The network and the loss: shapes, what they depend on, and what does not count."""

from __future__ import annotations

import pytest
import torch

from MedDiffusionLib.diffusion.denoiser import Denoiser, total_weight
from MedDiffusionLib.diffusion.label_features import EMBEDDED_CHANNELS
from MedDiffusionLib.diffusion.networks.resunet import ResUNet
from MedDiffusionLib.diffusion.parameterizations import PARAMETERIZATIONS
from MedDiffusionLib.diffusion.schedules import Cosine

cosine = Cosine()


def network(labels: int = 2, channels: int = 1, factor: int = 2) -> ResUNet:
    torch.manual_seed(0)
    made = ResUNet(
        channels * factor**3,
        labels,
        (factor,) * 3,
        channels=(8, 16),
        blocks=1,
        groups=4,
        embedding=8,
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


@pytest.mark.parametrize("labels", [1, 2, 40])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_any_number_of_labels_contrasts_and_any_factor_fits(
    labels: int, channels: int, factor: int
) -> None:
    made = network(labels, channels, factor)
    x = torch.randn(2, channels * factor**3, 4, 6, 2)
    maps = torch.randint(0, labels + 1, (2, 4 * factor, 6 * factor, 2 * factor))
    with torch.no_grad():
        assert made(x, torch.rand(2), maps, torch.ones(2, labels)).shape == x.shape


def test_more_than_sixteen_categories_share_an_embedding() -> None:
    assert network(15).label_embedding is None
    embedding = network(16).label_embedding
    assert embedding is not None
    assert embedding.weight.shape == (17, EMBEDDED_CHANNELS)


@pytest.mark.parametrize("labels", [2, 40])
def test_labels_may_enter_as_a_few_features_that_every_voxel_reaches(labels: int) -> None:
    torch.manual_seed(0)
    made = ResUNet(
        4, labels, (1, 4, 4), channels=(8, 16), blocks=1, groups=4, embedding=8, label_channels=3
    )
    assert made.conv_in.weight.shape[1] == 4 + 3
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t, known = torch.randn(1, 4, 2, 2, 2), torch.tensor([0.5]), torch.ones(1, labels)
    maps = torch.zeros(1, 2, 8, 8, dtype=torch.long)
    with torch.no_grad():
        base = made(x, t, maps, known)
        for place in ((0, 0, 0, 0), (0, 1, 7, 3), (0, 0, 2, 5)):
            other = maps.clone()
            other[place] = labels
            assert (made(x, t, other, known) - base).abs().max() > 1e-5


def test_every_voxel_of_the_label_map_reaches_the_network_at_its_own_place() -> None:
    made = network(factor=2)
    maps = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    maps[0, 3, 0, 1] = 2
    folded = made._label_channels(maps, torch.zeros(1)).view(1, 3, 2, 2, 2, 2, 2, 2)
    # [batch, category, offsets within the latent voxel, latent voxel]
    ones = (folded == 1).nonzero().tolist()
    labelled = [row for row in ones if row[1] == 2]
    assert labelled == [[0, 2, 1, 0, 1, 1, 0, 0]]
    assert len(ones) == 64


def test_the_prediction_depends_on_time_label_map_and_known_labels() -> None:
    made = network()
    x, maps = torch.randn(1, 8, 4, 4, 4), torch.zeros(1, 8, 8, 8, dtype=torch.long)
    other = maps.clone()
    other[0, 2, 2, 2] = 1
    with torch.no_grad():
        base = made(x, torch.tensor([0.5]), maps, torch.ones(1, 2))
        for changed in (
            made(x, torch.tensor([0.6]), maps, torch.ones(1, 2)),
            made(x, torch.tensor([0.5]), other, torch.ones(1, 2)),
            made(x, torch.tensor([0.5]), maps, torch.tensor([[1.0, 0.0]])),
        ):
            assert (changed - base).abs().max() > 1e-4


def test_voxels_outside_the_scan_do_not_count_in_the_loss() -> None:
    denoiser = Denoiser(network(), cosine, PARAMETERIZATIONS["v"])
    x0, noise = torch.randn(1, 8, 4, 4, 4), torch.randn(1, 8, 4, 4, 4)
    maps, annotated = torch.zeros(1, 8, 8, 8, dtype=torch.long), torch.ones(1, 2)
    valid = torch.zeros(1, 1, 4, 4, 4)
    valid[..., :2] = 1
    t = torch.tensor([0.3])
    with torch.no_grad():
        masked = denoiser.loss_sum(x0, maps, annotated, valid, t, noise)
        masked = masked / total_weight(valid, 8)
        alpha, sigma = cosine(t.double())
        prediction = denoiser.network((alpha * x0 + sigma * noise).float(), t, maps, annotated)
        target = alpha * noise - sigma * x0
        inside = (prediction - target)[..., :2].square().mean()
    assert masked.item() == pytest.approx(inside.item(), rel=1e-5)


def test_a_batch_with_nothing_valid_has_no_loss() -> None:
    denoiser = Denoiser(network(), cosine, PARAMETERIZATIONS["v"])
    x = torch.randn(1, 8, 4, 4, 4)
    nothing = torch.zeros(1, 1, 4, 4, 4)
    error = denoiser.loss_sum(
        x, torch.zeros(1, 8, 8, 8, dtype=torch.long), torch.ones(1, 2), nothing,
        torch.tensor([0.5]), torch.randn_like(x),
    )  # fmt: skip
    assert error.item() == total_weight(nothing, 8) == 0


def test_recomputed_activations_give_the_same_gradient() -> None:
    made = network().train()
    x, maps = torch.randn(2, 8, 4, 4, 4), torch.randint(0, 3, (2, 8, 8, 8))
    gradients = []
    for recompute in (False, True):
        made.recompute = recompute
        made.zero_grad()
        made(x, torch.tensor([0.2, 0.7]), maps, torch.ones(2, 2)).square().sum().backward()
        gradients.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(made.parameters()))
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)
