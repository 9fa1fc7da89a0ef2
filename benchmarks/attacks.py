"""What attacks of one caller cost another tenant's small request, and the gateway's memory."""

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.child import child
from benchmarks.figures import percentile
from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from benchmarks.workload import PROMPTS
from kandinsky import AsyncClient, KandinskyError
from kandinsky.client import requests
from kandinsky.wire.errors import Reason
from services.local.child import serving
from services.local.preflight import check_port

ATTACKS: Mapping[str, str] = {
    "masks": "3 requests to inpaint under 64 masks of 4096x4096",
    "variations": "12 variations of a 4096x4096 image",
    "prompts": "2 requests of two million prompts",
    "messages": "20 messages of 63 MiB",
    "unread": "128 unread streams of two tenants",
    "snapshots": "6 decoder jobs that resume from lies",
}
"""What an attack keeps open, by its name in benchmarks.attacker."""
MOST_RATIO = 3.0
"""Times what a small request takes on an idle server, at most."""
MOST_GIB = 2.0
"""Of the gateway's resident memory, at most."""
SETTLE_SECONDS = 5.0
"""From an attack's begin to the first request that is measured."""
ROW_SECONDS = 60.0
"""After which no further small request is made."""


def measure(setup: Setup, say: Say) -> Report:
    """Asks for small images, one after the other, on an idle server and beside each attack."""
    port = check_port("127.0.0.1", 0)
    options = ["--stages-port", str(port), *setup.server_options]
    times = 5 if setup.quick else 20
    rows: list[dict[str, Any]] = []
    raw: dict[str, list[float]] = {}
    with serving(setup.entry.name, options) as address, tempfile.TemporaryDirectory() as folder:
        gateway, out = _gateway(), Path(folder) / "outcomes.json"

        def row(name: str) -> None:
            raw[name], refusals = asyncio.run(_small(address, setup, times))
            p50 = percentile(raw[name], 0.5)
            figures = {
                "attack": name,
                "p50, s": p50,
                "p95, s": percentile(raw[name], 0.95),
                "times idle": p50 / (rows[0]["p50, s"] if rows else p50),
                "refused": refusals,
                "gateway, GiB": _peak_gib(gateway),
                "answers": "",
            }
            rows.append(figures)
            # The kernel's mark of the most memory is taken again from here.
            Path(f"/proc/{gateway.pid}/clear_refs").write_text("5", encoding="utf-8")

        asyncio.run(_small(address, setup, times))  # warms what is compiled or allocated once
        say("no attack")
        row("none")
        for name, sentence in ATTACKS.items():
            say(sentence)
            words = (name, address, f"127.0.0.1:{port}", setup.entry.name, str(out))
            with child("benchmarks.attacker", *words, *map(str, setup.folders)):
                time.sleep(SETTLE_SECONDS)
                row(sentence)
            outcomes = json.loads(out.read_text(encoding="utf-8"))
            answers = [f"{count} {answer}" for answer, count in sorted(outcomes.items())]
            rows[-1]["answers"] = ", ".join(answers)
    return report(rows, raw)


def report(rows: list[dict[str, Any]], raw: Any = None) -> Report:
    """Of the rows; the note says whether the bounds are held."""
    return Report(
        title="Another tenant's small request beside each attack",
        rows=rows,
        note=(
            "Each attack keeps what its row says open: half a second after the end of a call, "
            "whatever was answered, comes the next, from a process of its own at the lowest CPU "
            "priority. Meanwhile another tenant asks for images with the model's defaults, one "
            "after the other; where it is refused it comes back after the pause that the refusal "
            "names, and the wait is in its time. Gateway: the most resident memory in that row, "
            "the attack before it included where its memory was not yet freed. Bounds: "
            f"{MOST_RATIO:g} times idle and {MOST_GIB:g} GiB; "
            f"{'held' if _held(rows) else 'NOT held'} in every row."
        ),
        plot=bars(rows, "attack", "times idle", MOST_RATIO),
        raw=raw,
    )


def _held(rows: list[dict[str, Any]]) -> bool:
    return all(row["times idle"] <= MOST_RATIO and row["gateway, GiB"] <= MOST_GIB for row in rows)


async def _small(address: str, setup: Setup, times: int) -> tuple[list[float], int]:
    """Seconds of small requests, and how many refusals they met."""
    latencies, refusals = list[float](), 0
    begun = time.perf_counter()
    async with AsyncClient(address, tenant="honest") as client:
        while len(latencies) < times and time.perf_counter() - begun < ROW_SECONDS:
            seed = len(latencies)
            prompt = PROMPTS[seed % len(PROMPTS)]
            request = requests.text_to_image(prompt, model=setup.entry.name, seed=seed)
            asked = time.perf_counter()
            while True:
                try:
                    async for _ in client.stream(request):
                        pass
                    break
                except KandinskyError as error:
                    if error.reason is not Reason.OVERLOADED or error.retry_after is None:
                        raise
                    refusals += 1
                    await asyncio.sleep(error.retry_after)
            latencies.append(time.perf_counter() - asked)
    return latencies, refusals


def _gateway() -> psutil.Process:
    """The gateway among this process's descendants."""
    for process in psutil.Process().children(recursive=True):
        if "gateway" in process.cmdline():
            return process
    raise LookupError("no gateway runs below this process")


def _peak_gib(process: psutil.Process) -> float:
    """Most resident memory, by the kernel's own mark."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    [kib] = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib / 2**20
