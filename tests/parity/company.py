"""What holds of an image in any company: the same beside others, joined late, moved half-way."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import numpy as np

from tests.parity.conftest import Chain

Ask = Callable[[Chain, str], Awaitable[np.ndarray]]
"""Asks for the job of a name, under that request id, and gives its image."""


def assert_same(image: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(image - expected).max() <= 1


async def share_forwards(chain: Chain, ask: Ask, names: Iterable[str]) -> None:
    """All at once, each is as it is alone; the decoder's trace is that of the company."""
    expected = {name: await ask(chain, name) for name in names}
    decoder = chain.stages.decoder
    decoder.counters.trace.clear()
    decoder.hold()
    running = {name: asyncio.create_task(ask(chain, name)) for name in expected}
    for name in running:
        await decoder.arrival(name, 2)  # it came alone before
    decoder.release()
    for name, task in running.items():
        assert_same(await task, expected[name])


async def join_late(chain: Chain, ask: Ask, early: str, late: str, step: int) -> Mapping[str, int]:
    """Neither changes where one comes once the other has taken so many steps.

    Returns:
        The steps that each had done in their first common forward.
    """
    expected = {name: await ask(chain, name) for name in (early, late)}
    decoder = chain.stages.decoder
    first = asyncio.create_task(ask(chain, early))
    await decoder.held_at(early, step)
    second = asyncio.create_task(ask(chain, late))
    await decoder.arrival(late, 2)
    decoder.release()
    assert_same(await second, expected[late])
    assert_same(await first, expected[early])
    return decoder.forwards_with(early, late)[0]


async def move(chain: Chain, ask: Ask, name: str, step: int, phase: str | None = None) -> None:
    """It is as it was where its replica is drained before a step, and a second one goes on."""
    expected = await ask(chain, name)
    first, second = chain.stages.decoders
    moved = asyncio.create_task(ask(chain, name))
    await first.held_at(name, step, phase)
    chain.stages.router.replica = 1
    first.drain()
    first.release()
    assert_same(await moved, expected)
    assert (first.counters.drained, second.counters.resumed) == (1, 1)
