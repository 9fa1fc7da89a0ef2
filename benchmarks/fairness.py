"""What one tenant's flood costs another's single request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.engines import engines
from benchmarks.figures import Round, latency_ratio, median_latency, percentile
from benchmarks.load import closed_loop, made
from benchmarks.messages import to_request
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask, plain
from kandinsky import AsyncClient, Generated
from kandinsky.catalog.family import Stage
from services.local.child import serving
from services.local.preflight import check_port

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUEUED = 64


@dataclass(frozen=True)
class Fairness:
    """Latency of a tenant's single requests, by what another tenant does."""

    rounds: dict[str, list[Round]]
    capacity: int
    """Guided images that the decoder's batch holds."""

    @property
    def baseline(self) -> str:
        """The batch is full, and nothing is queued."""
        return list(self.rounds)[1]

    def rows(self) -> list[dict[str, Any]]:
        """One for each thing that the other tenant does."""
        found = []
        for name, rounds in self.rounds.items():
            latencies = [latency for one in rounds for latency in one.latencies]
            found.append(
                {
                    "the other tenant": name,
                    "p50": median_latency(rounds),
                    "p95": percentile(latencies, 0.95),
                    "ratio": latency_ratio(rounds, self.rounds[self.baseline]),
                }
            )
        return found

    def table(self) -> Table:
        """A row for each thing that the other tenant does."""
        names = ("the other tenant", "p50, s", "p95, s", "times a full batch")
        table = columns("Fairness: a tenant's single requests", names)
        for row in self.rows():
            figures = (number(row[key], ".3f") for key in ("p50", "p95"))
            table.add_row(row["the other tenant"], *figures, number(row["ratio"]))
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            f"The decoder's batch holds {self.capacity} guided images, by its calibration at "
            "start-up. A full batch: another tenant keeps as many requests open. A flood: it keeps "
            f"{QUEUED} more. The single requests come one at a time; ratios are medians over "
            "interleaved rounds."
        )

    def content(self) -> dict[str, Any]:
        """The rows and their rounds."""
        raw = {
            name: [{"seconds": one.seconds, "latencies": one.latencies} for one in rounds]
            for name, rounds in self.rounds.items()
        }
        return {"rows": self.rows(), "raw": raw, "capacity": self.capacity}

    def plot(self, axes: "Axes") -> None:
        """A bar for each."""
        rows = self.rows()[::-1]
        axes.barh([row["the other tenant"] for row in rows], [row["p50"] for row in rows])
        axes.set(xlabel="seconds an image, median", title="A tenant's single request")


def measure(setup: Setup, say: Say) -> Fairness:
    """A tenant's single requests beside another tenant's load."""
    port = check_port("127.0.0.1", 0)
    options = ["--stages-port", str(port), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        return asyncio.run(_measure(setup, address, f"127.0.0.1:{port}", say))


async def _measure(setup: Setup, address: str, stages: str, say: Say) -> Fairness:
    async with engines(stages, setup.entry) as found:
        capacity = (await found[Stage.DECODER].stats()).max_batch_rows // 2
    loads = {"is away": 0, "fills the batch": capacity, "floods": capacity + QUEUED}
    rounds: dict[str, list[Round]] = {name: [] for name in loads}
    singles = plain(setup.entry, 2 if setup.quick else 4)
    async with AsyncClient(address, tenant="single") as client:
        for number_ in range(2 if setup.quick else 3):
            for name, open_ in loads.items():
                say(f"round {number_ + 1}: the other tenant {name}")
                async with _load(setup, address, open_):

                    async def ask(task: ImageTask) -> Any:
                        return await _draw(client, setup, task)

                    rounds[name].append(await closed_loop(singles, 1, ask))
    return Fairness(rounds, capacity)


@asynccontextmanager
async def _load(setup: Setup, address: str, open_: int) -> AsyncIterator[None]:
    """Another tenant keeps so many requests open."""
    tasks = plain(setup.entry, max(open_, 1))
    begun = asyncio.Event()
    done = 0
    async with AsyncClient(address, tenant="crowd") as client:

        async def keep(task: ImageTask) -> None:
            nonlocal done
            while True:
                await _draw(client, setup, task)
                done += 1
                if done >= open_ // 2:
                    begun.set()

        keeping = [asyncio.create_task(keep(task)) for task in tasks[:open_]]
        if keeping:
            await begun.wait()
        try:
            yield
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)


async def _draw(client: AsyncClient, setup: Setup, task: ImageTask) -> Any:
    stream = client.stream(to_request(task, setup.entry.name))
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, Generated):
                return made(event)
    raise RuntimeError("a stream without an image")
