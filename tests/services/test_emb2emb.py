"""The prior moves an embedding toward a text, as the reference's Emb2Emb pipeline does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22PriorEmb2EmbPipeline

from kandinsky.v1 import encoders_pb2, prior_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError
from tests.services.asking import prior_request, random_tensor, row
from tests.services.conftest import StageStubs, fields
from tests.services.test_stage_inputs import set_path
from tests.tiny import WIDTH

START = random_tensor(WIDTH, seed=3)


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> KandinskyV22PriorEmb2EmbPipeline:
    return KandinskyV22PriorEmb2EmbPipeline.from_pretrained(tiny_checkpoint / "prior")


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
async def test_it_equals_the_reference(
    stages: StageStubs,
    pipeline: KandinskyV22PriorEmb2EmbPipeline,
    strength: float,
    guidance_scale: float,
) -> None:
    texts = await stages.encoders(
        "EncodeText", encoders_pb2.EncodeTextRequest(texts=["a red cat", ""])
    )
    request = prior_pb2.SampleEmbeddingRequest(start_embed=START, strength=strength)
    for side, encoding in zip(("", "negative_"), texts.encodings, strict=True):
        for part in ("text_embed", "text_states", "text_mask"):
            getattr(request.conditioning, side + part).CopyFrom(getattr(encoding.prior, part))
    request.sampling.steps, request.sampling.seed = 6, 9
    request.sampling.guidance_scale = guidance_scale
    expected = pipeline(
        "a red cat",
        image=row(START),
        strength=strength,
        num_inference_steps=6,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(9),
    ).image_embeds[0]
    events = await stages.sample_embedding(request)
    actual = tensors.to_torch(events[-1].embedding.image_embed, "embed")
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert events[-1].embedding.stats.forwards == int(6 * strength)


async def test_given_latents_are_the_noise(stages: StageStubs) -> None:
    request = prior_request()
    request.start_embed.CopyFrom(START)
    drawn = (await stages.sample_embedding(request))[-1].embedding.image_embed
    request.latents.CopyFrom(random_tensor(WIDTH, seed=8))
    given = (await stages.sample_embedding(request))[-1].embedding.image_embed
    assert np.abs(tensors.decode(drawn, "d") - tensors.decode(given, "g")).max() > 1e-3


BAD = [
    ("strength", 0.0, "strength"),
    ("strength", 0.1, "strength"),
    ("strength", 1.5, "strength"),
    ("strength", float("nan"), "strength"),
    ("start_embed", random_tensor(WIDTH + 1, seed=0), "start_embed.shape"),
    ("start_embed", None, "strength"),
    ("sampling.scheduler", "ddpm", "sampling.scheduler"),
    ("sampling.eta", 0.5, "sampling.eta"),
    ("sampling.progress_every", 0, "sampling.progress_every"),
]


@pytest.mark.parametrize(("field", "value", "path"), BAD)
async def test_bad_input_is_refused(stages: StageStubs, field: str, value, path: str) -> None:
    request = prior_request()
    request.start_embed.CopyFrom(START)
    request.strength = 0.5
    set_path(request, field, value)
    with pytest.raises(KandinskyError) as error:
        await stages.sample_embedding(request)
    assert fields(error.value) == [path]
    assert stages.host.prior.counters.forwards == 0
