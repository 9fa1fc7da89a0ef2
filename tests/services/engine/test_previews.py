"""Previews are their tenant's to pay for, and take a bounded share of the engine's time."""

import asyncio
from dataclasses import dataclass

import pytest
import torch

from services.engine.events import Preview
from services.engine.previews import SHARE
from tests.services.engine.toys import (
    Clock,
    ToyNetwork,
    ToyPhase,
    engine,
    result,
    submitted,
    toy_job,
)


@dataclass(eq=False)
class Seen(ToyPhase):
    """Foresees a grey pixel, which takes time."""

    seconds: float = 0.0

    def preview(self):
        if self.network.clock is not None:
            self.network.clock.now += self.seconds
        return torch.zeros(1, 1, 3, dtype=torch.uint8)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 8.0])
async def test_beside_others_previews_take_at_most_their_share(seconds):
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock) as batcher:
        network.open.clear()
        job = toy_job(network, 200, kind=Seen, seconds=seconds, tenant="a", preview_every=1)
        other = toy_job(network, 250, tenant="b")
        tasks = [await submitted(batcher, each) for each in (job, other)]
        network.open.set()
        await tasks[0]
        made, time = batcher.counters.previews, clock.now
        await tasks[1]
    due = made + batcher.counters.previews_left_out
    assert due in (200, 201)  # the last phase foresees nothing, which is not asked beyond the share
    spent = made * seconds
    share = SHARE / 2  # of two tenants
    assert spent <= share * time + seconds
    assert made == 200 or spent >= 0.5 * share * time, "far fewer than there was time for"


async def test_alone_a_tenant_has_all_that_it_asks_for():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock) as batcher:
        batcher.waits_for_readers = True
        job = toy_job(network, 20, kind=Seen, seconds=5.0, tenant="a", preview_every=2)
        neighbour = await submitted(batcher, toy_job(network, 30, tenant="a"))
        events = [event async for event in batcher.run(job)]
        await neighbour
    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.step for preview in previews] == list(range(2, 21, 2))
    assert {preview.seconds for preview in previews} == {5.0}
    assert batcher.counters.previews_left_out == 0


async def test_what_previews_take_counts_as_their_groups_turn():
    clock = Clock()
    watched, other = ToyNetwork("watched", clock), ToyNetwork("other", clock)
    async with engine(clock) as batcher:
        watched.open.clear()
        tasks = [
            await submitted(
                batcher,
                toy_job(watched, 400, kind=Seen, seconds=20.0, tenant="a", preview_every=1),
            ),
            await submitted(batcher, toy_job(other, 400, tenant="b")),
        ]
        watched.open.set()
        await asyncio.gather(*tasks)
    names = [forward.network for forward in batcher.counters.trace]
    first = names[: len(names) - names[::-1].index("other")]  # until the other one ends
    assert first.count("other") >= 400
    behind = 400 - first.count("watched")
    assert behind >= 20, "20 s of previews are 20 steps that the other one takes meanwhile"


async def test_what_previews_take_is_charged_to_their_tenant():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    order: list[str] = []
    async with engine(clock, max_batch_rows=2, max_batch_latent_area=2) as batcher:
        network.open.clear()
        watched = toy_job(
            network, 20, kind=Seen, seconds=60.0, tenant="a", preview_every=1, id="watched"
        )
        beside = toy_job(network, 22, tenant="b", id="beside")
        running = [await submitted(batcher, job) for job in (watched, beside)]
        await asyncio.to_thread(network.entered.wait)
        waiting = [
            await submitted(
                batcher,
                toy_job(network, 10, tenant=tenant, id=f"{tenant} {k}", latent_area=2),
            )
            for k in range(3)
            for tenant in ("a", "b")
        ]
        network.open.set()
        await asyncio.gather(*running, *waiting)
        for forward in batcher.counters.trace:
            order += [job for job, _ in forward.jobs if job[0] in "ab" and job not in order]
    assert order[1:4] == ["b 0", "b 1", "b 2"], "the tenant that had previews went first"


async def test_step_times_are_measured_without_previews():
    clock = Clock()
    network = ToyNetwork(clock=clock)
    async with engine(clock) as batcher:
        job = toy_job(network, 10, kind=Seen, seconds=9.0, preview_every=1)
        await result(batcher, job)
        assert batcher.step_times.usual([job.phases[0]]) == pytest.approx(10.0)
