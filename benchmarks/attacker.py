"""`python -m benchmarks.attacker NAME GATEWAY STAGES MODEL OUTCOMES [FOLDER ...]`: one attack.

Prints a line when it begins. Runs until its standard input is closed, at most MOST_SECONDS, and
then writes into the file OUTCOMES, as JSON, how often its calls ended in which way.
"""

import asyncio
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks import hostile
from benchmarks.child import wait_for_the_end
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import from_rpc_error

MOST_SECONDS = 180.0
CALL_SECONDS = 60.0
PAUSE = 0.5
"""Seconds from the end of a worker's call to its next one."""
GENERATE = "/kandinsky.v1.GenerationService/Generate"
DECODE = "/kandinsky.v1.DecoderService/Decode"
UNREAD = 128

Work = Callable[[Counter[str]], Awaitable[None]]
Metadata = tuple[tuple[str, str], ...]
ATTACKER: Metadata = (("x-tenant", "attacker"),)


def calls(channel: grpc.aio.Channel, path: str, bodies: Sequence[bytes], meta: Metadata) -> Work:
    """A worker that makes one call after the other and reads each to its end."""
    method: Any = channel.unary_stream(path)  # bytes in, bytes out

    async def work(outcomes: Counter[str]) -> None:
        for body in itertools.cycle(bodies):
            try:
                async for _ in method(body, metadata=meta, timeout=CALL_SECONDS):
                    pass
            except grpc.aio.AioRpcError as error:
                outcomes[from_rpc_error(error).reason.value] += 1
            else:
                outcomes["OK"] += 1
            await asyncio.sleep(PAUSE)

    return work


def unread_calls(channel: grpc.aio.Channel, path: str, body: bytes, meta: Metadata) -> Work:
    """A worker that makes one call after the other, without a deadline, and reads none of them."""
    method: Any = channel.unary_stream(path)

    async def work(outcomes: Counter[str]) -> None:
        while True:
            outcomes[(await method(body, metadata=meta).code()).name] += 1
            await asyncio.sleep(PAUSE)

    return work


async def workers(
    name: str, gateway: grpc.aio.Channel, stages: grpc.aio.Channel, entry: CatalogEntry
) -> list[Work]:
    """Those of an attack, which run side by side."""
    if name == "unread":
        body = hostile.unread(entry.name)
        tenants = [(("x-tenant", f"invented {i % 2}"),) for i in range(UNREAD)]
        return [unread_calls(gateway, GENERATE, body, tenant) for tenant in tenants]
    if name == "snapshots":
        lies = await hostile.lying_snapshots(stages, entry)
        meta = (("application", entry.application(Stage.DECODER)), *ATTACKER)
        return [calls(stages, DECODE, lies[i:] + lies[:i], meta) for i in range(len(lies))]
    count, build = {
        "masks": (3, hostile.masks),
        "variations": (12, hostile.variation),
        "prompts": (2, hostile.prompts),
        "messages": (20, hostile.message),
    }[name]
    return [calls(gateway, GENERATE, [build(entry.name)], ATTACKER)] * count


async def attack(name: str, gateway: str, stages: str, entry: CatalogEntry) -> Counter[str]:
    """Runs an attack; how its calls ended."""
    outcomes: Counter[str] = Counter()
    async with (
        grpc.aio.insecure_channel(gateway, options=OPTIONS) as to_gateway,
        grpc.aio.insecure_channel(stages, options=OPTIONS) as to_stages,
    ):
        works = await workers(name, to_gateway, to_stages, entry)
        running = [asyncio.create_task(work(outcomes)) for work in works]
        print("begun", flush=True)
        end = asyncio.create_task(asyncio.to_thread(wait_for_the_end))
        await asyncio.wait([end, *running], timeout=MOST_SECONDS, return_when="FIRST_COMPLETED")
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if not isinstance(result, asyncio.CancelledError):
            raise RuntimeError(f"the attack {name} broke off") from result
    return outcomes


if __name__ == "__main__":
    attack_name, at_gateway, at_stages, model_name, out, *folders = sys.argv[1:]
    os.nice(19)  # an attacker's own work would be on machines of its own
    found = Catalog.load([Path(folder) for folder in folders])[model_name]
    counted = asyncio.run(attack(attack_name, at_gateway, at_stages, found))
    Path(out).write_text(json.dumps(counted), encoding="utf-8")
