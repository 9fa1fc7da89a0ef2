"""The whole system as its users meet it: Serve's proxy, three stages, gateway, client."""

from collections.abc import Iterable
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky import KandinskyError
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.client import Client, requests
from kandinsky.v1 import (
    decoder_pb2,
    decoder_pb2_grpc,
    encoders_pb2,
    encoders_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    prior_pb2,
    prior_pb2_grpc,
    sampling_pb2,
    tensor_pb2,
)
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import Reason, from_rpc_error
from tests.endtoend.conftest import System
from tests.endtoend.engines import Engines, Stats

PROMPT = "a red circle on a blue background"


GOOD = {
    "model": "shapes",
    "guide": {"text": {"prompts": [PROMPT]}},
    "seed": 1,
    "prior": {"steps": 4},
    "decoder": {"steps": 4},
}


def request(**changes: Any) -> generation_pb2.GenerateRequest:
    """A good request with some fields replaced, and some of `prior` and `decoder`."""
    parts = {name: {**GOOD[name], **changes.pop(name, {})} for name in ("prior", "decoder")}
    return generation_pb2.GenerateRequest(**{**GOOD, **changes, **parts})


def texts(*prompts: str) -> dict[str, Any]:
    return {"guide": {"text": {"prompts": prompts}}}


LYING = tensor_pb2.Tensor(dtype=tensor_pb2.D_TYPE_FLOAT32, shape=[1, 4, 16, 16], data=b"\0" * 12)

BAD = {
    "empty prompt": (texts(""), "guide.text.prompts[0]"),
    "second prompt empty": (texts(PROMPT, " "), "guide.text.prompts[1]"),
    "over the token limit": (texts(PROMPT, "a " * 60), "guide.text.prompts[1]"),
    "negative over the token limit": ({"negative": {"texts": ["a " * 60]}}, "negative.texts[0]"),
    "height 0": ({"decoder": {"height": 0}}, "decoder.height"),
    "height 7": ({"decoder": {"height": 7}}, "decoder.height"),
    "width 520": ({"decoder": {"width": 520}}, "decoder.width"),
    "width 10**9": ({"decoder": {"width": 10**9}}, "decoder.width"),
    "NaN guidance": ({"decoder": {"guidance_scale": float("nan")}}, "decoder.guidance_scale"),
    "NaN prior guidance": ({"prior": {"guidance_scale": float("nan")}}, "prior.guidance_scale"),
    "-1 steps": ({"decoder": {"steps": -1}}, "decoder.steps"),
    "one prior step": ({"prior": {"steps": 1}}, "prior.steps"),
    "10**6 images": ({"images_per_prompt": 10**6}, "images_per_prompt"),
    "unknown format": ({"output": {"format": 77}}, "output.format"),
    "lying tensor": ({"decoder": {"latents": LYING}}, "decoder.latents.data"),
}


@pytest.fixture(scope="module")
def stub(system: System):
    with grpc.insecure_channel(system.gateway, options=OPTIONS) as channel:
        yield generation_pb2_grpc.GenerationServiceStub(channel)


@pytest.mark.parametrize(("changes", "field"), BAD.values(), ids=BAD.keys())
def test_bad_input_names_its_field_and_the_next_request_is_served(stub, changes, field) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        stub.GenerateImages(request(**changes))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(refusal.value)
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [field]
    assert "Traceback" not in refusal.value.details()
    assert len(stub.GenerateImages(request()).images) == 1


def test_an_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(KandinskyError) as error:
        client.text_to_image(PROMPT, model="nonsense")
    assert error.value.reason is Reason.MODEL_NOT_FOUND
    assert "shapes" in error.value.metadata["served"]


def test_an_image_is_the_same_alone_and_in_company(client: Client) -> None:
    [alone] = client.text_to_image(PROMPT, model="shapes", seed=3)
    company = client.text_to_image([PROMPT] * 6, model="shapes", seed=1)
    assert company[2].seed == 3
    assert company[2].stats["decoder"].shared_forwards > 0
    difference = np.abs(np.asarray(alone.image, int) - np.asarray(company[2].image, int))
    assert difference.max() <= 1
    other = np.abs(np.asarray(alone.image, int) - np.asarray(company[3].image, int))
    assert other.mean() >= 5


def test_progress_names_every_phase(client: Client) -> None:
    phases = []
    client.text_to_image(
        PROMPT, model="shapes", seed=1, on_progress=lambda progress: phases.append(progress.phase)
    )
    assert list(dict.fromkeys(phases)) == ["prior", "denoise", "decode"]


@pytest.fixture(scope="module")
def engines(system: System) -> Engines:
    return Engines(system.stages)


def dropped(stats: Stats) -> int:
    """Jobs whose caller had gone, whose time was up, or was too short from the start."""
    return sum(one.abandoned + one.expired + one.refused for one in stats.values())


def ended(stats: Iterable[sampling_pb2.EngineStats]) -> int:
    """Jobs that have left their batch, done or not."""
    return sum(one.finished + one.abandoned for one in stats)


@pytest.mark.parametrize(("stage", "phase"), [(Stage.PRIOR, "prior"), (Stage.DECODER, "denoise")])
def test_a_cancelled_request_leaves_every_stage_within_one_step(
    client: Client, engines: Engines, stage: Stage, phase: str
) -> None:
    before = engines.stats(stage).values()
    request = requests.text_to_image(
        [PROMPT] * 4, steps=250, prior_steps=250 if phase == "prior" else 4, seed=1
    )
    stream = client.stream(request)
    working = set()
    for event in stream:
        if getattr(event, "phase", "") == phase and event.step < event.steps:
            working.add(event.index)
        if len(working) == 4:
            break
    stream.close()
    gone = engines.until(stage, lambda stats: ended(stats.values()) >= ended(before) + 4)
    # On a busy machine one of them may have come to its own end before the cancel did.
    assert sum(one.abandoned for one in gone.values()) > sum(one.abandoned for one in before)
    assert max(one.cancel_steps_max for one in gone.values()) <= 1
    assert sum(one.running + one.waiting for one in gone.values()) == 0


