"""Ten times as many requests as the system can serve: what still gets done, what is refused."""

import asyncio
import gc
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.figures import percentile
from benchmarks.report import Report, figures
from benchmarks.setup import Say, Setup
from benchmarks.workload import plain, to_request
from kandinsky import AsyncClient, KandinskyError
from kandinsky.wire.errors import Reason
from services.local.child import serving
from services.local.health import wait_until_serving

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES = 10
"""Requests that arrive, over those that can be served."""
PEAK_CONCURRENCY = 32
WARM_SECONDS = 15.0
"""From when requests are open until images come at the rate of the peak."""
IMAGES = 128
"""Different ones."""
SEED = 5


@dataclass
class Flood:
    """What became of the requests, and of the server's memory."""

    seconds: float
    capacity: float = 0.0
    """Images a second that the same server makes unflooded, with 32 requests open."""
    after: float = 0.0
    """As `capacity`, measured when the flood was over."""
    begun: float = 0.0
    """When the flood began, on `time.perf_counter`'s clock."""
    done: list[float] = field(default_factory=list)
    """When each image came, on that clock: before, during and after the flood."""
    offered: int = 0
    refusals: list[float] = field(default_factory=list)
    """Seconds that each refusal took to arrive."""
    retry_after: list[float] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Answers that were neither."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the flood's start, and GiB of all server processes."""
    healthy: bool = False

    @property
    def done_at(self) -> list[float]:
        """Seconds from the flood's start to each image; before it they are negative."""
        return [moment - self.begun for moment in self.done]

    @property
    def growth(self) -> float:
        """Memory in the last fifth of the flood over that in the second."""
        fifths: list[list[float]] = [[] for _ in range(5)]
        for moment, gib in self.memory:
            fifths[min(4, int(5 * moment / self.seconds))].append(gib)
        return median(fifths[4]) / median(fifths[1])

    def figures(self) -> dict[str, Any]:
        """All of them by name."""
        goodput = sum(0 <= moment <= self.seconds for moment in self.done_at) / self.seconds
        return {
            "capacity, images/s": self.capacity,
            "offered, requests/s": self.offered / self.seconds,
            "times capacity": self.offered / self.seconds / self.capacity,
            "goodput, images/s": goodput,
            "goodput of capacity": goodput / self.capacity,
            "goodput of both peaks": goodput / mean((self.capacity, self.after)),
            "refused": len(self.refusals),
            "refused with a time to come back": len(self.retry_after),
            "time to come back, s, median": median(self.retry_after),
            "refusal, s, median": median(self.refusals),
            "refusal, s, p99": percentile(self.refusals, 0.99),
            "refusals within 50 ms": sum(one <= 0.05 for one in self.refusals) / len(self.refusals),
            "neither done nor refused": len(self.others),
            "memory at the end over that at the start": self.growth,
            "healthy after": int(self.healthy),
            "throughput after, of before": self.after / self.capacity,
        }

    def plot(self, axes: "Axes") -> None:
        """Images a second and memory, over time."""
        width = self.seconds / 20
        bins = [width * place for place in range(21)]
        at = [moment for moment in self.done_at if 0 <= moment <= self.seconds]
        axes.hist(at, bins, weights=[1 / width] * len(at), color="steelblue")
        axes.axhline(self.capacity, linestyle="--", color="gray", label="unflooded")
        axes.set(xlabel="seconds", ylabel="images per second")
        memory = axes.twinx()
        memory.plot(*zip(*self.memory, strict=True), color="firebrick")
        memory.set(ylabel="GiB of the server", ylim=(0, None))
        axes.legend(loc="lower left")


def measure(setup: Setup, say: Say) -> Report:
    """Fills the server to its peak, floods it, and fills it again."""
    flood = Flood(15.0 if setup.quick else 60.0)
    gc.freeze()  # else this process, which takes the times, pauses now and then for 0.1 s
    with serving(setup.entry.name, setup.server_options) as address:
        asyncio.run(Flooding(setup, flood, say).run(address))
    return Report(
        title=f"Flood: {TIMES} times capacity",
        rows=figures(flood.figures()),
        note=(
            f"With {PEAK_CONCURRENCY} requests open at any time the server is at its peak, which "
            f"is measured for {flood.seconds:g} s. Then requests arrive at random moments for as "
            f"long, {TIMES} times as many as that, while those still open go on; nobody comes back "
            "after a refusal. Goodput counts the images that came while the flood went on. Both "
            "peaks: the mean of those before and after it, between which the machine's own speed "
            "drifts. Memory is what the server's processes hold resident, shared pages counted in "
            "each; clients and server share the machine's cores, so that the clients' own work is "
            "in every figure."
        ),
        plot=flood.plot,
        raw=asdict(flood),
    )


class Flooding:
    """The requests, before, during and after."""

    def __init__(self, setup: Setup, flood: Flood, say: Say) -> None:
        self._model, self._flood, self._say = setup.entry.name, flood, say
        self._tasks = itertools.cycle(plain(setup.entry, IMAGES))

    async def run(self, address: str) -> None:
        """Fills in the Flood."""
        flood = self._flood
        async with AsyncClient(address) as self._client:
            self._say("measuring the peak")
            async with asyncio.TaskGroup() as group:
                async with self._peak(group):
                    flood.capacity = await self._rate()
                self._say(f"flooding for {flood.seconds:g} s")
                await self._arrive(group)
            self._say("measuring the peak again")
            is_up = partial(wait_until_serving, address, self._model, lambda: True, 10)
            flood.healthy = await asyncio.to_thread(is_up)
            async with asyncio.TaskGroup() as group, self._peak(group):
                flood.after = await self._rate()

    @asynccontextmanager
    async def _peak(self, group: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Keeps as many requests open as make the most images; what is open at the end goes on."""
        is_over = False

        async def worker() -> None:
            while not is_over:
                await self._ask()

        for _ in range(PEAK_CONCURRENCY):
            group.create_task(worker())
        try:
            yield
        finally:
            is_over = True

    async def _rate(self) -> float:
        """Images a second, for as long as the flood is to last, once the first have come."""
        await asyncio.sleep(WARM_SECONDS)
        before = len(self._flood.done)
        await asyncio.sleep(self._flood.seconds)
        return (len(self._flood.done) - before) / self._flood.seconds

    async def _arrive(self, group: asyncio.TaskGroup) -> None:
        flood, draw, due = self._flood, random.Random(SEED), 0.0
        flood.begun = time.perf_counter()
        watching = group.create_task(self._watch())
        while due < flood.seconds:
            await asyncio.sleep(max(0.0, flood.begun + due - time.perf_counter()))
            flood.offered += 1
            group.create_task(self._ask())
            due += draw.expovariate(TIMES * flood.capacity)
        watching.cancel()

    async def _ask(self) -> None:
        flood, asked = self._flood, time.perf_counter()
        try:
            async for _ in self._client.stream(to_request(next(self._tasks), self._model)):
                pass
        except KandinskyError as error:
            if error.reason is not Reason.OVERLOADED:
                flood.others.append(error.reason.value)
                return
            flood.refusals.append(time.perf_counter() - asked)
            if error.retry_after is not None:
                flood.retry_after.append(error.retry_after)
        else:
            flood.done.append(time.perf_counter())

    async def _watch(self) -> None:
        while True:
            gib = await asyncio.to_thread(_server_gib)
            self._flood.memory.append((time.perf_counter() - self._flood.begun, gib))
            await asyncio.sleep(2)


def _server_gib() -> float:
    """Resident GiB of this process's descendants: the server's."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 2**30
