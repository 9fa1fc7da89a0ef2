"""The encoders answer what the reference's encoders answer, and remember texts."""

import asyncio
from pathlib import Path

import numpy as np
import torch
from diffusers import KandinskyV22PriorPipeline
from PIL import Image

from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from tests.services.conftest import StageStubs


async def test_texts_and_pictures_equal_the_reference(
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

    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    request = encoders_pb2.EncodeImageRequest(pixels=tensors.encode(picture))
    actual = tensors.to_torch((await stages.encoders("EncodeImage", request)).image_embed, "image")
    values = reference.image_processor(Image.fromarray(picture), return_tensors="pt").pixel_values
    expected = reference.image_encoder(values).image_embeds[0].detach()
    torch.testing.assert_close(actual, expected)
    assert not torch.allclose(actual, zero)


async def test_a_text_is_encoded_once(stages: StageStubs, monkeypatch) -> None:
    from services.encoders.families.kandinsky_2_2 import Kandinsky22Encoders

    encoded: list[str] = []
    original = Kandinsky22Encoders.encode_texts

    def recording(self, texts):
        encoded.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(Kandinsky22Encoders, "encode_texts", recording)
    for texts in (["cat", "dog"], ["dog", "cat", "cow"], ["cow", "cow"]):
        await stages.encoders("EncodeText", encoders_pb2.EncodeTextRequest(texts=texts))
    assert sorted(encoded) == ["cat", "cow", "dog"]


async def test_calls_that_come_together_do_not_disturb_each_others_tokenizer(
    stages: StageStubs,
) -> None:
    """Counting tokens and padding them both set the tokenizer's state; they must take turns."""
    texts = ["a" * (1 + number % 9) + "bcdefghi"[number // 9] for number in range(72)]
    requests = [encoders_pb2.EncodeTextRequest(texts=[text, f"{text} x"]) for text in texts]
    answers = await asyncio.gather(*(stages.encoders("EncodeText", r) for r in requests))
    assert all(len(answer.encodings) == 2 for answer in answers)
