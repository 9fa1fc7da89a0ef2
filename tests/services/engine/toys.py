"""A toy network and jobs for it, for tests of the engine alone."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import torch

from services.diffusion.noise import draw_rows
from services.engine.batcher import Batcher
from services.engine.events import Event, Finished, Queued
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.phase import Network, Phase
from services.engine.stack import LATENT, Stack, State
from services.engine.stepper import Stepper
from tests.heldbatcher import HeldBatcher


class Clock:
    """Stands still but where a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ToyNetwork(Network):
    """Mixes inputs, timesteps and conditioning row by row; can be held at its door.

    Args:
        name: in the engine's counters.
        clock: is moved on by each forward.
        seconds: by so much.
    """

    def __init__(self, name: str = "toy", clock: Clock | None = None, seconds: float = 1.0) -> None:
        self.name = name
        self.clock, self.seconds = clock, seconds
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.fails = False

    def __call__(self, inputs, timesteps, conditioning):
        self.entered.set()
        assert self.open.wait(30)
        if self.fails:
            raise RuntimeError("toy failure")
        if self.clock is not None:
            self.clock.now += self.seconds
        return inputs * 0.9 + timesteps[:, None] * 0.01 + conditioning["embed"]


@dataclass(frozen=True)
class ToySteps(Stepper):
    """Means over each job's rows, plus noise; its callbacks may fail."""

    def inputs(self, stack: Stack) -> torch.Tensor:
        for phase, step in zip(stack.phases, stack.steps, strict=True):
            phase.on_inputs(step)
        return stack.latent

    def draw(self, stack: Stack) -> torch.Tensor:
        return draw_rows([job.generator for job in stack.members], stack.latent)

    def predict(self, stack: Stack, output: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.mean(0) for part in output.split(stack.counts)])

    def preview(self, stack, prediction, places):
        return [stack.phases[place].preview() for place in places]

    def advance(self, stack: Stack, prediction: torch.Tensor, noise: torch.Tensor | None) -> State:
        for phase, step in zip(stack.phases, stack.steps, strict=True):
            phase.on_step(step)
        return {LATENT: prediction + noise}


@dataclass(eq=False)
class ToyPhase(Phase):
    network: ToyNetwork
    steps: int
    rows: int = 1
    width: int = 4
    name: str = "toy"
    latent_area: int = 1
    on_inputs: Callable[[int], None] = lambda step: None
    on_step: Callable[[int], None] = lambda step: None
    stepper: Stepper = ToySteps()
    conditioning: dict[str, torch.Tensor] = field(init=False)
    timesteps: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.timesteps = [float(step) for step in range(self.steps, 0, -1)]
        self.conditioning = {"embed": torch.ones(self.rows, self.width)}

    def begin(self, value, generator):
        latent = torch.randn(1, self.width, generator=generator) if value is None else value
        return {LATENT: latent}

    def preview(self):
        return None


def toy_job(network: ToyNetwork, steps: int, seed: int = 0, **options) -> Job:
    name = options.pop("id", f"{steps} steps, seed {seed}")
    own = ("deadline", "tenant", "priority", "progress_every", "preview_every")
    given = {key: options.pop(key) for key in own if key in options}
    kind = options.pop("kind", ToyPhase)
    phases = [kind(network, steps, **options), ToyPhase(network, 1, name="last")]
    return Job(name, phases, torch.Generator().manual_seed(seed), **given)


@asynccontextmanager
async def engine(
    clock: Callable[[], float] = time.monotonic, **limits
) -> AsyncIterator[HeldBatcher]:
    batcher = HeldBatcher(EngineLimits(**limits), clock=clock)
    try:
        yield batcher
    finally:
        await asyncio.to_thread(batcher.close)


async def result(batcher: Batcher, job: Job) -> torch.Tensor:
    return await last_value(batcher.run(job))


async def last_value(events: AsyncIterator[Event]) -> torch.Tensor:
    *_, last = [event async for event in events]
    assert isinstance(last, Finished)
    return last.outputs["latents"]


async def submitted(batcher: Batcher, job: Job) -> asyncio.Task[torch.Tensor]:
    """The task of a job that is in the engine's queue by now."""
    events = batcher.run(job)
    assert isinstance(await anext(events), Queued)
    return asyncio.create_task(last_value(events))
