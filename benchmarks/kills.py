"""Killing the processes of a running system: which there are, by kind, and the draw among them."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence

import psutil

from benchmarks.setup import Say
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage

PROXY, CONTROLLER = "proxy", "controller"
KINDS = (*(stage.value for stage in Stage), PROXY, CONTROLLER)
PAUSE = (1.0, 6.0)
"""Seconds between two kills, drawn from this range."""


def processes(entry: CatalogEntry, kind: str) -> list[psutil.Process]:
    """Those of one of KINDS that serve a model, among this process's descendants."""
    titles = {PROXY: "ray::ProxyActor", CONTROLLER: "ray::ServeController"}
    title = titles.get(kind) or f"ray::ServeReplica:{entry.application(Stage(kind))}:"
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            # Ray writes the title over the command line.
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except psutil.Error:
            continue  # it has just ended
    return found


async def kill(
    entry: CatalogEntry, kinds: Sequence[str], kills: int, seed: int, say: Say
) -> Counter[str]:
    """Kills so many processes at random moments; how many of each kind.

    Kinds come in rounds, each in an order of its own; of a kind's processes that live one is drawn,
    be it the last one. A kind of which none lives comes later.
    """
    draw, killed, waiting = random.Random(seed), Counter[str](), list[str]()
    while killed.total() < kills:
        await asyncio.sleep(draw.uniform(*PAUSE))
        waiting = waiting or draw.sample(kinds, len(kinds))
        for kind in waiting:
            living = await asyncio.to_thread(processes, entry, kind)
            if living:
                victim = draw.choice(living)
                victim.send_signal(signal.SIGKILL)
                killed[kind] += 1
                waiting.remove(kind)
                say(f"killed {victim.pid}, of {len(living)} {kind}")
                break
    return killed
