"""Runtime options change how networks run, not what they answer; none is dropped in silence."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from diffusers import PriorTransformer, UNet2DConditionModel
from pydantic import ValidationError
from torch._dynamo.backends.registry import _BACKENDS, register_backend
from transformers import CLIPTextModelWithProjection

from kandinsky.catalog.catalog import Stage
from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from services.decoder.families.kandinsky_2_2 import Kandinsky22Decoder
from services.runtime import OptionRefused, RuntimeOptions
from services.runtime_forward import Bucketed
from services.runtime_loading import Turns
from services.settings import StageSettings
from tests import tiny
from tests.services.asking import decode_request, drawn, picture, prior_request
from tests.services.conftest import StageStubs
from tests.stagehost import host_stages

Options = Mapping[str, Any]
STARTS = ("noise", "image", "masked_image")
"""Between them they pass the UNet, the inpainting UNet, and MoVQ both ways."""


@asynccontextmanager
async def running(
    folder: Path, stage: Stage, options: Options, model: str = "tiny"
) -> AsyncIterator[StageStubs]:
    async with (
        host_stages(model, folder, runtime={stage: options}) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host, model)


async def pictures(folder: Path, options: Options, model: str = "tiny") -> np.ndarray:
    """int [3, 64, 64, 3], one for each of STARTS."""
    async with running(folder, Stage.DECODER, options, model) as stages:
        return np.stack([drawn(await stages.decode(decode_request(start))) for start in STARTS])


async def embedding(folder: Path, options: Options, model: str = "tiny") -> torch.Tensor:
    async with running(folder, Stage.PRIOR, options, model) as stages:
        events = await stages.sample_embedding(prior_request())
    return tensors.to_torch(events[-1].embedding.image_embed, "image_embed")


async def encodings(folder: Path, options: Options, model: str = "tiny") -> list[torch.Tensor]:
    """Of a text and of a picture."""
    text = encoders_pb2.EncodeTextRequest(texts=["a red cat"])
    image = encoders_pb2.EncodeImageRequest(pixels=picture())
    async with running(folder, Stage.ENCODERS, options, model) as stages:
        prior = (await stages.encoders("EncodeText", text)).encodings[0].prior
        embed = (await stages.encoders("EncodeImage", image)).image_embed
    found = {"text_embed": prior.text_embed, "states": prior.text_states, "image": embed}
    return [tensors.to_torch(value, name).float() for name, value in found.items()]


@pytest.fixture(scope="module")
def plain_pictures(tiny_checkpoint: Path) -> np.ndarray:
    return asyncio.run(pictures(tiny_checkpoint, {}))


@pytest.fixture(scope="module")
def plain_embedding(tiny_checkpoint: Path) -> torch.Tensor:
    return asyncio.run(embedding(tiny_checkpoint, {}))


@pytest.fixture(scope="module")
def plain_encodings(tiny_checkpoint: Path) -> list[torch.Tensor]:
    return asyncio.run(encodings(tiny_checkpoint, {}))


@pytest.fixture
def offload_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets offloading onto the CPU through, where it moves nothing but runs all its hooks."""
    monkeypatch.setattr(RuntimeOptions, "check", lambda *_: None)


@pytest.fixture
def seen_rows() -> Iterator[list[int]]:
    """The rows of every forward that reaches what backend `recording` has compiled."""
    seen: list[int] = []

    def recording(graph: torch.fx.GraphModule, _: object) -> Any:
        def forward(*arguments: Any) -> Any:
            latents = [value for value in arguments if tuple(value.shape[1:]) == (4, 8, 8)]
            seen.append(len(latents[0]))
            return graph(*arguments)

        return forward

    register_backend(recording, name="recording")
    yield seen
    del _BACKENDS["recording"]


def settings(folder: Path, **runtime: Any) -> StageSettings:
    return StageSettings.parse({"model": "tiny", "catalog": [str(folder)], "runtime": runtime})


@pytest.mark.parametrize(
    "options",
    [{"channels_last": True}, {"attention": "sdpa"}, {"attention": "sliced"}],
    ids=str,
)
async def test_the_decoder_draws_the_same(
    tiny_checkpoint: Path, plain_pictures: np.ndarray, options: Options
) -> None:
    difference = await pictures(tiny_checkpoint, options) - plain_pictures
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"fuse_qkv": True},
        {"attention": "sliced"},
        {"compile": True, "compile_backend": "aot_eager", "row_buckets": [4]},
    ],
    ids=str,
)
async def test_the_prior_ends_the_same(
    tiny_checkpoint: Path, plain_embedding: torch.Tensor, options: Options
) -> None:
    torch.testing.assert_close(
        await embedding(tiny_checkpoint, options), plain_embedding, atol=1e-4, rtol=1e-4
    )


