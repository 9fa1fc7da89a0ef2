"""What attacks of one caller cost another tenant's small request, and the gateway's memory."""

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from rich.table import Table

from benchmarks.child import child
from benchmarks.figures import percentile
from benchmarks.report import columns, number
from benchmarks.setup import Say, Setup
from benchmarks.workload import PROMPTS
from kandinsky import AsyncClient, KandinskyError
from kandinsky.client import requests
from kandinsky.wire.errors import Reason
from services.local.child import serving
from services.local.preflight import check_port

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
"""After which an attack's row takes no further request."""


@dataclass(frozen=True)
class Row:
    """An attack, or none."""

    attack: str
    latencies: tuple[float, ...]
    """Seconds of each small request, with the waits after refusals."""
    refusals: int
    """Of small requests."""
    peak_gib: float
    """Of the gateway's resident memory."""
    outcomes: Mapping[str, int]
    """How the attack's own calls ended."""

    @property
    def p50(self) -> float:
        """Seconds."""
        return median(self.latencies)


def measure(setup: Setup, say: Say) -> "Attacks":
    """Asks for small images, one after the other, on an idle server and beside each attack."""
    port = check_port("127.0.0.1", 0)
    options = ["--stages-port", str(port), *setup.server_options]
    times = 5 if setup.quick else 20
    rows = []
    with serving(setup.entry.name, options) as address:
        gateway = _gateway_process()
        asyncio.run(_small(address, setup, times))  # warms what is compiled or allocated once
        say("no attack")
        rows.append(_row("none", address, setup, times, gateway, {}))
        for name, sentence in ATTACKS.items():
            say(sentence)
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "outcomes.json"
                words = (name, address, f"127.0.0.1:{port}", setup.entry.name, str(out))
                outcomes: dict[str, int] = {}
                with child("benchmarks.attacker", *words, *map(str, setup.folders)):
                    time.sleep(SETTLE_SECONDS)
                    row = _row(sentence, address, setup, times, gateway, outcomes)
                outcomes.update(json.loads(out.read_text(encoding="utf-8")))
            rows.append(row)
    return Attacks(rows)


def _row(
    name: str,
    address: str,
    setup: Setup,
    times: int,
    gateway: psutil.Process,
    outcomes: Mapping[str, int],
) -> Row:
    latencies, refusals = asyncio.run(_small(address, setup, times))
    row = Row(name, tuple(latencies), refusals, _peak_gib(gateway), outcomes)
    _forget_peak(gateway)
    return row


async def _small(address: str, setup: Setup, times: int) -> tuple[list[float], int]:
    """Seconds of small requests, and how many refusals they met."""
    latencies, refusals = [], 0
    begun = time.perf_counter()
    async with AsyncClient(address, tenant="honest") as client:
        while len(latencies) < times and time.perf_counter() - begun < ROW_SECONDS:
            seed = len(latencies)
            request: Any = requests.text_to_image(
                PROMPTS[seed % len(PROMPTS)], model=setup.entry.name, seed=seed
            )
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


def _gateway_process() -> psutil.Process:
    """The gateway among this process's descendants."""
    for process in psutil.Process().children(recursive=True):
        if "gateway" in process.cmdline():
            return process
    raise LookupError("no gateway runs below this process")


def _peak_gib(process: psutil.Process) -> float:
    """Most resident memory since the last `_forget_peak`, by the kernel's own mark."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    [kib] = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib / 2**20


def _forget_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="utf-8")


@dataclass(frozen=True)
class Attacks:
    """A row an attack, after that of the idle server."""

    rows: list[Row]

    def ratio(self, row: Row) -> float:
        """A row's median over the idle server's."""
        return row.p50 / self.rows[0].p50

    @property
    def held(self) -> bool:
        """Whether every row keeps to both bounds."""
        return all(self.ratio(row) <= MOST_RATIO and row.peak_gib <= MOST_GIB for row in self.rows)

    def table(self) -> Table:
        """A row an attack."""
        names = ("attack", "p50, s", "p95, s", "times idle", "refused", "gateway, GiB", "answers")
        table = columns("Attacks: another tenant's small request", names)
        for row in self.rows:
            answers = ", ".join(f"{count} {name}" for name, count in sorted(row.outcomes.items()))
            table.add_row(
                row.attack,
                number(row.p50),
                number(percentile(list(row.latencies), 0.95)),
                number(self.ratio(row)),
                str(row.refusals),
                number(row.peak_gib),
                answers,
            )
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            "Each attack keeps what its row says open: half a second after the end of a call, "
            "whatever was answered, comes the next, from a process of its own at the lowest CPU "
            "priority. Meanwhile another tenant asks "
            "for images with the model's defaults, one after the other; where it is refused it "
            "comes back after the pause that the refusal names, and the wait is in its time. "
            "Gateway: the most resident memory in that row, the attack before it included where "
            f"its memory was not yet freed. Bounds: {MOST_RATIO:g} times idle and {MOST_GIB:g} "
            f"GiB; {'held' if self.held else 'NOT held'} in every row."
        )

    def content(self) -> dict[str, Any]:
        """The rows, with every latency."""
        rows = [{**asdict(row), "p50": row.p50, "ratio": self.ratio(row)} for row in self.rows]
        return {"rows": rows, "most_ratio": MOST_RATIO, "most_gib": MOST_GIB, "held": self.held}

    def plot(self, axes: "Axes") -> None:
        """A bar an attack."""
        rows = self.rows[::-1]
        axes.barh([row.attack for row in rows], [row.p50 for row in rows], color="steelblue")
        axes.axvline(MOST_RATIO * self.rows[0].p50, linestyle="--", color="gray", label="bound")
        axes.set(xlabel="seconds a small request, median", title="Beside each attack")
        axes.legend()
