"""One job's steps by its sampler, without an engine."""

from collections.abc import Mapping

import torch

from services.diffusion.noise import draw_rows
from services.engine.job import Job
from services.samplers.sampler import Sampler


def take_step(
    sampler: Sampler,
    state: Mapping[str, torch.Tensor],
    output: torch.Tensor,
    step: int,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """What the job carries after a step."""
    rows, latent = sampler.rows, state["latent"]
    at = rows.at([sampler], [step], [generator], latent)
    rows.scale_input(at, latent)
    drawing = generator if rows.draws(sampler, step) else None
    return rows.step(at, state, output, draw_rows([drawing], latent))


def take_job_step(job: Job, output: torch.Tensor | None = None) -> torch.Tensor:
    """Takes a job through a step as the engine does, alone.

    Args:
        job: begun.
        output: in place of its network's.

    Returns:
        Its prediction.
    """
    stack, phase = job.stack, job.phase
    inputs = stack.rows(phase.stepper.inputs(stack))
    if output is None:
        timesteps = torch.full((len(inputs),), phase.timesteps[job.step])
        output = phase.network(inputs, timesteps, stack.conditioning())
    noise = phase.stepper.draw(stack)
    prediction = phase.stepper.predict(stack, output)
    stack.state = phase.stepper.advance(stack, prediction, noise)
    job.step += 1
    return prediction
