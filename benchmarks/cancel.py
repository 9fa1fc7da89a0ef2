"""How long after a client's cancel its job has left the running batch, through the whole chain."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.engines import Engine, engines
from benchmarks.figures import percentile
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import PROMPTS
from kandinsky import AsyncClient, Progress
from kandinsky.catalog.family import Stage
from kandinsky.client import requests
from services.local.child import serving
from services.local.preflight import check_port

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEIGHBOURS = (0, 8, 16)
STEPS = 250
"""Of a job that is cancelled: many times what it takes until then."""
EVENTS, EVERY = 3, 5
"""Of its progress, after which it is cancelled, and steps between them."""
PATIENCE = 60
"""Seconds."""
PHASES = {Stage.PRIOR: "prior", Stage.DECODER: "denoise"}


@dataclass(frozen=True)
class Row:
    """One stage with so many neighbours in its batch."""

    stage: str
    neighbours: int
    cancel_to_leave: float
    """Seconds from the client's cancel until the engine was seen without the job, median."""
    p95: float
    look: float
    """Seconds that one look at the engine takes, median: the figures' resolution."""
    step: float
    """Seconds a step of the batch, median of what the job saw before it was cancelled."""
    steps_after: int
    """Steps that any cancelled job took after its replica had learnt of it, at most."""
    whole: float
    """Seconds that the job would have taken, by its steps."""


def measure(setup: Setup, say: Say) -> "Cancel":
    """Cancels jobs one after the other, alone and among neighbours."""
    port = check_port("127.0.0.1", 0)
    options = ["--stages-port", str(port), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        return asyncio.run(_measure(setup, address, f"127.0.0.1:{port}", say))


async def _measure(setup: Setup, address: str, stages: str, say: Say) -> "Cancel":
    rows = []
    times = 5 if setup.quick else 10
    async with AsyncClient(address) as client, engines(stages, setup.entry) as found:
        for stage, engine in found.items():
            for count in NEIGHBOURS:
                say(f"{stage.value}, {count} neighbours")
                async with _neighbours(client, setup.entry.name, stage, count):
                    cancelled = [
                        await _cancel(client, setup.entry.name, stage, engine, seed)
                        for seed in range(times)
                    ]
                while (stats := await engine.stats()).running:
                    pass
                looks = [await _timed(engine) for _ in range(times)]
                leaves = [one.leave for one in cancelled]
                step = median(one.step for one in cancelled)
                rows.append(
                    Row(
                        stage.value,
                        count,
                        median(leaves),
                        percentile(leaves, 0.95),
                        median(looks),
                        step,
                        stats.cancel_steps_max,
                        step * STEPS,
                    )
                )
    return Cancel(rows, times)


@dataclass(frozen=True)
class Cancelled:
    """One cancelled job."""

    leave: float
    """Seconds."""
    step: float
    """Seconds of a step before."""


async def _cancel(
    client: AsyncClient, model: str, stage: Stage, engine: Engine, seed: int
) -> Cancelled:
    before = (await engine.stats()).abandoned
    seen: list[tuple[int, float]] = []
    stream = client.stream(_request(model, stage, seed, progress_every=EVERY))
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, Progress) and event.phase == PHASES[stage]:
                seen.append((event.step, time.perf_counter()))
            if len(seen) == EVENTS:
                break
        begun = time.perf_counter()
    async with asyncio.timeout(PATIENCE):
        while (await engine.stats()).abandoned == before:
            pass
    (first, earlier), (last, later) = seen[0], seen[-1]
    return Cancelled(time.perf_counter() - begun, (later - earlier) / (last - first))


def _request(model: str, stage: Stage, seed: int, **options: Any) -> Any:
    if stage is Stage.PRIOR:
        steps = {"prior_steps": STEPS, "steps": 1}
    else:
        steps = {"prior_steps": 4, "steps": STEPS}
    prompt = PROMPTS[seed % len(PROMPTS)]
    return requests.text_to_image(prompt, model=model, seed=seed, **steps, **options)


@asynccontextmanager
async def _neighbours(
    client: AsyncClient, model: str, stage: Stage, count: int
) -> AsyncIterator[None]:
    """Keeps so many jobs in the stage's batch."""
    at_work = [asyncio.Event() for _ in range(count)]

    async def keep(number: int) -> None:
        while True:
            stream = client.stream(_request(model, stage, 1000 + number))
            async with aclosing(stream):
                async for event in stream:
                    if isinstance(event, Progress) and event.phase == PHASES[stage]:
                        at_work[number].set()

    keeping = [asyncio.create_task(keep(number)) for number in range(count)]
    for one in at_work:
        await one.wait()
    try:
        yield
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


async def _timed(engine: Engine) -> float:
    begun = time.perf_counter()
    await engine.stats()
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Cancel:
    """Cancel latency by stage and neighbours."""

    rows: list[Row]
    times: int

    def table(self) -> Table:
        """A row a stage and number of neighbours."""
        names = ("stage", "neighbours", "cancel to leave, s", "p95, s", "one look, s", "step, s")
        table = columns("Cancel", (*names, "steps after", "of the job"))
        for row in self.rows:
            table.add_row(
                row.stage,
                str(row.neighbours),
                number(row.cancel_to_leave, ".4f"),
                number(row.p95, ".4f"),
                number(row.look, ".4f"),
                number(row.step, ".4f"),
                str(row.steps_after),
                number(row.cancel_to_leave / row.whole, ".1%"),
            )
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            f"{self.times} jobs of {STEPS} steps each are cancelled by their client soon after "
            "they begin; the engine is then asked without pause until it says that the job has "
            "left. That time holds client, gateway and Serve's proxy on the way there, and one "
            "look at the engine. Steps after: taken by any cancelled job after its replica had "
            "learnt of the cancel, by the engine's counters; 1 is the step under way. Of the job:"
            " the time over what the job would have taken to its end."
        )

    def content(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": [asdict(row) for row in self.rows]}

    def plot(self, axes: "Axes") -> None:
        """Seconds by neighbours."""
        for stage in PHASES:
            mine = [row for row in self.rows if row.stage == stage.value]
            places = [row.neighbours for row in mine]
            axes.plot(places, [row.cancel_to_leave * 1e3 for row in mine], "o-", label=stage.value)
        axes.set(xlabel="neighbours in the batch", ylabel="ms, median", title="Cancel to leave")
        axes.set_ylim(bottom=0)
        axes.legend()
