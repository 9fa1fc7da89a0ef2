"""Merging async generators: nothing is lost, and nobody is left behind."""

import asyncio
from contextlib import aclosing

import pytest

from gateway.stages.merge import merge


async def count(to):
    for i in range(to):
        yield i


async def forever(ended):
    try:
        yield "started"
        await asyncio.Event().wait()
    finally:
        ended.set()


async def fail():
    yield "about to fail"
    raise ValueError("failed")


async def test_every_item_comes_once():
    assert sorted([item async for item in merge([count(3), count(2)])]) == [0, 0, 1, 1, 2]
    assert [item async for item in merge([])] == []


async def test_the_first_error_ends_the_others():
    ended = asyncio.Event()
    with pytest.raises(ValueError, match="failed"):
        async for _ in merge([forever(ended), fail()]):
            pass
    assert ended.is_set()


async def test_closing_ends_every_source():
    ended = [asyncio.Event(), asyncio.Event()]
    async with aclosing(merge(map(forever, ended))) as items:
        await anext(items)
        await anext(items)
    assert all(event.is_set() for event in ended)
    assert asyncio.all_tasks() == {asyncio.current_task()}
