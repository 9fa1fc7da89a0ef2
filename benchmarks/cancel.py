"""How long after a client's cancel its job has left the running batch, through the whole chain."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from statistics import median
from typing import Any

from benchmarks.engines import Stats, engines, keeping
from benchmarks.figures import percentile
from benchmarks.report import Report, lines
from benchmarks.setup import Say, Setup
from benchmarks.workload import PROMPTS
from kandinsky import AsyncClient, Progress
from kandinsky.catalog.family import Stage
from kandinsky.client import requests
from services.local.child import serving
from services.local.preflight import check_port

NEIGHBOURS = (0, 8, 16)
STEPS = 250
"""Of a job that is cancelled: many times what it takes until then."""
EVENTS, EVERY = 3, 5
"""Of its progress, after which it is cancelled, and steps between them."""
PATIENCE = 60
"""Seconds."""
PHASES = {Stage.PRIOR: "prior", Stage.DECODER: "denoise"}


def measure(setup: Setup, say: Say) -> Report:
    """Cancels jobs one after the other, alone and among neighbours."""
    times = 5 if setup.quick else 10
    port = check_port("127.0.0.1", 0)
    options = ["--stages-port", str(port), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        rows = asyncio.run(_measure(setup, address, f"127.0.0.1:{port}", times, say))
    return Report(
        title="Cancel to leave",
        rows=rows,
        note=(
            f"{times} jobs of {STEPS} steps each are cancelled by their client soon after they "
            "begin; the engine is then asked without pause until it says that the job has left. "
            "That time holds client, gateway and Serve's proxy on the way there, and one look at "
            "the engine. Medians. Steps after: taken by any cancelled job after its replica had "
            "learnt of the cancel, by the engine's counters; 1 is the step under way. Of the job: "
            "the time over what the job would have taken to its end."
        ),
        plot=lines(rows, "stage", "neighbours", "leave, ms"),
    )


async def _measure(
    setup: Setup, address: str, stages: str, times: int, say: Say
) -> list[dict[str, Any]]:
    rows, model = [], setup.entry.name
    async with AsyncClient(address) as client, engines(stages, setup.entry) as found:
        for stage, stats in found.items():
            for count in NEIGHBOURS:
                say(f"{stage.value}, {count} neighbours")
                async with _neighbours(client, model, stage, count):
                    cancelled = [
                        await _cancel(client, model, stage, stats, seed) for seed in range(times)
                    ]
                while (last := await stats()).running:
                    pass
                looks = [await _timed(stats) for _ in range(times)]
                leaves, steps = zip(*cancelled, strict=True)
                rows.append(
                    {
                        "stage": stage.value,
                        "neighbours": count,
                        "leave, ms": median(leaves) * 1e3,
                        "p95, ms": percentile(leaves, 0.95) * 1e3,
                        "one look, ms": median(looks) * 1e3,
                        "step, ms": median(steps) * 1e3,
                        "steps after": last.cancel_steps_max,
                        "of the job": f"{median(leaves) / (median(steps) * STEPS):.1%}",
                    }
                )
    return rows


async def _cancel(
    client: AsyncClient, model: str, stage: Stage, stats: Stats, seed: int
) -> tuple[float, float]:
    """Seconds from the cancel until the engine was seen without the job, and of a step before."""
    before = (await stats()).abandoned
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
        while (await stats()).abandoned == before:
            pass
    (first, earlier), (last, later) = seen[0], seen[-1]
    return time.perf_counter() - begun, (later - earlier) / (last - first)


def _request(model: str, stage: Stage, seed: int, **options: Any) -> Any:
    counts = (STEPS, 1) if stage is Stage.PRIOR else (4, STEPS)
    steps = dict(zip(("prior_steps", "steps"), counts, strict=True))
    prompt = PROMPTS[seed % len(PROMPTS)]
    return requests.text_to_image(prompt, model=model, seed=seed, **steps, **options)


@asynccontextmanager
async def _neighbours(
    client: AsyncClient, model: str, stage: Stage, count: int
) -> AsyncIterator[None]:
    """Keeps so many jobs in the stage's batch."""
    at_work = [asyncio.Event() for _ in range(count)]

    async def work(number: int) -> None:
        stream = client.stream(_request(model, stage, 1000 + number))
        async with aclosing(stream):
            async for event in stream:
                if isinstance(event, Progress) and event.phase == PHASES[stage]:
                    at_work[number].set()

    async with keeping([partial(work, number) for number in range(count)]):
        for one in at_work:
            await one.wait()
        yield


async def _timed(stats: Stats) -> float:
    begun = time.perf_counter()
    await stats()
    return time.perf_counter() - begun
