"""A reader that is slow, or does not read at all, costs a bounded number of events."""

import asyncio

import pytest
import torch

from kandinsky.wire.errors import KandinskyError, Reason
from services.device.clock import HostMoment, Span
from services.engine.events import Finished, Preview, Progress, Queued
from services.engine.mailbox import Mailbox
from services.engine.snapshot import Snapshot
from services.engine.stats import JobStats
from tests.services.engine.test_previews import Seen
from tests.services.engine.toys import ToyNetwork, engine, result, toy_job

NO_TIME = Span(HostMoment(0.0), HostMoment(0.0))


STATE = torch.Generator().get_state()


def progress(step: int, phase: str = "denoise") -> Progress:
    return Progress(phase, step, 50, 0.0)


def preview(step: int) -> Preview:
    return Preview(step, torch.zeros(1, 1, 3, dtype=torch.uint8), NO_TIME)


def snapshot(step: int) -> Snapshot:
    return Snapshot(0, step, torch.zeros(1), torch.zeros(1))


async def read(mailbox: Mailbox) -> list:
    return [await mailbox.get() for _ in range(len(mailbox))]


async def test_the_newest_of_each_kind_waits_in_the_order_of_coming():
    mailbox = Mailbox(asyncio.get_running_loop())
    given = [Queued(1), progress(1, "encode"), Queued(0)]
    for step in range(1, 51):
        given.append(progress(step))
        if step % 5 == 0:
            given.append(preview(step))
        if step % 10 == 0:
            given.append(snapshot(step))
    given += [progress(1, "decode"), Finished({"latents": torch.zeros(1)}, JobStats(), STATE)]
    for event in given:
        mailbox.put(event)
        assert len(mailbox) <= 7
    read_events = await read(mailbox)
    kinds = [(type(event).__name__, getattr(event, "step", None)) for event in read_events]
    assert kinds == [
        ("Progress", 1),  # of the phase before, which the caller counts steps by
        ("Queued", None),
        ("Progress", 50),
        ("Preview", 50),
        ("Snapshot", 50),
        ("Progress", 1),
        ("Finished", None),
    ]
    assert [given.index(event) for event in read_events] == sorted(map(given.index, read_events))


async def test_an_error_comes_after_the_snapshot_before_it():
    mailbox = Mailbox(asyncio.get_running_loop())
    error = KandinskyError(Reason.DRAINING, "going")
    for event in (snapshot(3), progress(4), snapshot(4), error):
        mailbox.put(event)
    events = await read(mailbox)
    assert [getattr(event, "step", event) for event in events] == [4, 4, error]


async def test_a_reader_that_waits_is_woken_from_another_thread():
    mailbox = Mailbox(asyncio.get_running_loop())
    for step in range(20):
        waiting = asyncio.create_task(mailbox.get())
        await asyncio.sleep(0)
        await asyncio.to_thread(mailbox.put, progress(step))
        assert (await waiting).step == step


async def test_a_job_that_nobody_reads_keeps_a_few_events_and_its_result():
    network = ToyNetwork()
    async with engine(snapshot_every=1) as batcher:
        job = toy_job(network, 300, kind=Seen, progress_every=1, preview_every=1, id="unread")
        events = batcher.run(job)
        assert isinstance(await anext(events), Queued)
        await result(batcher, toy_job(network, 400))
        assert job.ended
        left = [event async for event in events]
    assert [(type(event).__name__, getattr(event, "step", None)) for event in left] == [
        ("Snapshot", 299),
        ("Progress", 300),
        ("Preview", 300),
        ("Progress", 1),
        ("Finished", None),
    ]


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancel_that_comes_with_an_event_is_not_lost(turns):
    network = ToyNetwork()
    async with engine() as batcher:
        network.open.clear()
        job = toy_job(network, 100)

        async def read_all() -> list:
            return [event async for event in batcher.run(job)]

        reader = asyncio.create_task(read_all())
        await batcher.arrival(job.id)
        await asyncio.to_thread(network.entered.wait)
        job.emit(progress(1))
        for _ in range(turns):
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert job.abandoned
        network.open.set()
