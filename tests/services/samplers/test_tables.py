"""Every sampler's table takes the steps of diffusers' scheduler, from equal latents and draws."""

import itertools
from collections.abc import Iterator
from typing import Any

import diffusers
import pytest
import torch

from services.samplers.samplers import TABLES, new_sampler
from services.samplers.scheduler_sampler import SchedulerSampler
from services.samplers.table_sampler import TableSampler
from tests.services.stepping import take_step

RUNS = [(1, 1.0), (2, 1.0), (7, 1.0), (20, 0.4), (16, 0.9)]
"""Steps and strength."""
SCHEDULES: tuple[dict[str, Any], ...] = (
    {"beta_schedule": "scaled_linear"},
    {"timestep_spacing": "trailing", "beta_start": 0.00085, "beta_end": 0.012},
    {"timestep_spacing": "linspace", "beta_schedule": "squaredcos_cap_v2"},
)
OFFSET = {"steps_offset": 1}
THRESHOLDING = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}
BOUNDS = (
    {"clip_sample": False},
    {"clip_sample": True, "clip_sample_range": 0.4},
    {"clip_sample": False, **THRESHOLDING},
    {"clip_sample": False, **THRESHOLDING, "sample_max_value": None},
)
KINDS = ("epsilon", "sample", "v_prediction")


def product(**choices: Any) -> Iterator[dict[str, Any]]:
    for chosen in itertools.product(*choices.values()):
        yield dict(zip(choices, chosen, strict=True))


def grid() -> Iterator[tuple[str, dict[str, Any], float | None]]:
    """A class, a configuration and an eta."""
    for schedule, kind, bounds in itertools.product((*SCHEDULES, OFFSET), KINDS, BOUNDS):
        config = {"prediction_type": kind, **schedule, **bounds}
        for variance in ("fixed_small", "fixed_small_log", "fixed_large", "learned_range"):
            yield "DDPMScheduler", {**config, "variance_type": variance}, None
        for eta, to_one in ((None, True), (0.5, False), (1.0, True)):
            yield "DDIMScheduler", {**config, "set_alpha_to_one": to_one}, eta
    for config in product(
        variance_type=("fixed_small_log", "learned_range"),
        prediction_type=("epsilon", "sample"),
        clip_sample=(True, False),
        clip_sample_range=(1.0, 5.0),
    ):
        yield "UnCLIPScheduler", config, None
    for schedule, config in itertools.product(
        SCHEDULES,
        product(
            prediction_type=KINDS,
            solver_order=(1, 2),
            solver_type=("midpoint", "heun"),
            final_sigmas_type=("zero", "sigma_min"),
            lower_order_final=(True, False),
        ),
    ):
        yield "DPMSolverMultistepScheduler", {**schedule, **config}, None
    dpm = "DPMSolverMultistepScheduler"
    yield dpm, {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, None
    yield dpm, dict(THRESHOLDING), None
    yield dpm, {"use_karras_sigmas": True}, None
    for schedule, kind in itertools.product(SCHEDULES, ("epsilon", "v_prediction")):
        config = {"prediction_type": kind, **schedule}
        yield "EulerDiscreteScheduler", config, None
        yield "EulerAncestralDiscreteScheduler", config, None
    yield "EulerDiscreteScheduler", {"use_karras_sigmas": True}, None


GRID = list(grid())
IN_FLOAT32 = {"DPMSolverMultistepScheduler", "EulerDiscreteScheduler"} | {
    "EulerAncestralDiscreteScheduler"
}
"""Classes that compute in float32 whatever the latent is."""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", TABLES)
def test_each_step_is_the_scheduler_s(name: str, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    single, compared = name in IN_FLOAT32, 0
    for _, config, eta in [each for each in GRID if each[0] == name]:
        for steps, strength in RUNS:
            if name == "UnCLIPScheduler" and steps == 1:
                continue  # it has no single step
            cls = getattr(diffusers, name)
            sampler = new_sampler(cls(**config), steps, strength, eta)
            assert isinstance(sampler, TableSampler), config
            plain = SchedulerSampler(cls(**config), steps, strength, eta)
            assert sampler.timesteps.equal(plain.timesteps)
            clean, noise = torch.randn(2, 1, 4, 6, 5, generator=draw, dtype=dtype)
            started = sampler.add_noise(clean, noise)
            expected = plain.add_noise(clean, noise)
            close(started, expected, dtype, float(expected.abs().max()))
            states = [one.rows.begun(started) for one in (sampler, plain)]
            generators = [torch.Generator().manual_seed(2) for _ in states]
            channels = 8 if sampler.reads_variance else 4
            for step in range(len(sampler.timesteps)):
                most = float(states[1]["latent"].abs().max())
                output = torch.randn(1, channels, 6, 5, generator=draw, dtype=dtype).clamp(-1, 1)
                states = [
                    take_step(one, state, output, step, generator)
                    for one, state, generator in zip(
                        (sampler, plain), states, generators, strict=True
                    )
                ]
                if states[1]["latent"].isnan().any():  # of Heun's at a step of no length
                    assert states[0]["latent"].isfinite().all()
                    break
                close(states[0]["latent"], states[1]["latent"], dtype, most if single else 0.0)
                states[0]["latent"] = states[1]["latent"]
                compared += 1
    assert compared > 100


def close(
    actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, largest: float = 0.0
) -> None:
    """To 1e-6 in float64, or of the largest value where that is given."""
    assert actual.dtype == dtype
    most = max(float(expected.abs().max()), largest)
    allowed = {
        torch.float64: 1e-6 * max(most, 1.0) if largest else 1e-6,
        torch.float32: 2e-5 * max(most, 1.0),
        torch.bfloat16: 0.03 * max(most, 1.0),  # diffusers rounds every product to it
    }[dtype]
    torch.testing.assert_close(actual, expected.to(dtype), rtol=0, atol=allowed)


def test_what_no_formula_says_is_left_to_the_scheduler() -> None:
    for scheduler in (
        diffusers.DDPMScheduler(variance_type="learned"),
        diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        diffusers.DPMSolverMultistepScheduler(solver_order=3),
        diffusers.HeunDiscreteScheduler(),
    ):
        assert isinstance(new_sampler(scheduler, 5), SchedulerSampler)


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_any_steps_and_settings_step_as_alone(name: str) -> None:
    """Of one formula: jobs of different step counts, at different steps."""
    draw = torch.Generator().manual_seed(3)
    cls = getattr(diffusers, name)
    config = next(config for each, config, _ in GRID if each == name)
    samplers = [new_sampler(cls(**config), steps) for steps in (5, 9, 30)]
    steps = [4, 0, 17]
    assert len({sampler.rows for sampler in samplers}) == 1
    channels = 8 if samplers[0].reads_variance else 4
    latent = torch.randn(3, 4, 6, 5, generator=draw, dtype=torch.float64)
    output = torch.randn(3, channels, 6, 5, generator=draw, dtype=torch.float64)
    noise = torch.randn(3, 4, 6, 5, generator=draw, dtype=torch.float64)
    rows = samplers[0].rows
    at = rows.at(samplers, steps, [], latent)
    state = rows.begun(latent)
    together = rows.step(at, state, output, noise)["latent"]
    for place, (sampler, step) in enumerate(zip(samplers, steps, strict=True)):
        own = slice(place, place + 1)
        alone_at = rows.at([sampler], [step], [], latent[own])
        alone = rows.step(alone_at, rows.begun(latent[own]), output[own], noise[own])["latent"]
        torch.testing.assert_close(together[own], alone, rtol=0, atol=1e-12)
