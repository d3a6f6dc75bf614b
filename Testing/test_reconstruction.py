"""The objective of a learned representation: its losses, its adversary, its alarms."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import TINY, tiny_manifest
from MedDiffusionLib.bundles.model import Model, build_model
from MedDiffusionLib.compute.distributed import Ranks
from MedDiffusionLib.compute.execution import Execution
from MedDiffusionLib.diffusion.representations import Autoencoder
from MedDiffusionLib.training.objectives.adversarial import (
    Discriminators,
    decoder_loss,
    discriminator_loss,
)
from MedDiffusionLib.training.objectives.losses import Losses
from MedDiffusionLib.training.objectives.reconstruction import Reconstruction, ReconstructionBatch

ALONE = Ranks()
PLAIN = Losses(adversarial=0)


def model(quantizer: dict[str, Any] | None = None) -> Model:
    torch.manual_seed(0)
    architecture = {
        **TINY["architecture"],
        "representation": {
            "name": "autoencoder", "factors": [2, 2, 2], "haar": 1, "channels": [4], "blocks": 1,
            "latent_channels": 2, "quantizer": quantizer or {"name": "none"}, "labels": True,
        },
    }  # fmt: skip
    return build_model(tiny_manifest(architecture=architecture))


def trained_by(objective: Reconstruction) -> Autoencoder:
    trained = objective.players[0].module
    assert isinstance(trained, Autoencoder)
    return trained


def batch(count: int = 2) -> ReconstructionBatch:
    random = torch.Generator().manual_seed(1)
    weight = torch.ones(count, 1, 16, 16, 16)
    weight[0, ..., 8:] = 0
    return ReconstructionBatch(
        torch.rand(count, 1, 16, 16, 16, generator=random) * 2 - 1,
        torch.randint(0, 3, (count, 16, 16, 16), generator=random).to(torch.int16),
        torch.ones(count, 2),
        weight,
        torch.randn(count, 2, 8, 8, 8, generator=random),
    )


def step(
    objective: Reconstruction, given: ReconstructionBatch, parts: int = 1, progress: float = 1.0
) -> dict[str, float]:
    """The players' losses of a step as a run takes it, and their gradients; nobody moves."""
    total, size = objective.weight(given), len(given) // parts
    objective.begin(progress)
    losses: dict[str, float] = {}
    for player in objective.players:
        player.module.zero_grad()
    for start in range(0, len(given), size):
        part = given.part(start, start + size)
        for player in objective.players:
            if progress >= player.starts_at:
                loss = objective.loss_sum(player.name, part) / total
                loss.backward(inputs=list(player.module.parameters()))
                losses[player.name] = losses.get(player.name, 0.0) + loss.item()
    objective.finish(ALONE)
    return losses


def gradients(objective: Reconstruction) -> list[Tensor]:
    return [
        parameter.grad.clone()
        for player in objective.players
        for parameter in player.module.parameters()
        if parameter.grad is not None
    ]


