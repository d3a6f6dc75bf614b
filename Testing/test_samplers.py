"""The samplers and schedules against closed forms.

For data drawn from N(m, s^2) the best estimate of x_0 is known exactly, so every sampler must
carry noise to that distribution; deterministic ones even sample by sample.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from MedDiffusionLib.compute.errors import Cancelled
from MedDiffusionLib.diffusion.denoiser import guide
from MedDiffusionLib.diffusion.parameterizations import PARAMETERIZATIONS
from MedDiffusionLib.diffusion.samplers import SAMPLERS
from MedDiffusionLib.diffusion.schedules import (
    Cosine,
    Discrete,
    Linear,
    Schedule,
    lambda_spaced_times,
)

cosine = Cosine()
CONTINUOUS = {"cosine": cosine, "linear": Linear()}

MEAN, DEVIATION = 0.4, 0.3


def gaussian_denoise(x: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, DEVIATION^2)."""
    alpha, sigma = cosine(t)
    gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
    return (MEAN + gain * (x - alpha * MEAN)).to(x.dtype)


def run(name: str, steps: int, count: int = 40_000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(count, generator=generator, dtype=torch.float64)

    start = noise()
    times = lambda_spaced_times(steps, cosine)
    return start, SAMPLERS[name](gaussian_denoise, start, times, cosine, noise, lambda n, x: None)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_mean_and_deviation_of_the_data(name: str) -> None:
    _, samples = run(name, 250)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert samples.std().item() == pytest.approx(DEVIATION, abs=0.02)


@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m"])
def test_deterministic_samplers_follow_the_flow_of_the_closed_form(name: str) -> None:
    # The probability flow of a Gaussian is linear: it maps quantile to quantile.
    start, samples = run(name, 500, count=100)
    torch.testing.assert_close(samples, MEAN + DEVIATION * start, rtol=0, atol=0.02)


def test_the_second_order_sampler_needs_fewer_steps_than_ddim() -> None:
    def error(sampler: str) -> float:
        start, samples = run(sampler, 10, count=1000)
        return float((samples - (MEAN + DEVIATION * start)).abs().mean())

    assert error("dpmpp-2m") < 0.75 * error("ddim")


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_step_reports_and_the_first_time_is_the_last_timestep(name: str) -> None:
    seen: list[int] = []
    times: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t))
        return gaussian_denoise(x, t)

    x = torch.randn(8, dtype=torch.float64)
    SAMPLERS[name](
        denoise, x, lambda_spaced_times(6, cosine), cosine, lambda: torch.randn_like(x),
        lambda n, x0: seen.append(n),
    )  # fmt: skip
    assert seen == [1, 2, 3, 4, 5, 6]
    assert times[0] == 1.0


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_callback_that_raises_ends_the_sampling(name: str) -> None:
    calls = 0

    def stop(n: int, x0: Tensor) -> None:
        nonlocal calls
        calls += 1
        raise Cancelled

    x = torch.randn(8, dtype=torch.float64)
    with pytest.raises(Cancelled):
        SAMPLERS[name](gaussian_denoise, x, lambda_spaced_times(6, cosine), cosine, lambda: x, stop)
    assert calls == 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_is_the_denoised_noise(name: str) -> None:
    start, samples = run(name, 1, count=10)
    torch.testing.assert_close(samples, gaussian_denoise(start, torch.tensor(1.0)).double())


@pytest.mark.parametrize("schedule", [*CONTINUOUS.values(), Discrete(250)])
def test_schedules_preserve_variance_and_lose_signal_with_time(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    assert (alpha.diff() < 0).all()
    assert alpha[0] > 0.999
    assert 0 < alpha[-1] < 0.01
    assert sigma[0] > 0


def test_the_cosine_schedule_is_half_signal_half_noise_at_half_time() -> None:
    alpha, sigma = cosine(torch.tensor(0.5, dtype=torch.float64))
    assert float(alpha) == pytest.approx(math.sqrt(0.5))
    assert float(sigma) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_a_perfect_prediction_recovers_the_data(name: str) -> None:
    x0, noise = torch.randn(2, 100, dtype=torch.float64).clamp(-1, 1)
    alpha, sigma = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    made = PARAMETERIZATIONS[name]
    target = made.target(x0, noise, alpha, sigma)
    torch.testing.assert_close(made.estimate(alpha * x0 + sigma * noise, target, alpha, sigma), x0)


def test_x0_as_v_counts_an_error_of_x0_as_the_error_of_v_that_it_is() -> None:
    x0, noise, wrong = torch.randn(3, 100, dtype=torch.float64)
    alpha, sigma = cosine(torch.tensor(0.3, dtype=torch.float64))
    xt = alpha * x0 + sigma * noise
    # The prediction of v whose estimate of x_0 is ``wrong``: x_0 = alpha x_t - sigma v.
    v = (alpha * xt - wrong) / sigma
    error = (v - PARAMETERIZATIONS["v"].target(x0, noise, alpha, sigma)).square()
    as_v = PARAMETERIZATIONS["x0-as-v"]
    weighted = (wrong - x0).square() * as_v.loss_weight(alpha, sigma)
    torch.testing.assert_close(weighted, error)


def test_the_weight_of_x0_as_v_stays_bounded_where_there_is_no_noise() -> None:
    alpha, sigma = cosine(torch.linspace(0, 1, 101, dtype=torch.float64))
    weight = PARAMETERIZATIONS["x0-as-v"].loss_weight(alpha, sigma)
    assert (weight.diff() <= 0).all()
    assert weight.max() <= 400


def test_guidance_of_one_is_the_conditional_estimate_and_two_goes_as_far_again() -> None:
    conditional, unconditional = torch.tensor(3.0), torch.tensor(1.0)
    assert guide(conditional, unconditional, 1.0) == 3
    assert guide(conditional, unconditional, 2.0) == 5
    assert guide(conditional, unconditional, 0.0) == 1


@pytest.mark.parametrize("schedule", CONTINUOUS.values(), ids=CONTINUOUS)
def test_times_run_from_one_to_zero_in_equal_steps_of_lambda(schedule: Schedule) -> None:
    times = lambda_spaced_times(8, schedule)
    assert times[[0, -1]].tolist() == [1.0, 0.0]
    assert (times.diff() < 0).all()
    alpha, sigma = schedule(times[1:-1])
    steps = (alpha / sigma).log().diff()
    torch.testing.assert_close(steps, torch.ones(6, dtype=torch.float64), rtol=1e-3, atol=0)


@pytest.mark.parametrize("start", [0.3, 0.75])
def test_a_later_start_goes_on_from_there_in_equal_steps_of_lambda(start: float) -> None:
    times = lambda_spaced_times(6, cosine, start)
    assert times[[0, -1]].tolist() == [start, 0.0]
    alpha, sigma = cosine(times[:-1])
    steps = (alpha / sigma).log().diff()
    torch.testing.assert_close(steps, steps[:1].expand(5), rtol=1e-2, atol=0)
    assert (steps > 0).all()
