"""What one tenant's flood costs another's single request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial

from benchmarks.engines import engines, keeping
from benchmarks.figures import Round, latency, latency_ratio
from benchmarks.load import Made, window
from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from benchmarks.workload import ImageTask, plain, to_request
from kandinsky import AsyncClient
from kandinsky.catalog.family import Stage
from services.local.child import serving
from services.local.preflight import check_port

QUEUED = 64


def measure(setup: Setup, say: Say) -> Report:
    """A tenant's single requests beside another tenant's load."""
    port = check_port("127.0.0.1", 0)
    options = ["--stages-port", str(port), *setup.server_options]
    with serving(setup.entry.name, options) as address:
        capacity, rounds = asyncio.run(_measure(setup, address, f"127.0.0.1:{port}", say))
    rows = [
        {
            "the other tenant": name,
            "p50, s": latency(found),
            "p95, s": latency(found, 0.95),
            "times a full batch": latency_ratio(found, rounds["fills the batch"]),
        }
        for name, found in rounds.items()
    ]
    return Report(
        title="A tenant's single requests",
        rows=rows,
        note=(
            f"The decoder's batch holds {capacity} guided images, by its calibration at "
            "start-up. A full batch: another tenant keeps as many requests open. A flood: it keeps "
            f"{QUEUED} more. The single requests come one at a time; ratios are medians over "
            "interleaved rounds."
        ),
        plot=bars(rows, "the other tenant", "p50, s"),
        raw={name: [asdict(one) for one in found] for name, found in rounds.items()},
    )


async def _measure(
    setup: Setup, address: str, stages: str, say: Say
) -> tuple[int, dict[str, list[Round]]]:
    async with engines(stages, setup.entry) as found:
        capacity = (await found[Stage.DECODER]()).max_batch_rows // 2
    loads = {"is away": 0, "fills the batch": capacity, "floods": capacity + QUEUED}
    rounds: dict[str, list[Round]] = {name: [] for name in loads}
    singles = plain(setup.entry, 8)
    async with AsyncClient(address, tenant="single") as client:

        async def ask(task: ImageTask) -> Made:
            async for _ in client.stream(to_request(task, setup.entry.name)):
                pass
            return Made(b"")

        for number in range(2 if setup.quick else 3):
            for name, open_ in loads.items():
                say(f"round {number + 1}: the other tenant {name}")
                async with _load(setup, address, open_):
                    rounds[name].append(await window(ask, singles, 1, 5 if setup.quick else 12))
    return capacity, rounds


@asynccontextmanager
async def _load(setup: Setup, address: str, open_: int) -> AsyncIterator[None]:
    """Another tenant keeps so many requests open; half of them have come before it begins."""
    begun, done = asyncio.Event(), 0
    tasks = plain(setup.entry, open_)
    async with AsyncClient(address, tenant="crowd") as client:

        async def ask(task: ImageTask) -> None:
            nonlocal done
            async for _ in client.stream(to_request(task, setup.entry.name)):
                pass
            done += 1
            if done >= open_ // 2:
                begun.set()

        async with keeping([partial(ask, task) for task in tasks]):
            if tasks:
                await begun.wait()
            yield