def test_the_loss_is_the_error_of_voxels_and_of_their_differences_where_it_counts() -> None:
    objective, given = Reconstruction(model({"name": "none", "penalty": 0.0}), PLAIN), batch()
    made, _ = trained_by(objective).reconstruct(
        given.images, given.labels, given.annotated, given.noise
    )
    error = made - given.images
    counted = [error[0, ..., :8], error[1]]
    absolute = sum(part.abs().sum().item() for part in counted)
    apart = sum(part.diff(dim=axis).abs().sum().item() for part in counted for axis in (-3, -2, -1))
    expected = (absolute + apart / 3) / (8 * 256 + 4096)
    assert step(objective, given)["representation"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("quantizer", [{"name": "none"}, {"name": "vq", "codes": 8}])
def test_a_step_in_parts_gives_the_same_losses_gradients_and_buffers(
    quantizer: dict[str, Any],
) -> None:
    results = []
    for parts in (1, 2):
        objective = Reconstruction(model(quantizer), Losses(adversarial_start=0.5))
        torch.manual_seed(3)
        for parameter in objective.players[1].module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        step(objective, batch(), parts)
        losses = step(objective, batch(), parts)
        states = [player.module.state_dict() for player in objective.players]
        results.append((losses, gradients(objective), states))
    (losses, grads, states), (losses2, grads2, states2) = results
    assert losses2 == pytest.approx(losses, rel=1e-4)
    assert len(grads) == len(grads2) > 40
    for a, b in zip(grads, grads2, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(states, states2, rtol=1e-4, atol=1e-5)


def test_the_adversary_comes_late_and_grows_from_nothing() -> None:
    objective = Reconstruction(model(), Losses(adversarial_start=0.5))
    assert "discriminators" not in step(objective, batch(), progress=0.4)
    assert "balance" not in objective.figures()
    plain = Reconstruction(model(), PLAIN)
    step(plain, batch())
    step(objective, batch(), progress=0.6)
    for a, b in zip(gradients(plain), gradients(objective), strict=False):
        torch.testing.assert_close(a, b)
    first = objective.figures()["balance"]
    step(objective, batch(), progress=0.6)
    assert objective.figures()["balance"] > first > 0


def test_the_adversarys_gradient_is_that_of_its_loss_and_weighed_by_the_last_layer() -> None:
    losses = Losses(gradient=0, adversarial=0.5, adversarial_start=0)
    objective, given = Reconstruction(model({"name": "none", "penalty": 0.0}), losses), batch()
    representation, judges = trained_by(objective), objective.players[1].module
    assert isinstance(judges, Discriminators)
    judges.balance.fill_(3.0)
    step(objective, given)
    found = [p.grad.clone() for p in representation.parameters() if p.grad is not None]

    representation.zero_grad()
    made, _ = representation.reconstruct(given.images, given.labels, given.annotated, given.noise)
    shown = given.weight * made.clamp(-1, 1) + (1 - given.weight) * given.images
    own = decoder_loss(judges(given.images), judges(shown), losses.feature_matching).sum() * 4096
    others = ((made - given.images).abs() * given.weight).sum()
    layer = representation.get_parameter("decoder.conv_out.weight")
    norms = [torch.autograd.grad(p, layer, retain_graph=True)[0].norm() for p in (others, own)]
    # It was 3, and a hundredth of this step's came in.
    expected = 3.0 + 0.01 * (norms[0] / norms[1] - 3.0).item()
    assert judges.balance.item() == pytest.approx(expected, rel=1e-4)
    ((others + 0.5 * 3.0 * own) / objective.weight(given)).backward(
        inputs=list(representation.parameters())
    )
    for parameter, gradient in zip(representation.parameters(), found, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_all_that_is_trained_goes_into_the_memory_format_of_the_device() -> None:
    execution = Execution(torch.device("cpu"), bf16=True, channels_last=True)
    objective = Reconstruction(model(), Losses(adversarial_start=0.0))
    for player in objective.players:
        execution.prepare(player.module)
    with execution.autocast():
        assert all(value == value for value in step(objective, batch()).values())


def test_discriminators_learn_to_tell_texture_from_blur() -> None:
    torch.manual_seed(0)
    judges = Discriminators(1)
    optimizer = torch.optim.Adam(judges.parameters(), 1e-3)
    for _ in range(15):
        real = torch.rand(2, 1, 16, 16, 16) * 2 - 1
        blurred = torch.nn.functional.avg_pool3d(real, 3, 1, 1)
        loss = discriminator_loss(judges(real), judges(blurred)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Guessing has 2.
    assert loss.item() < 0.5
    assert decoder_loss(judges(real), judges(blurred), 0.0).mean() > 0
    assert decoder_loss(judges(real), judges(real), 1.0).mean() < 0


@pytest.mark.parametrize("quantizer", [{"name": "none"}, {"name": "vq", "codes": 8}])
@pytest.mark.parametrize("place", ["encoder.conv_in.bias", "decoder.conv_out.bias"])
def test_a_nan_shows_in_the_loss(quantizer: dict[str, Any], place: str) -> None:
    objective = Reconstruction(model(quantizer), Losses(adversarial_start=0.0))
    with torch.no_grad():
        trained_by(objective).get_parameter(place)[0] = torch.nan
    losses = step(objective, batch())
    assert all(value != value for value in losses.values())


@pytest.mark.parametrize(
    "quantizer",
    [
        {"name": "none", "noise": 10},
        {"name": "vq", "codes": 32},
        {"name": "fsq", "levels": [8, 8]},
    ],
)
def test_a_collapsed_latent_raises_an_alarm_and_a_lively_one_none(
    quantizer: dict[str, Any],
) -> None:
    for collapsed in (True, False):
        objective = Reconstruction(model(quantizer), PLAIN)
        trained = trained_by(objective)
        torch.nn.init.normal_(trained.encoder.conv_out.weight, std=0.0 if collapsed else 5.0)
        for number in range(3):
            trained.quantizer.steps.fill_(300 + number)
            trained.quantizer._KEPT = 0.0
            step(objective, batch())
        alarms = objective.alarms()
        assert len(alarms) == collapsed
        assert not collapsed or "The latent has collapsed" in alarms[0]


def test_a_model_without_a_learned_representation_is_not_trained_so() -> None:
    with pytest.raises(TypeError, match="learned"):
        Reconstruction(build_model(tiny_manifest(architecture=copy.deepcopy(TINY["architecture"]))))