async def test_a_compiled_decoder_draws_the_same(
    tiny_checkpoint: Path, plain_pictures: np.ndarray
) -> None:
    options = {"compile": True, "compile_backend": "aot_eager", "channels_last": True}
    async with running(tiny_checkpoint, Stage.DECODER, options) as stages:
        actual = drawn(await stages.decode(decode_request("noise")))
    assert np.abs(actual - plain_pictures[STARTS.index("noise")]).max() <= 1


async def test_a_compiled_network_sees_bucket_sizes_alone(
    tiny_checkpoint: Path, seen_rows: list[int]
) -> None:
    requests = [decode_request("noise", seed) for seed in (4, 5, 6)]
    requests[0].sampling.guidance_scale = 1
    options = {"compile": True, "compile_backend": "recording", "row_buckets": [3, 8]}
    async with running(tiny_checkpoint, Stage.DECODER, {}) as stages:
        alone = [drawn(await stages.decode(request)) for request in requests]
    async with running(tiny_checkpoint, Stage.DECODER, options) as stages:
        assert np.abs(drawn(await stages.decode(requests[0])) - alone[0]).max() <= 1
        together = await asyncio.gather(*(stages.decode(request) for request in requests))
        given = [step.rows for step in stages.host.decoder.counters.trace if step.network == "unet"]
    assert {1, 5} <= set(given)
    assert seen_rows == [3 if rows <= 3 else 8 for rows in given]
    for events, expected in zip(together, alone, strict=True):
        assert np.abs(drawn(events) - expected).max() <= 1


@pytest.mark.parametrize(("rows", "bucket"), [(1, 2), (2, 2), (3, 5), (5, 5), (6, 10), (11, 15)])
def test_rows_are_padded_with_the_last(rows: int, bucket: int) -> None:
    seen: list[dict[str, Any]] = []

    def network(**arguments: Any) -> tuple[torch.Tensor, ...]:
        seen.append(arguments)
        return (arguments["sample"] + arguments["added"]["image_embeds"],)

    sample, embeds = torch.randn(rows, 4), torch.randn(rows, 4)
    output = Bucketed(network, (2, 5))(
        sample=sample, text=None, added={"image_embeds": embeds}, return_dict=False
    )
    torch.testing.assert_close(output, (sample + embeds,))
    padded = [seen[0]["sample"], seen[0]["added"]["image_embeds"]]
    assert [len(tensor) for tensor in padded] == [bucket, bucket]
    assert padded[1][rows:].equal(embeds[-1:].expand(bucket - rows, 4))
    assert seen[0]["text"] is None and seen[0]["return_dict"] is False


def test_pictures_and_weights_have_the_same_layout(tiny_checkpoint: Path) -> None:
    chosen = settings(tiny_checkpoint, channels_last=True)
    decoder = Kandinsky22Decoder(chosen.loader(Stage.DECODER), chosen.inpaint_loader())
    laid_out: list[bool] = []

    def note(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        for tensor in (arguments[0], module.weight):
            laid_out.append(tensor.is_contiguous(memory_format=torch.channels_last))

    movq = decoder._movq._decode.movq
    for module in (decoder._network.unet.conv_in, movq.encoder.conv_in, movq.post_quant_conv):
        module.register_forward_pre_hook(note)
    with torch.inference_mode():
        latents, pixels = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 64, 64)
        embeds = torch.randn(2, tiny.WIDTH)
        decoder._network(latents, torch.tensor([5, 9]), {"image_embed": embeds})
        decoder._movq._decode(latents, torch.zeros(2), {})
        decoder._movq._encode(pixels, torch.zeros(2), {})
    assert laid_out == [True] * 6


def test_the_prior_s_projections_are_fused(tiny_checkpoint: Path) -> None:
    loader = settings(tiny_checkpoint, fuse_qkv=True).loader(Stage.PRIOR)
    attention = loader.model(PriorTransformer, "prior").transformer_blocks[0].attn1
    assert attention.fused_projections
    assert type(attention.processor).__name__ == "FusedAttnProcessor2_0"