@pytest.mark.parametrize("stage", [Stage.PRIOR, Stage.DECODER])
def test_a_deadline_ends_the_work_within_one_step(
    client: Client, engines: Engines, stage: Stage
) -> None:
    """Time enough for one image alone, so that all are let in, and too little for 24."""
    longer = {Stage.PRIOR: {"prior_steps": 250}, Stage.DECODER: {"steps": 250, "prior_steps": 4}}
    [alone] = client.text_to_image(PROMPT, model="shapes", **longer[stage])
    before = dropped(engines.stats(stage))
    with pytest.raises(KandinskyError) as error:
        client.text_to_image(
            [PROMPT] * 24, model="shapes", timeout=1.5 * alone.elapsed, **longer[stage]
        )
    assert error.value.reason in (Reason.DEADLINE_EXCEEDED, Reason.OVERLOADED)
    gone = engines.until(
        stage, lambda stats: not sum(one.running + one.waiting for one in stats.values())
    )
    assert dropped(gone) > before
    assert max(one.cancel_steps_max for one in gone.values()) <= 1


def test_two_clients_share_forwards(system: System, client: Client) -> None:
    first = client.stream(requests.text_to_image(PROMPT, steps=250, guidance_scale=4.0, seed=1))
    for event in first:
        if getattr(event, "phase", "") == "denoise":
            break
    with Client(system.gateway, timeout=120) as other:
        [second] = other.text_to_image(PROMPT, steps=20, guidance_scale=1.0, seed=1)
    *_, last = first
    for image in (last, second):
        assert image.stats["decoder"].shared_forwards > 0


def test_stages_are_useful_alone(system: System) -> None:
    """Encode once, sample once, decode as often as one likes; each stage by its own RPC."""
    entry = Catalog.load()["shapes"]

    def to(stage: Stage):
        return [("application", entry.application(stage))]

    with grpc.insecure_channel(system.stages, options=OPTIONS) as channel:
        encoders = encoders_pb2_grpc.EncoderServiceStub(channel)
        texts = encoders.EncodeText(
            encoders_pb2.EncodeTextRequest(texts=[PROMPT, ""]), metadata=to(Stage.ENCODERS)
        )
        job = prior_pb2.SampleEmbeddingRequest()
        job.sampling.steps, job.sampling.seed = 10, 0
        for side, encoding in zip(("", "negative_"), texts.encodings, strict=True):
            for part in ("text_embed", "text_states", "text_mask"):
                getattr(job.conditioning, side + part).CopyFrom(getattr(encoding.prior, part))
        prior = prior_pb2_grpc.PriorServiceStub(channel)
        *_, sampled = prior.SampleEmbedding(job, metadata=to(Stage.PRIOR))
        decode = decoder_pb2.DecodeRequest()
        decode.conditioning.image_embed.CopyFrom(sampled.embedding.image_embed)
        decode.conditioning.negative_image_embed.CopyFrom(texts.zero_image_embed)
        decode.sampling.steps = 10
        decode.start.height = decode.start.width = 128
        decode.start.noise.SetInParent()
        decoder = decoder_pb2_grpc.DecoderServiceStub(channel)
        images = []
        for seed in (1, 2):
            decode.sampling.seed = seed
            *_, last = decoder.Decode(decode, metadata=to(Stage.DECODER))
            images.append(tensors.decode(last.image.tensor, "image"))
        latents = decoder.EncodeLatents(
            decoder_pb2.EncodeLatentsRequest(pixels=tensors.encode(images[0])),
            metadata=to(Stage.DECODER),
        ).latents
        again = decoder.DecodeLatents(
            decoder_pb2.DecodeLatentsRequest(latents=latents), metadata=to(Stage.DECODER)
        ).pixels
    assert images[0].shape == (128, 128, 3)
    assert np.abs(images[0].astype(int) - images[1].astype(int)).mean() > 5
    round_trip = tensors.decode(again, "pixels").astype(int)
    assert np.abs(round_trip - images[0].astype(int)).mean() < 10


def test_a_stage_error_reaches_its_caller_whole_through_serve(system: System) -> None:
    entry = Catalog.load()["shapes"]
    with grpc.insecure_channel(system.stages) as channel:
        decoder = decoder_pb2_grpc.DecoderServiceStub(channel)
        metadata = [("application", entry.application(Stage.DECODER))]
        with pytest.raises(grpc.RpcError) as stream:
            list(decoder.Decode(decoder_pb2.DecodeRequest(), metadata=metadata))
        with pytest.raises(grpc.RpcError) as unary:
            decoder.DecodeLatents(decoder_pb2.DecodeLatentsRequest(), metadata=metadata)
        path = "/kandinsky.v1.DecoderService"
        with pytest.raises(grpc.RpcError) as undecodable:
            list(channel.unary_stream(f"{path}/Decode")(b"\x0a\x05", metadata=metadata))
        with pytest.raises(grpc.RpcError) as undecodable_unary:
            channel.unary_unary(f"{path}/DecodeLatents")(b"\x0a\x05", metadata=metadata)
    for raised in (stream.value, unary.value, undecodable.value, undecodable_unary.value):
        error = from_rpc_error(raised)
        assert error.reason is Reason.INVALID_FIELD
        assert error.violations
        assert "Traceback" not in raised.details()
