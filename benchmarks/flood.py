"""Ten times as many requests as the system can serve: what still gets done, what is refused."""

import asyncio
import os
import random
import time
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from rich.table import Table

from benchmarks.figures import percentile
from benchmarks.load import served_round
from benchmarks.messages import to_request
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import Picture, plain
from kandinsky import AsyncClient, KandinskyError
from kandinsky.cli.child import serving
from kandinsky.cli.health import wait_until_serving
from kandinsky.wire.errors import Reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES = 10
"""Requests that arrive, over those that can be served."""
PEAK_CONCURRENCY = 32
SEED = 5


@dataclass
class Flood:
    """What became of the requests, and of the server's memory."""

    seconds: float
    capacity: float
    """Pictures a second that the same server makes unflooded, with 32 requests open."""
    after: float = 0.0
    """As `capacity`, measured when the flood was over."""
    offered: int = 0
    done_at: list[float] = field(default_factory=list)
    """Seconds from the flood's start to each picture that was made."""
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
        """Pictures a second while the flood went on."""
        return sum(moment <= self.seconds for moment in self.done_at) / self.seconds

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
            f"Requests arrive at random moments for {self.seconds:g} s, {TIMES} times as many as "
            "the server makes pictures with 32 requests open, measured just before; nobody comes "
            "back after a refusal. Goodput counts the pictures that came while the flood went on."
            " Memory is what the server's processes hold resident, shared pages counted in each; "
            "clients and server share the machine's cores, so that the clients' own work is in "
            "every figure."
        )

    def content(self) -> dict[str, Any]:
        """The figures, and where they come from."""
        return {"rows": [self.figures()], "raw": asdict(self)}

    def plot(self, axes: "Axes") -> None:
        """Pictures a second and memory, over time."""
        width = self.seconds / 20
        bins = [width * place for place in range(21)]
        counts = [
            sum(low <= moment < low + width for moment in self.done_at) / width for low in bins[:-1]
        ]
        axes.bar(bins[:-1], counts, width, align="edge", color="steelblue", label="pictures")
        axes.axhline(self.capacity, linestyle="--", color="gray", label="unflooded")
        axes.set(xlabel="seconds", ylabel="images per second", title=f"{TIMES} times capacity")
        memory = axes.twinx()
        memory.plot(*zip(*self.memory, strict=True), color="firebrick", label="memory")
        memory.set(ylabel="GiB of the server")
        memory.set_ylim(bottom=0)
        axes.legend(loc="lower left")


def measure(setup: Setup, say: Say) -> Flood:
    """Measures the capacity, floods, and measures again."""
    entry = setup.entry
    pictures = plain(entry, 2 * PEAK_CONCURRENCY if setup.quick else 4 * PEAK_CONCURRENCY)
    with serving(entry.name, setup.server_options) as address:
        say("warming up")
        served_round(address, entry.name, pictures[:PEAK_CONCURRENCY], PEAK_CONCURRENCY)
        say("measuring the capacity")
        peak = served_round(address, entry.name, pictures, PEAK_CONCURRENCY).images_a_second
        flood = Flood(15.0 if setup.quick else 60.0, peak)
        say(f"flooding for {flood.seconds:g} s")
        asyncio.run(_flood(flood, address, entry.name, pictures))
        say("measuring the capacity again")
        flood.healthy = wait_until_serving(address, entry.name, lambda: True, 10)
        after = served_round(address, entry.name, pictures, PEAK_CONCURRENCY)
        flood.after = after.images_a_second
    return flood


async def _flood(flood: Flood, address: str, model: str, pictures: list[Picture]) -> None:
    draw = random.Random(SEED)
    begun = time.perf_counter()
    async with AsyncClient(address) as client, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(flood, begun))
        due = 0.0
        while due < flood.seconds:
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            picture = pictures[flood.offered % len(pictures)]
            flood.offered += 1
            tasks.create_task(_ask(flood, client, model, picture, begun))
            due += draw.expovariate(TIMES * flood.capacity)
        watching.cancel()


async def _ask(
    flood: Flood, client: AsyncClient, model: str, picture: Picture, begun: float
) -> None:
    asked = time.perf_counter()
    try:
        async for _ in client.stream(to_request(picture, model)):
            pass
    except KandinskyError as error:
        if error.reason is not Reason.OVERLOADED:
            flood.others.append(error.reason.value)
            return
        flood.refusals.append(time.perf_counter() - asked)
        if error.retry_after is not None:
            flood.retry_after.append(error.retry_after)
    else:
        flood.done_at.append(time.perf_counter() - begun)


async def _watch(flood: Flood, begun: float) -> None:
    while True:
        gib = await asyncio.to_thread(_memory)
        flood.memory.append((time.perf_counter() - begun, gib))
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