@pytest.mark.parametrize("attention", [None, "sdpa", "sliced"])
def test_attention_is_sliced_where_asked_for_alone(
    tiny_checkpoint: Path, attention: str | None
) -> None:
    """Slices answer the same, so that only the processors show that the option was followed."""
    chosen = settings(tiny_checkpoint, attention=attention)
    decoder = Kandinsky22Decoder(chosen.loader(Stage.DECODER), chosen.inpaint_loader())
    prior = chosen.loader(Stage.PRIOR).model(PriorTransformer, "prior")
    for network in (decoder._network.unet, decoder._inpaint.unet, prior):
        names = [type(used).__name__ for used in network.attn_processors.values()]
        assert names
        assert {name.startswith("Sliced") for name in names} == {attention == "sliced"}, names


async def test_bfloat16_stays_close(
    tiny_checkpoint: Path,
    plain_pictures: np.ndarray,
    plain_embedding: torch.Tensor,
    plain_encodings: list[torch.Tensor],
) -> None:
    options = {"dtype": "bfloat16"}
    difference = np.abs(await pictures(tiny_checkpoint, options) - plain_pictures)
    assert 0 < difference.mean() < 8  # of 255; random weights make a rounding grow
    pairs = [(await embedding(tiny_checkpoint, options), plain_embedding)]
    pairs += zip(await encodings(tiny_checkpoint, options), plain_encodings, strict=True)
    for actual, expected in pairs:
        assert 0 < (actual - expected).abs().max() < 0.1


def test_dtype_stands_in_for_the_entry_s(tiny_checkpoint: Path) -> None:
    chosen = settings(tiny_checkpoint, dtype="float64")
    assert chosen.entry.dtype == "float32"
    unet = chosen.inpaint_loader().model(UNet2DConditionModel, "unet")
    text_encoder = chosen.loader(Stage.ENCODERS).model(CLIPTextModelWithProjection, "text_encoder")
    assert unet.dtype is text_encoder.dtype is torch.float64


@pytest.mark.parametrize("offload", ["model", "sequential"])
@pytest.mark.usefixtures("offload_anywhere")
async def test_offloaded_networks_answer_the_same(
    tiny_checkpoint: Path,
    plain_pictures: np.ndarray,
    plain_encodings: list[torch.Tensor],
    offload: str,
) -> None:
    options = {"offload": offload}
    assert np.array_equal(await pictures(tiny_checkpoint, options), plain_pictures)
    torch.testing.assert_close(await encodings(tiny_checkpoint, options), plain_encodings)


@pytest.mark.usefixtures("offload_anywhere")
async def test_a_compiled_network_can_be_offloaded(
    tiny_checkpoint: Path, plain_embedding: torch.Tensor
) -> None:
    options = {"offload": "model", "compile": True, "compile_backend": "eager"}
    torch.testing.assert_close(await embedding(tiny_checkpoint, options), plain_embedding)


