"""Many async generators as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    error: Exception | None


async def merge(sources: Iterable[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Runs all sources side by side and yields their items as they come.

    The first error of a source ends the others and is raised. However this generator ends, every
    source has ended before it returns: close it (`aclosing`) where it may not run out.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(maxsize=1)  # a slow reader slows the sources
    tasks = [asyncio.create_task(_pump(source, queue)) for source in sources]
    running = len(tasks)
    try:
        while running:
            item = await queue.get()
            if not isinstance(item, _End):
                yield item
                continue
            if item.error is not None:
                raise item.error
            running -= 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: AsyncGenerator[T, None], queue: asyncio.Queue[T | _End]) -> None:
    try:
        async with aclosing(source):
            async for item in source:
                await queue.put(item)
    except Exception as error:
        await queue.put(_End(error))
    else:
        await queue.put(_End(None))
