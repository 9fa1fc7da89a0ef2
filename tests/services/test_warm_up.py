"""What a replica compiles, it compiles before its first request."""

import asyncio
from pathlib import Path

import pytest
from torch._dynamo.utils import counters

from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2
from services.decoder.service import DecoderFamily
from services.engine.batcher import Batcher
from services.engine.calibration import warm_up
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.transport.jobs import sampling_job
from tests.heldbatcher import HeldBatcher
from tests.services.answers import settings
from tests.services.asking import SIZE, decode_request
from tests.stagehost import load_family

COMPILED = {"compile": True, "compile_backend": "eager", "channels_last": True}


class Context:
    """A call that says nothing of itself."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return []


def request(seed: int, guidance_scale: float = 4.0, cached: int = 1) -> decoder_pb2.DecodeRequest:
    made = decode_request("noise", seed)
    made.sampling.guidance_scale = guidance_scale
    made.sampling.step_cache_interval = cached
    return made


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Path) -> DecoderFamily:
    """Warmed up as the decoder's replica does it."""
    family = load_family(settings(tiny_checkpoint, **COMPILED), Stage.DECODER)
    warm_up([family.calibration_phase(SIZE, SIZE), *family.further_phases(SIZE, SIZE)])
    return family


async def run(batcher: Batcher, job: Job) -> None:
    async for _ in batcher.run(job):
        pass


@pytest.mark.parametrize(
    "requests",
    {
        "alone": [request(1)],
        "alone, without guidance": [request(1, 1)],
        "alone, with a step cache": [request(1, 4, 2)],
        "two": [request(1), request(2)],
        "guided and not, cached and not": [request(1), request(2, 1), request(3, 4, 2)],
        "nine, with a step cache": [request(seed, 4, 2) for seed in range(9)],
    }.items(),
    ids=lambda named: named[0],
)
async def test_no_request_of_the_usual_size_waits_for_a_compilation(
    family: DecoderFamily, requests: tuple[str, list[decoder_pb2.DecodeRequest]]
) -> None:
    compiled = counters["stats"]["unique_graphs"]
    assert compiled
    batcher = HeldBatcher(EngineLimits())
    try:
        batcher.hold()
        jobs = [await sampling_job(family.phases, each, Context()) for each in requests[1]]
        runs = [asyncio.create_task(run(batcher, job)) for job in jobs]
        await batcher.arrival("", len(jobs))
        batcher.release()
        await asyncio.gather(*runs)
    finally:
        batcher.close()
    assert counters["stats"]["unique_graphs"] == compiled
