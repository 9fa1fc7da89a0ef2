"""What only a checkpoint can tell is refused by the stage, before any forward, by field path."""

import ml_dtypes
import numpy as np
import pytest

from kandinsky.v1 import decoder_pb2, encoders_pb2, prior_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason
from tests.services.conftest import StageStubs, fields
from tests.tiny import POSITIONS, WIDTH


def embedding(width: int = WIDTH, value: float = 0.1) -> tensor_pb2.Tensor:
    return tensors.encode(np.full(width, value, np.float32))


def decode_request() -> decoder_pb2.DecodeRequest:
    request = decoder_pb2.DecodeRequest()
    request.conditioning.image_embed.CopyFrom(embedding())
    request.conditioning.negative_image_embed.CopyFrom(embedding(value=0.0))
    request.sampling.steps, request.sampling.seed = 2, 0
    request.start.height = request.start.width = 64
    request.start.noise.SetInParent()
    return request


def prior_request() -> prior_pb2.SampleEmbeddingRequest:
    request = prior_pb2.SampleEmbeddingRequest()
    for side in ("", "negative_"):
        states = tensors.encode(np.zeros((POSITIONS, WIDTH), np.float32))
        getattr(request.conditioning, side + "text_embed").CopyFrom(embedding())
        getattr(request.conditioning, side + "text_states").CopyFrom(states)
        mask = tensors.encode(np.ones(POSITIONS, bool))
        getattr(request.conditioning, side + "text_mask").CopyFrom(mask)
    request.sampling.steps, request.sampling.seed = 2, 0
    return request


def set_path(message, path: str, value) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    if value is None:
        message.ClearField(last)
    elif isinstance(value, tensor_pb2.Tensor):
        getattr(message, last).CopyFrom(value)
    else:
        setattr(message, last, value)


BAD_DECODES = [
    ("conditioning.image_embed", None, "conditioning.image_embed"),
    ("conditioning.negative_image_embed", None, "conditioning.negative_image_embed"),
    ("conditioning.image_embed", embedding(WIDTH + 1), "conditioning.image_embed.shape"),
    (
        "conditioning.negative_image_embed",
        embedding(WIDTH + 1),
        "conditioning.negative_image_embed.shape",
    ),
    ("conditioning.image_embed", embedding(value=np.nan), "conditioning.image_embed.data"),
    ("sampling.steps", 0, "sampling.steps"),
    ("sampling.steps", 1001, "sampling.steps"),
    ("sampling.guidance_scale", float("nan"), "sampling.guidance_scale"),
    ("sampling.seed", None, "sampling.seed"),
    ("sampling.seed", -1, "sampling.seed"),
    ("sampling.scheduler", "nonsense", "sampling.scheduler"),
    ("start.height", 0, "start.height"),
    ("start.width", 72, "start.width"),
    ("start.noise.noise", embedding(), "start.noise.noise.shape"),
    ("generator_state", tensors.encode(np.zeros(3, np.uint8)), "generator_state.shape"),
]


@pytest.mark.parametrize(("path", "value", "field"), BAD_DECODES)
async def test_decode_refuses(stages: StageStubs, path: str, value, field: str) -> None:
    request = decode_request()
    set_path(request, path, value)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == [field]
    assert stages.host.decoder.counters.forwards == 0
    assert (await stages.decode(decode_request()))[-1].HasField("image")


BAD_PRIORS = [
    ("conditioning.text_embed", None, "conditioning.text_embed"),
    ("conditioning.negative_text_mask", None, "conditioning.negative_text_mask"),
    ("conditioning.text_states", embedding(), "conditioning.text_states.shape"),
    ("conditioning.text_mask", embedding(POSITIONS), "conditioning.text_mask.dtype"),
    ("sampling.steps", 1, "sampling.steps"),
    ("latents", embedding(WIDTH - 1), "latents.shape"),
]


