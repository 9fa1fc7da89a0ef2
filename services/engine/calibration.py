"""Calibration: the batch limits of this device, measured before the first request."""

import logging
import math
import time
from collections.abc import Iterator, Sequence

import torch

from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.phase import Phase, SplitNetwork
from services.engine.step_times import StepTimeEstimator

logger = logging.getLogger(__name__)

LEAST_ROWS, MOST_ROWS = 32, 128
"""Sixteen guided images share a step at the least, however busy the machine was."""
ROUNDS, ROUND_SECONDS = 5, 0.15
"""Forwards of each size, and the time after which no further one begins."""
CHOOSING_ROUNDS, CHOOSING_SECONDS = 40, 1.0
"""The same where one way to run a network is chosen for good."""
LONGEST_FORWARD = 1.0
"""Seconds: a step that takes longer would make cancels and newcomers wait too long."""
WARM_ROWS = (1, 2, 16)
"""One row is a graph of its own; another serves all others up to sixteen, where convolutions are
laid out otherwise."""
WORTH = 0.05
"""Share by which a row must become cheaper for a larger batch to be worth its longer steps."""


def calibrated_limits(
    limits: EngineLimits, phase: Phase, step_times: StepTimeEstimator
) -> EngineLimits:
    """The limits with what was left open measured: the least batch that is nearly the fastest.

    Args:
        limits: as configured.
        phase: such as requests of the usual size have; its rows are tried in growing numbers.
        step_times: records what is measured.
    """
    if limits.max_batch_rows is not None and limits.max_batch_latent_area is not None:
        return limits
    seconds = dict(_seconds_by_rows(phase, step_times))
    best = min(each / rows for rows, each in seconds.items())
    enough = min(rows for rows, each in seconds.items() if each / rows <= best * (1 + WORTH))
    rows = max(enough, min(LEAST_ROWS, max(seconds)))
    logger.info("calibration of %s: the batch takes %d rows at once", phase.network.name, rows)
    return limits.measured(rows, rows * phase.latent_area)


def warm_up(phases: Sequence[Phase]) -> None:
    """Run what torch.compile makes before the first request, which would else wait for it.

    Args:
        phases: such as requests of the usual size have.
    """
    with torch.inference_mode():
        for phase in phases:
            try:
                _warm_up(phase, _inputs(phase))
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()


def _warm_up(phase: Phase, inputs: torch.Tensor) -> None:
    of_a_row = 0.0
    for rows in WARM_ROWS:
        if of_a_row * rows > LONGEST_FORWARD:
            return
        _forward(phase, inputs, rows)  # compiles
        if phase.keeps_deep and isinstance(phase.network, SplitNetwork):
            given = _arguments(phase, inputs, rows)
            _, deep = phase.network.keeping(*given)
            phase.network.shallow(*given, deep)
        of_a_row = _forward(phase, inputs, rows) / rows


def forward_seconds(phase: Phase, rows: Sequence[int]) -> dict[int, float]:
    """Seconds of the fastest of some forwards, by the number of its rows.

    Args:
        phase: such as requests of the usual size have.
        rows: multiples of the phase's own.
    """
    with torch.inference_mode():
        inputs = _inputs(phase)
        for count in rows:  # the first is never like the others: some are compiled by it
            _forward(phase, inputs, count)
        return {
            count: _least(phase, inputs, count, CHOOSING_ROUNDS, CHOOSING_SECONDS) for count in rows
        }


def _inputs(phase: Phase) -> torch.Tensor:
    job = Job("calibration", [phase], torch.Generator("cpu").manual_seed(0))
    job.begin(0.0)
    return phase.stepper.inputs(job.stack)


def _seconds_by_rows(phase: Phase, step_times: StepTimeEstimator) -> Iterator[tuple[int, float]]:
    """Seconds of a forward by its number of rows, until more of them bring nothing twice over."""
    with torch.inference_mode():
        inputs = _inputs(phase)
        rows, best, in_vain = phase.rows, float("inf"), 0
        while rows <= LEAST_ROWS or (rows <= MOST_ROWS and in_vain < 2):
            try:
                _forward(phase, inputs, rows)  # the first of a size may compile
                seconds = _least(phase, inputs, rows)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                return
            if rows == phase.rows:
                step_times.record(phase, rows, seconds, is_warm=True)
            yield rows, seconds
            if seconds > LONGEST_FORWARD / 2:
                return
            in_vain = in_vain + 1 if seconds / rows > best * (1 - WORTH / 2) else 0
            best = min(best, seconds / rows)
            rows *= 2


def _least(
    phase: Phase,
    inputs: torch.Tensor,
    rows: int,
    rounds: int = ROUNDS,
    most_seconds: float = ROUND_SECONDS,
) -> float:
    """Seconds of the fastest of some forwards; of fewer where they take long."""
    found = [_forward(phase, inputs, rows)]
    while len(found) < rounds and sum(found) < most_seconds:
        found.append(_forward(phase, inputs, rows))
    return min(found)


def _arguments(
    phase: Phase, inputs: torch.Tensor, rows: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Of the network: inputs, timesteps and conditioning."""
    timesteps = torch.full((rows,), float(phase.timesteps[0]), device=inputs.device)
    conditioning = {name: _rows(tensor, rows) for name, tensor in phase.conditioning.items()}
    return _rows(inputs, rows), timesteps, conditioning


def _rows(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """So many, laid out as those of requests: torch.compile tells them from views."""
    return torch.cat([tensor] * math.ceil(rows / len(tensor)))[:rows]


def _forward(phase: Phase, inputs: torch.Tensor, rows: int) -> float:
    given = _arguments(phase, inputs, rows)
    if inputs.is_cuda:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    phase.network(*given)
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begun
