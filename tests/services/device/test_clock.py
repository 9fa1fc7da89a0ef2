"""Steps are timed on the device, and the host gives it no more than one step ahead of its work."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest
import torch

from services.device.clock import CudaClock, DeviceClock, Moment, clock_of
from services.device.copies import HostCopy, to_device
from services.engine.batcher import Batcher
from services.engine.events import Finished
from services.engine.leaving import Leaving, leave
from services.engine.limits import EngineLimits
from tests.services.engine.toys import ToyNetwork, result, toy_job

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class FakeMoment(Moment):
    """Comes when a test lets it."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.came = threading.Event()
        self.waited_for = threading.Event()

    def wait(self) -> None:
        self.waited_for.set()
        assert self.came.wait(30)

    def seconds_since(self, earlier: Moment) -> float:
        assert isinstance(earlier, FakeMoment)
        assert self.came.is_set()
        return self.at - earlier.at


@dataclass
class FakeClock(DeviceClock):
    """A device that takes 7 seconds from one mark to the next, whatever the host does."""

    moments: list[FakeMoment] = field(default_factory=list)
    marked: threading.Condition = field(default_factory=threading.Condition)
    steps_ahead = 1

    def mark(self) -> FakeMoment:
        with self.marked:
            self.moments.append(FakeMoment(7.0 * len(self.moments)))
            self.marked.notify_all()
            return self.moments[-1]

    def step(self, number: int) -> tuple[FakeMoment, FakeMoment]:
        """When a step begins and ends on the device; waits until it was given."""
        with self.marked:
            assert self.marked.wait_for(lambda: len(self.moments) >= 2 * number + 2, 30)
            return self.moments[2 * number], self.moments[2 * number + 1]


async def test_the_host_is_one_step_ahead_and_no_more() -> None:
    device, network = FakeClock(), ToyNetwork()
    batcher = Batcher(EngineLimits(), device=device)
    try:
        job = asyncio.create_task(result(batcher, toy_job(network, 4)))
        for step in range(5):  # 4 and the last phase's
            _, ends = await asyncio.to_thread(device.step, step)
            assert batcher.counters.forwards <= step + 2
            assert await asyncio.to_thread(ends.waited_for.wait, 30)
            assert batcher.counters.forwards == min(step + 2, 5)
            ends.came.set()
        await job
        phase = toy_job(network, 4).phases[0]
        await asyncio.to_thread(batcher.close)
        assert batcher.step_times.least([phase]) == pytest.approx(4 * 7.0)
    finally:
        for moment in device.moments:
            moment.came.set()
        await asyncio.to_thread(batcher.close)


def test_a_cpu_s_work_ends_as_it_is_given() -> None:
    clock = clock_of(torch.device("cpu"), iter([2.0, 5.5]).__next__)
    earlier, later = clock.mark(), clock.mark()
    later.wait()
    assert (clock.steps_ahead, later.seconds_since(earlier)) == (0, 3.5)


@pytest.mark.gpu
@GPU
def test_a_gpu_s_moments_come_when_its_work_has_ended() -> None:
    clock = clock_of(torch.device("cuda"))
    assert isinstance(clock, CudaClock)
    work = torch.randn(4096, 4096, device="cuda")
    earlier = clock.mark()
    for _ in range(20):
        work = torch.tanh(work @ work)
    later = clock.mark()
    later.wait()
    assert later.seconds_since(earlier) > 0.001


@pytest.mark.gpu
@GPU
async def test_tensors_leave_a_gpu_behind_the_work_before_them() -> None:
    sums = torch.zeros(1000, 1000, device="cuda")
    noise = torch.randn(1000, 1000)
    for _ in range(50):
        sums += to_device(noise, sums)
    copy = HostCopy({"sums": sums})
    sums.fill_(-1)
    torch.testing.assert_close(copy.wait()["sums"], 50 * noise, rtol=1e-4, atol=1e-4)
    stats = toy_job(ToyNetwork(), 1).stats
    leaving = leave(Finished({"image": sums}, stats, torch.Generator().get_state()))
    assert isinstance(leaving, Leaving)
    arrived = await leaving.arrived()
    assert arrived.outputs["image"].device.type == "cpu"
    assert (arrived.outputs["image"] == -1).all()