@pytest.mark.parametrize(("path", "value", "field"), BAD_PRIORS)
async def test_sample_embedding_refuses(stages: StageStubs, path: str, value, field: str) -> None:
    request = prior_request()
    set_path(request, path, value)
    with pytest.raises(KandinskyError) as error:
        await stages.sample_embedding(request)
    assert fields(error.value) == [field]
    assert stages.host.prior.counters.forwards == 0
    assert (await stages.sample_embedding(prior_request()))[-1].HasField("embedding")


async def test_a_deadline_that_has_passed_ends_a_job(stages: StageStubs) -> None:
    with pytest.raises(KandinskyError) as error:
        await stages.decode(decode_request(), x_time_remaining_ms="0")
    assert error.value.reason is Reason.DEADLINE_EXCEEDED
    assert stages.host.decoder.counters.forwards == 0


async def test_a_text_over_the_token_limit_is_named(stages: StageStubs) -> None:
    request = encoders_pb2.EncodeTextRequest(texts=["cat", "a cat " * 10])
    with pytest.raises(KandinskyError) as error:
        await stages.encoders("EncodeText", request)
    assert fields(error.value) == ["texts[1]"]
    assert str(POSITIONS) in error.value.message


@pytest.mark.parametrize("texts", [[], ["a"] * 257])
async def test_the_number_of_texts_is_bounded(stages: StageStubs, texts: list[str]) -> None:
    with pytest.raises(KandinskyError) as error:
        await stages.encoders("EncodeText", encoders_pb2.EncodeTextRequest(texts=texts))
    assert fields(error.value) == ["texts"]


@pytest.mark.parametrize(
    ("pixels", "field"),
    [
        (np.zeros((4, 4), np.uint8), "pixels.shape"),
        (np.zeros((0, 4, 3), np.uint8), "pixels.shape"),
        (np.zeros((4, 4, 3), np.float32), "pixels.dtype"),
    ],
)
async def test_encode_image_refuses(stages: StageStubs, pixels: np.ndarray, field: str) -> None:
    request = encoders_pb2.EncodeImageRequest(pixels=tensors.encode(pixels))
    with pytest.raises(KandinskyError) as error:
        await stages.encoders("EncodeImage", request)
    assert fields(error.value) == [field]


async def test_latents_survive_the_autoencoder_in_any_precision(stages: StageStubs) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    latents = (
        await stages.decoder(
            "EncodeLatents", decoder_pb2.EncodeLatentsRequest(pixels=tensors.encode(pixels))
        )
    ).latents
    assert list(latents.shape) == [4, 8, 16]
    full = await stages.decoder("DecodeLatents", decoder_pb2.DecodeLatentsRequest(latents=latents))
    rounded = tensors.encode(tensors.decode(latents, "latents").astype(ml_dtypes.bfloat16))
    coarse = await stages.decoder(
        "DecodeLatents", decoder_pb2.DecodeLatentsRequest(latents=rounded)
    )
    one, other = (tensors.decode(answer.pixels, "pixels").astype(int) for answer in (full, coarse))
    assert one.shape == (64, 128, 3)
    assert np.abs(one - other).mean() < 2


async def test_sides_that_do_not_fit_the_autoencoder_are_named(stages: StageStubs) -> None:
    pixels = tensors.encode(np.zeros((60, 64, 3), np.uint8))
    with pytest.raises(KandinskyError) as error:
        await stages.decoder("EncodeLatents", decoder_pb2.EncodeLatentsRequest(pixels=pixels))
    assert fields(error.value) == ["pixels"]


async def test_embeddings_of_a_wrong_width_are_all_named(stages: StageStubs) -> None:
    request = decode_request()
    for name in ("image_embed", "negative_image_embed"):
        getattr(request.conditioning, name).CopyFrom(embedding(WIDTH + 1))
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert set(fields(error.value)) == {
        "conditioning.image_embed.shape",
        "conditioning.negative_image_embed.shape",
    }
