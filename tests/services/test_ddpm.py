"""The formula of DDPM takes the steps of diffusers' scheduler, from the same draws."""

import itertools
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from services.samplers.ddpm import DDPM, PREDICTIONS, VARIANCES
from services.samplers.formulas import new_sampler
from services.samplers.sampler import Sampler

CLIPPINGS: tuple[dict[str, Any], ...] = (
    {"clip_sample": False},
    {"clip_sample": True, "clip_sample_range": 1.0},
    {"clip_sample": True, "clip_sample_range": 0.4},
)
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"steps_offset": 1},
    {"timestep_spacing": "trailing", "beta_schedule": "squaredcos_cap_v2"},
    {"timestep_spacing": "linspace", "beta_start": 0.00085, "beta_end": 0.012},
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: next(iter(each)))
def test_each_step_is_the_scheduler_s(
    dtype: torch.dtype, prediction: str, variance: str, schedule: dict[str, Any]
) -> None:
    draw = torch.Generator().manual_seed(1)
    for clipping, (steps, strength) in itertools.product(
        CLIPPINGS, [(1, 1.0), (7, 1.0), (20, 0.4)]
    ):
        config = {"prediction_type": prediction, "variance_type": variance, **clipping, **schedule}
        sampler = new_sampler(DDPMScheduler(**config), steps, strength)
        plain = DDPMScheduler(**config)
        plain.set_timesteps(steps)
        assert isinstance(sampler, DDPM)
        channels = 8 if sampler.reads_variance else 4
        latent = torch.randn(1, 4, 6, 5, generator=draw, dtype=dtype)
        generators = [torch.Generator().manual_seed(2) for _ in range(2)]
        for step, timestep in enumerate(sampler.timesteps):
            output = torch.randn(1, channels, 6, 5, generator=draw, dtype=dtype).clamp(-1, 1)
            actual = sampler.step(output, latent, step, generators[0])
            expected = plain.step(output, timestep, latent, generator=generators[1]).prev_sample
            assert actual.dtype == expected.dtype == dtype
            # In bfloat16 diffusers rounds the coefficients too.
            allowed = 0.02 * float(expected.abs().max()) if dtype == torch.bfloat16 else 0.0
            torch.testing.assert_close(actual, expected, rtol=0, atol=allowed)
            latent = expected
        assert generators[0].get_state().equal(generators[1].get_state())


def test_what_the_formula_does_not_say_is_left_to_the_scheduler() -> None:
    for config in ({"thresholding": True}, {"variance_type": "learned"}):
        sampler = new_sampler(DDPMScheduler(**config), 5)
        assert type(sampler) is Sampler


def test_an_image_start_takes_the_last_steps_of_the_formula() -> None:
    whole, part = (new_sampler(DDPMScheduler(), 10, strength) for strength in (1.0, 0.3))
    output, latent = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    for step in range(3):
        steps = (
            whole.step(output, latent, 7 + step, torch.Generator()),
            part.step(output, latent, step, torch.Generator()),
        )
        torch.testing.assert_close(*steps, rtol=0, atol=0)