class Located(torch.nn.Identity):
    """A network that knows the devices it was moved to."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def to(self, device: object) -> "Located":
        self.devices.append(str(device))
        return self


def test_one_network_at_a_time_lies_on_the_device() -> None:
    turns, networks = Turns(), [Located() for _ in range(3)]
    for network in networks:
        turns.join(network, torch.device("cuda"))
    for index in (0, 0, 2, 1, 0):
        networks[index](torch.zeros(1))
        where = [network.devices[-1] for network in networks]
        assert where == ["cuda" if other == index else "cpu" for other in range(3)]
    assert networks[0].devices == ["cpu", "cuda", "cpu", "cuda"]


def test_unknown_keys_and_values_are_named(tiny_checkpoint: Path) -> None:
    for key, value in (
        ("compyle", True),
        ("dtype", "int8"),
        ("attention", "flash"),
        ("offload", "disk"),
        ("row_buckets", [0, 2]),
    ):
        with pytest.raises(ValidationError, match=rf"runtime\.{key}"):
            settings(tiny_checkpoint, **{key: value})
    for buckets in ([], [4, 2], [2, 2]):
        with pytest.raises(ValidationError, match="row_buckets must be one or more ascending"):
            settings(tiny_checkpoint, row_buckets=buckets)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"cuda_graphs": True, "offload": "model"}, "cuda_graphs and offload: model"),
        ({"cuda_graphs": True, "offload": "sequential"}, "cuda_graphs and offload: sequential"),
        ({"compile": True, "offload": "sequential"}, "compile and offload: sequential"),
        (
            {"compile": True, "cuda_graphs": True, "compile_backend": "eager"},
            "cuda_graphs and compile_backend: eager",
        ),
        ({"fuse_qkv": True, "attention": "sliced"}, "fuse_qkv and attention: sliced"),
        ({"fuse_qkv": True, "attention": "xformers"}, "fuse_qkv and attention: xformers"),
    ],
)
def test_contradictions_are_refused(tiny_checkpoint: Path, options: Options, keys: str) -> None:
    with pytest.raises(ValidationError, match=f"{keys} contradict each other"):
        settings(tiny_checkpoint, **options)


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        (Stage.DECODER, {"cuda_graphs": True}, "cuda_graphs needs a CUDA device; this one is cpu"),
        (Stage.DECODER, {"offload": "model"}, "offload: model needs an accelerator"),
        (Stage.ENCODERS, {"offload": "sequential"}, "offload: sequential needs an accelerator"),
        (Stage.PRIOR, {"offload": "model"}, "the prior stage cannot do runtime.offload"),
        (Stage.PRIOR, {"channels_last": True}, "the prior stage cannot do runtime.channels_last"),
        (Stage.ENCODERS, {"compile": True}, "the encoders stage cannot do runtime.compile"),
        (Stage.ENCODERS, {"attention": "sliced"}, "the encoders stage cannot do runtime.attention"),
    ],
)
def test_what_a_stage_cannot_is_refused_before_it_loads(
    tiny_checkpoint: Path, stage: Stage, options: Options, message: str
) -> None:
    with pytest.raises(OptionRefused, match=message):
        settings(tiny_checkpoint, **options).loader(stage)


@pytest.mark.parametrize(
    ("installed", "message"),
    [(False, "needs the package xformers, which is not installed"), (True, "needs a CUDA device")],
)
def test_xformers_is_refused_where_it_cannot_run(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, message: str
) -> None:
    monkeypatch.setattr("services.runtime.is_xformers_available", lambda: installed)
    with pytest.raises(OptionRefused, match=f"runtime.attention: xformers {message}"):
        settings(tiny_checkpoint, attention="xformers").loader(Stage.DECODER)


def test_a_network_that_cannot_be_fused_is_named(tiny_checkpoint: Path) -> None:
    loader = settings(tiny_checkpoint, fuse_qkv=True).loader(Stage.DECODER)
    with pytest.raises(OptionRefused, match="fuse_qkv: diffusers cannot fuse this UNet2DCondition"):
        Kandinsky22Decoder(loader)


def test_an_unknown_backend_is_named_at_start(tiny_checkpoint: Path) -> None:
    loader = settings(tiny_checkpoint, compile=True, compile_backend="tpu").loader(Stage.DECODER)
    with pytest.raises(OptionRefused, match="compile_backend: tpu is none of"):
        Kandinsky22Decoder(loader)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "options",
    [
        {"channels_last": True},
        {"compile": True, "row_buckets": [4]},
        {"cuda_graphs": True, "row_buckets": [4]},
        {"compile": True, "cuda_graphs": True, "row_buckets": [4]},
        {"offload": "model"},
        {"offload": "model", "compile": True, "row_buckets": [4]},
        {"offload": "sequential"},
    ],
    ids=str,
)
async def test_a_gpu_draws_the_same(tiny_checkpoint: Path, options: Options) -> None:
    entry = tiny.CATALOG_ENTRY.replace("device: cpu", "device: cuda")
    tiny.write_catalog(tiny_checkpoint, "tiny-cuda", "float64", entry)  # so that rounding is small
    expected = await pictures(tiny_checkpoint, {}, "tiny-cuda")
    difference = await pictures(tiny_checkpoint, options, "tiny-cuda") - expected
    assert np.abs(difference).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", ["model", "sequential"])
async def test_a_gpu_encodes_the_same(tiny_checkpoint: Path, offload: str) -> None:
    entry = tiny.CATALOG_ENTRY.replace("device: cpu", "device: cuda")
    tiny.write_catalog(tiny_checkpoint, "tiny-cuda", "float64", entry)
    expected = await encodings(tiny_checkpoint, {}, "tiny-cuda")
    actual = await encodings(tiny_checkpoint, {"offload": offload}, "tiny-cuda")
    torch.testing.assert_close(actual, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
async def test_xformers_draws_nearly_the_same(tiny_checkpoint: Path) -> None:
    pytest.importorskip("xformers")
    entry = tiny.CATALOG_ENTRY.replace("device: cpu", "device: cuda")
    tiny.write_catalog(tiny_checkpoint, "tiny-half", "float16", entry)
    expected = await pictures(tiny_checkpoint, {}, "tiny-half")
    difference = await pictures(tiny_checkpoint, {"attention": "xformers"}, "tiny-half") - expected
    assert np.abs(difference).mean() < 8
