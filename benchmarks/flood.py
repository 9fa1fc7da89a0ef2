"""Ten times as many requests as the system can serve: what still gets done, what is refused."""

import asyncio
import gc
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import psutil
from rich.table import Table

from benchmarks.figures import percentile
from benchmarks.messages import to_request
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask, plain
from kandinsky import AsyncClient, KandinskyError
from kandinsky.catalog.entry import CatalogEntry
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

Ask = Callable[[ImageTask], Awaitable[None]]


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
    def goodput(self) -> float:
        """Images a second while the flood went on."""
        return sum(0 <= moment <= self.seconds for moment in self.done_at) / self.seconds

    @property
    def done_at(self) -> list[float]:
        """Seconds from the flood's start to each image; before it they are negative."""
        return [moment - self.begun for moment in self.done]

    @property
    def growth(self) -> float:
        """Memory in the last fifth of the flood over that in the second."""
        fifth = self.seconds / 5
        early = [gib for moment, gib in self.memory if fifth <= moment < 2 * fifth]
        late = [gib for moment, gib in self.memory if 4 * fifth <= moment < self.seconds]
        return median(late) / median(early)

    def figures(self) -> dict[str, Any]:
        """All of them by name."""
        return {
            "capacity, images/s": self.capacity,
            "offered, requests/s": self.offered / self.seconds,
            "times capacity": self.offered / self.seconds / self.capacity,
            "goodput, images/s": self.goodput,
            "goodput of capacity": self.goodput / self.capacity,
            "goodput of both peaks": self.goodput / mean((self.capacity, self.after)),
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

    def table(self) -> Table:
        """A figure a row."""
        table = columns("Flood", ("figure", "value"))
        for name, value in self.figures().items():
            table.add_row(name, number(value, "d" if isinstance(value, int) else ".3f"))
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            f"With {PEAK_CONCURRENCY} requests open at any time the server is at its peak, which "
            f"is measured for {self.seconds:g} s. Then requests arrive at random moments for as "
            f"long, {TIMES} times as many as that, while those still open go on; nobody comes back "
            "after a refusal. Goodput counts the images that came while the flood went on. Both "
            "peaks: the mean of those before and after it, between which the machine's own speed "
            "drifts. Memory is what the server's processes hold resident, shared pages counted in "
            "each; clients and server share the machine's cores, so that the clients' own work is "
            "in every figure."
        )

    def content(self) -> dict[str, Any]:
        """The figures, and where they come from."""
        return {"rows": [self.figures()], "raw": asdict(self)}

    def plot(self, axes: "Axes") -> None:
        """Images a second and memory, over time."""
        width = self.seconds / 20
        bins = [width * place for place in range(21)]
        counts = [
            sum(low <= moment < low + width for moment in self.done_at) / width for low in bins[:-1]
        ]
        axes.bar(bins[:-1], counts, width, align="edge", color="steelblue", label="images")
        axes.axhline(self.capacity, linestyle="--", color="gray", label="unflooded")
        axes.set(xlabel="seconds", ylabel="images per second", title=f"{TIMES} times capacity")
        memory = axes.twinx()
        memory.plot(*zip(*self.memory, strict=True), color="firebrick", label="memory")
        memory.set(ylabel="GiB of the server")
        memory.set_ylim(bottom=0)
        axes.legend(loc="lower left")


def measure(setup: Setup, say: Say) -> Flood:
    """Fills the server to its peak, floods it, and fills it again."""
    flood = Flood(15.0 if setup.quick else 60.0)
    gc.freeze()  # else this process, which takes the times, pauses now and then for 0.1 s
    with serving(setup.entry.name, setup.server_options) as address:
        asyncio.run(_measure(flood, address, setup.entry, say))
    return flood


async def _measure(flood: Flood, address: str, entry: CatalogEntry, say: Say) -> None:
    tasks = itertools.cycle(plain(entry, IMAGES))
    async with AsyncClient(address) as client:
        ask = partial(_ask, flood, client, entry.name)
        say("measuring the peak")
        async with asyncio.TaskGroup() as group:
            async with _peak(group, ask, tasks):
                flood.capacity = await _rate(flood)
            say(f"flooding for {flood.seconds:g} s")
            await _flood(flood, group, ask, tasks)
        say("measuring the peak again")
        is_up = partial(wait_until_serving, address, entry.name, lambda: True, 10)
        flood.healthy = await asyncio.to_thread(is_up)
        async with asyncio.TaskGroup() as group, _peak(group, ask, tasks):
            flood.after = await _rate(flood)


@asynccontextmanager
async def _peak(
    group: asyncio.TaskGroup, ask: Ask, tasks: Iterator[ImageTask]
) -> AsyncIterator[None]:
    """Keeps as many requests open as make the most images; what is open at the end goes on."""
    is_over = False

    async def worker() -> None:
        while not is_over:
            await ask(next(tasks))

    for _ in range(PEAK_CONCURRENCY):
        group.create_task(worker())
    try:
        yield
    finally:
        is_over = True


async def _rate(flood: Flood) -> float:
    """Images a second, for as long as the flood is to last, once the first have come."""
    await asyncio.sleep(WARM_SECONDS)
    before = len(flood.done)
    await asyncio.sleep(flood.seconds)
    return (len(flood.done) - before) / flood.seconds


async def _flood(
    flood: Flood, group: asyncio.TaskGroup, ask: Ask, tasks: Iterator[ImageTask]
) -> None:
    draw = random.Random(SEED)
    flood.begun = time.perf_counter()
    watching = group.create_task(_watch(flood))
    due = 0.0
    while due < flood.seconds:
        await asyncio.sleep(max(0.0, flood.begun + due - time.perf_counter()))
        flood.offered += 1
        group.create_task(ask(next(tasks)))
        due += draw.expovariate(TIMES * flood.capacity)
    watching.cancel()


async def _ask(flood: Flood, client: AsyncClient, model: str, task: ImageTask) -> None:
    asked = time.perf_counter()
    try:
        async for _ in client.stream(to_request(task, model)):
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


async def _watch(flood: Flood) -> None:
    while True:
        gib = await asyncio.to_thread(_memory)
        flood.memory.append((time.perf_counter() - flood.begun, gib))
        await asyncio.sleep(2)


def _memory() -> float:
    """Resident GiB of this process's descendants: the server's."""
    total = 0
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 2**30
