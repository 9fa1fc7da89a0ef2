"""The engine's own steps on fake CUDA tensors, with every operation counted.

Fake tensors have shapes and devices and no data: a read of the device's data raises, so a loop that
runs on them makes none. All of the engine but its networks is what production runs.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from services.diffusion.denoising import Denoise
from services.diffusion.guidance import Guidance
from services.engine.batcher import Batcher
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.phase import Network
from services.samplers.samplers import new_sampler
from services.samplers.schedulers import new_scheduler

SHAPE = (4, 96, 96)
WIDTH = 1280
STEPS = 50
SETTLED, COUNTED = 3, 4
"""Steps after which nothing is stacked any more, and steps that are counted then."""


@dataclass
class Operations:
    """Of one step."""

    device: Counter[str] = field(default_factory=Counter)
    """On tensors of the device, views included; copies to it too."""
    host: Counter[str] = field(default_factory=Counter)
    """On tensors of the host alone: noise and its staging."""
    to_host: Counter[str] = field(default_factory=Counter)
    """Copies from the device, and reads."""


class Counting(TorchDispatchMode):
    """Counts what this thread dispatches, but for what a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Operations()
        self.is_inside = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        kwargs.pop("pin_memory", None)  # which a machine without the device cannot do
        for leaf in pytree.tree_leaves(args):
            if isinstance(leaf, FakeTensor):
                leaf.constant = None  # else small ones are computed, on a device that is not there
        found = func(*args, **kwargs)
        if not self.is_inside:
            given, made = _devices((args, kwargs)), _devices(found)
            if "cuda" in given and made and "cuda" not in made:
                self.now.to_host[str(func)] += 1
            kind = self.now.device if "cuda" in given | made else self.now.host
            kind[str(func)] += 1
        return found


def _devices(tree: Any) -> set[str]:
    leaves = pytree.tree_leaves(tree)
    return {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}


class Empty(Network):
    """Answers with tensors of the right shape."""

    name = "unet"

    def __init__(self, counting: Counting, channels: int) -> None:
        self._counting, self._channels = counting, channels

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        self._counting.is_inside = True
        shape = (len(inputs), self._channels, *inputs.shape[2:])
        output = torch.empty(shape, dtype=inputs.dtype, device=inputs.device)
        self._counting.is_inside = False
        return output


class CountedBatcher(Batcher):
    """An engine on fake tensors; holds still once enough steps are counted."""

    def __init__(self, limits: EngineLimits, fake: FakeTensorMode, counting: Counting) -> None:
        self._fake, self._counting = fake, counting
        self.operations: list[Operations] = []
        self.is_counted = threading.Event()
        super().__init__(limits, nice=0)

    def _loop(self, nice: int) -> None:
        with self._fake, self._counting:
            super()._loop(nice)

    def _step(self) -> None:
        if self.is_counted.is_set():
            self._running = []
            return
        self._counting.now = Operations()
        super()._step()
        self.operations.append(self._counting.now)
        if len(self.operations) >= SETTLED + COUNTED:
            self.is_counted.set()


def operations(
    jobs: int, schedulers: Sequence[str], config: Mapping[str, Any] | None = None
) -> Operations:
    """Of the step of a group that has settled: the most of some steps.

    Args:
        jobs: of the group; each its own step count.
        schedulers: names that the jobs take in turn; `unclip` for the prior's.
        config: of the scheduler that they are made from.

    Raises:
        RuntimeError: the engine stopped: something read the device's data.
    """
    return asyncio.run(_operations(jobs, schedulers, config or {}))


async def _operations(
    jobs: int, schedulers: Sequence[str], config: Mapping[str, Any]
) -> Operations:
    fake, counting = FakeTensorMode(), Counting()
    network = Empty(counting, 2 * SHAPE[0])
    limits = EngineLimits(max_batch_rows=2 * jobs, max_batch_latent_area=2 * jobs * 96**2)
    with fake:
        embeds = torch.empty(2, WIDTH, device="cuda", dtype=torch.bfloat16)
    made = [
        _job(place, network, schedulers[place % len(schedulers)], config, embeds)
        for place in range(jobs)
    ]
    batcher = CountedBatcher(limits, fake, counting)
    with batcher._wake:  # all of them begin in one step
        tasks = [asyncio.create_task(_drain(batcher, job)) for job in made]
        await asyncio.sleep(0)
    failures = asyncio.gather(*tasks)
    counted = asyncio.create_task(asyncio.to_thread(batcher.is_counted.wait))
    await asyncio.wait([failures, counted], return_when=asyncio.FIRST_COMPLETED)
    if not counted.done():
        batcher.is_counted.set()
        raise RuntimeError("the engine stopped") from failures.exception()
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await failures
    await asyncio.to_thread(batcher.close)
    return max(batcher.operations[SETTLED:], key=lambda one: one.device.total())


async def _drain(batcher: Batcher, job: Job) -> None:
    async for _ in batcher.run(job):
        pass


def _job(
    place: int, network: Network, scheduler: str, config: Mapping[str, Any], embeds: torch.Tensor
) -> Job:
    base = (
        diffusers.UnCLIPScheduler(prediction_type="epsilon", variance_type="fixed_small_log")
        if scheduler == "unclip"
        else new_scheduler(diffusers.DDPMScheduler(**config), scheduler)
    )
    phase = Denoise(
        network,
        new_sampler(base, STEPS + place),
        Guidance(4.0 + place),
        SHAPE,
        {"image_embed": embeds},
    )
    return Job(f"{scheduler} {place}", [phase], torch.Generator().manual_seed(place))
