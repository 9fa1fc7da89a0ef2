"""The same seed makes the same image, whatever runs beside it; seen through the gateway.

Every test reads the decoder's counters, and fails unless the rows it speaks of shared forwards.
"""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from kandinsky.v1 import generation_pb2
from tests.parity.conftest import Chain, pixels

PROMPT = "a red cat"
LEVELS = 1
"""Most by which a channel may differ: rounding of another batch size."""


def request(seed: int, **changes: object) -> generation_pb2.TextToImageRequest:
    prompt = changes.pop("prompt", PROMPT)
    negative = changes.pop("negative_prompts", ())
    settings = {"seed": seed, "steps": 30, "output_format": generation_pb2.OUTPUT_FORMAT_PIXELS}
    settings.update(changes)
    return generation_pb2.TextToImageRequest(
        model="tiny",
        prompts=[prompt],
        negative_prompts=negative,
        settings=generation_pb2.GenerationSettings(**settings),
    )


class Running:
    """One image under way, its events read in the background."""

    def __init__(self, chain: Chain, name: str, message: generation_pb2.TextToImageRequest):
        self._call = chain.stub.TextToImage(message, metadata=(("x-request-id", name),))
        self.denoising = asyncio.Event()
        self.task = asyncio.create_task(self._read(self._call))

    async def _read(self, events: AsyncIterator) -> generation_pb2.GeneratedImage:
        image = None
        async for event in events:
            if event.progress.phase == "denoise" and event.progress.step < event.progress.steps:
                self.denoising.set()
            if event.HasField("image"):
                image = event.image
        return image

    def cancel(self) -> None:
        self._call.cancel()


async def alone(chain: Chain, message: generation_pb2.TextToImageRequest) -> np.ndarray:
    image = await Running(chain, "alone", message).task
    assert image.decoder_stats.shared_forwards == 0
    return pixels(image)


def forwards_with(chain: Chain, first: str, second: str) -> list[dict[str, int]]:
    """Decoder forwards of the denoising loop in which both requests had rows."""
    trace = [dict(forward.jobs) for forward in chain.stages.decoder.counters.trace]
    return [jobs for jobs in trace if first in jobs and second in jobs]


async def test_batched_with_other_step_counts_and_guidance(chain: Chain) -> None:
    messages = {
        "guided": request(1, steps=60),
        "unguided": request(2, steps=80, guidance_scale=1.0),
        "negative": request(3, steps=70, guidance_scale=7.5, negative_prompts=["dog"]),
        "other prompt": request(4, steps=90, prompt="sky", guidance_scale=2.0),
    }
    expected = {name: await alone(chain, message) for name, message in messages.items()}
    running = {name: Running(chain, name, message) for name, message in messages.items()}
    for name, one in running.items():
        image = await one.task
        assert np.abs(pixels(image) - expected[name]).max() <= LEVELS
        assert image.decoder_stats.shared_forwards > 10
    assert forwards_with(chain, "guided", "unguided")
    assert forwards_with(chain, "guided", "negative")
    other_seed = await alone(chain, request(99, steps=60))
    assert np.abs(other_seed - expected["guided"]).mean() >= 5


async def test_joined_while_another_was_between_its_first_and_last_step(chain: Chain) -> None:
    expected = await alone(chain, request(1))
    other_seed = await alone(chain, request(2))
    assert np.abs(other_seed - expected).mean() >= 5
    early = Running(chain, "early", request(5, steps=400))
    await early.denoising.wait()
    late = Running(chain, "late", request(1))
    image, neighbour = await late.task, await early.task
    assert np.abs(pixels(image) - expected).max() <= LEVELS
    joined = forwards_with(chain, "early", "late")[0]
    assert joined["late"] == 0
    assert 0 < joined["early"] < 399
    assert image.decoder_stats.first_shared_forward == 0
    assert neighbour.decoder_stats.first_shared_forward > 0
    assert neighbour.decoder_stats.last_shared_forward < 399


async def test_neighbour_cancelled(chain: Chain) -> None:
    expected = await alone(chain, request(1, steps=300))
    neighbour = Running(chain, "neighbour", request(5, steps=900))
    await neighbour.denoising.wait()
    kept = Running(chain, "kept", request(1, steps=300))
    await kept.denoising.wait()
    neighbour.cancel()
    image = await kept.task
    assert np.abs(pixels(image) - expected).max() <= LEVELS
    together = forwards_with(chain, "neighbour", "kept")
    assert together
    assert together[-1]["kept"] < 299, "the neighbour stayed to the end"
    assert chain.stages.decoder.counters.abandoned == 1


async def test_images_of_one_request_share_forwards(chain: Chain) -> None:
    message = request(7)
    message.settings.images_per_prompt = 3
    images = (await chain.stub.TextToImageUnary(message)).images
    for index, image in enumerate(images):
        expected = await alone(chain, request(7 + index))
        assert np.abs(pixels(image) - expected).max() <= LEVELS
        assert image.decoder_stats.shared_forwards > 0
    assert np.abs(pixels(images[0]) - pixels(images[1])).mean() >= 5
