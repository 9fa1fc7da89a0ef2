"""The encoders answer what the reference's encoders answer, and remember texts."""

import asyncio
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from diffusers import KandinskyV22PriorPipeline
from PIL import Image

from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason
from services.encoders.composed import ComposedEncoders
from tests.services.conftest import StageStubs
from tests.stagehost import host_stages


async def test_texts_and_images_equal_the_reference(
    stages: StageStubs, tiny_checkpoint: Path
) -> None:
    reference = KandinskyV22PriorPipeline.from_pretrained(tiny_checkpoint / "prior")
    texts = ["a red cat", "", "dog"]
    answer = await stages.encoders("EncodeText", encoders_pb2.EncodeTextRequest(texts=texts))
    embeds, states, masks = reference._encode_prompt(texts, "cpu", 1, False)
    for row, encoding in enumerate(answer.encodings):
        for name, expected in (
            ("text_embed", embeds[row]),
            ("text_states", states[row]),
            ("text_mask", masks[row]),
        ):
            actual = tensors.to_torch(getattr(encoding.prior, name), name)
            torch.testing.assert_close(actual, expected.detach(), atol=1e-5, rtol=1e-5)
    zero = tensors.to_torch(answer.zero_image_embed, "zero")
    torch.testing.assert_close(zero, reference.get_zero_embed()[0].detach())

    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    request = encoders_pb2.EncodeImageRequest(pixels=tensors.encode(pixels))
    actual = tensors.to_torch((await stages.encoders("EncodeImage", request)).image_embed, "image")
    values = reference.image_processor(Image.fromarray(pixels), return_tensors="pt").pixel_values
    expected = reference.image_encoder(values).image_embeds[0].detach()
    torch.testing.assert_close(actual, expected)
    assert not torch.allclose(actual, zero)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that the encoders are run on."""
    texts_seen: list[str] = []
    original = ComposedEncoders.encode_texts

    def recording(self, texts):
        texts_seen.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(ComposedEncoders, "encode_texts", recording)
    return texts_seen


async def test_a_text_is_encoded_once(stages: StageStubs, encoded: list[str]) -> None:
    for texts in (["cat", "dog"], ["dog", "cat", "cow"], ["cow", "cow"]):
        await stages.encoders("EncodeText", encoders_pb2.EncodeTextRequest(texts=texts))
    assert sorted(encoded) == ["cat", "cow", "dog"]


@pytest.mark.parametrize("other", ["Cat", "cat ", " cat", "ca t", "cát"])
async def test_a_text_that_differs_by_a_character_is_another(
    stages: StageStubs, encoded: list[str], other: str
) -> None:
    """Whether a tokenizer tells them apart is the checkpoint's business, not the cache's."""
    for texts in (["cat"], [other, "cat"]):
        await stages.encoders("EncodeText", encoders_pb2.EncodeTextRequest(texts=texts))
    assert encoded == ["cat", other]


async def test_one_thread_counts_and_pads(stages: StageStubs, monkeypatch) -> None:
    """A tokenizer keeps its padding as state: two threads would see each other's."""
    threads: dict[str, int] = {}
    for name in ("check_text", "encode_texts"):
        original = getattr(ComposedEncoders, name)

        def recording(self, *args, name=name, original=original):
            threads[name] = threading.get_ident()
            return original(self, *args)

        monkeypatch.setattr(ComposedEncoders, name, recording)
    await stages.encoders("EncodeText", encoders_pb2.EncodeTextRequest(texts=["cat"]))
    assert threads["check_text"] == threads["encode_texts"] != threading.get_ident()


async def test_a_full_queue_and_a_passed_deadline_are_refused(
    tiny_checkpoint: Path, monkeypatch
) -> None:
    entered, released = threading.Event(), threading.Event()
    original = ComposedEncoders.encode_texts

    def held(self, texts):
        entered.set()
        released.wait(30)
        return original(self, texts)

    monkeypatch.setattr(ComposedEncoders, "encode_texts", held)

    def text(name: str) -> encoders_pb2.EncodeTextRequest:
        return encoders_pb2.EncodeTextRequest(texts=[name])

    async with (
        host_stages("tiny", tiny_checkpoint, engine={"max_queue": 1}) as host,
        grpc.aio.insecure_channel(host.address) as channel,
    ):
        stages = StageStubs(channel, host)
        first = asyncio.create_task(stages.encoders("EncodeText", text("a cat")))
        await asyncio.to_thread(entered.wait)
        with pytest.raises(KandinskyError) as refusal:
            await stages.encoders("EncodeText", text("a dog"))
        assert refusal.value.reason is Reason.OVERLOADED
        assert refusal.value.retry_after > 0
        released.set()
        assert len((await first).encodings) == 1
        with pytest.raises(KandinskyError) as refusal:
            await stages.encoders("EncodeText", text("a cow"), x_time_remaining_ms="0")
        assert refusal.value.reason is Reason.DEADLINE_EXCEEDED
        assert len((await stages.encoders("EncodeText", text("a cow"))).encodings) == 1
