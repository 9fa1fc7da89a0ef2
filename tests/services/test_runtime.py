"""Runtime options change how networks run, not what they answer; none is dropped in silence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.backends.registry import _BACKENDS, register_backend
from transformers import CLIPTextModelWithProjection

from kandinsky.catalog.family import Stage
from services.loading.denoising_call import Bucketed
from tests import tiny
from tests.services.answers import (
    STARTS,
    Options,
    decoded_images,
    embedding,
    encodings,
    running,
    settings,
)
from tests.services.asking import decode_request, drawn
from tests.stagehost import load_family


@pytest.fixture
def seen_rows() -> Iterator[list[int]]:
    """The rows of every forward of a UNet that reaches what backend `recording` has compiled."""
    seen: list[int] = []

    def recording(graph: torch.fx.GraphModule, _: object) -> Any:
        def forward(*arguments: Any) -> Any:
            # The number of rows comes as a number, since one graph serves any.
            tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
            latents = [value for value in tensors if tuple(value.shape[1:]) == (4, 8, 8)]
            rows = len(latents[0])
            if any(tuple(value.shape) == (rows, tiny.WIDTH) for value in tensors):
                seen.append(rows)  # the autoencoder's pass has no embedding
            return graph(*arguments)

        return forward

    register_backend(recording, name="recording")
    yield seen
    del _BACKENDS["recording"]


@pytest.mark.parametrize(
    "options",
    [{"channels_last": True}, {"attention": "sdpa"}, {"attention": "sliced"}],
    ids=str,
)
async def test_the_decoder_draws_the_same(
    tiny_checkpoint: Path, plain_images: np.ndarray, options: Options
) -> None:
    difference = await decoded_images(tiny_checkpoint, options) - plain_images
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
    tiny_checkpoint: Path, plain_images: np.ndarray
) -> None:
    options = {"compile": True, "compile_backend": "aot_eager", "channels_last": True}
    async with running(tiny_checkpoint, Stage.DECODER, options) as stages:
        actual = drawn(await stages.decode(decode_request("noise")))
    assert np.abs(actual - plain_images[STARTS.index("noise")]).max() <= 1


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
        together = await stages.decode_together(**dict(zip("abc", requests, strict=True)))
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


def test_images_and_weights_have_the_same_layout(tiny_checkpoint: Path) -> None:
    chosen = settings(tiny_checkpoint, channels_last=True)
    decoder = load_family(chosen, Stage.DECODER)
    laid_out: list[bool] = []

    def note(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        for tensor in (arguments[0], module.weight):
            laid_out.append(tensor.is_contiguous(memory_format=torch.channels_last))

    unet, movq = decoder.denoiser.network, decoder.autoencoder._decode.movq
    for module in (unet.unet.conv_in, movq.encoder.conv_in, movq.post_quant_conv):
        module.register_forward_pre_hook(note)
    with torch.inference_mode():
        latents, pixels = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 64, 64)
        embeds = torch.randn(2, tiny.WIDTH)
        unet(latents, torch.tensor([5, 9]), {"image_embed": embeds})
        decoder.autoencoder._decode(latents, torch.zeros(2), {})
        decoder.autoencoder._encode(pixels, torch.zeros(2), {})
    assert laid_out == [True] * 6


def test_the_prior_s_projections_are_fused(tiny_checkpoint: Path) -> None:
    prior = load_family(settings(tiny_checkpoint, fuse_qkv=True), Stage.PRIOR)
    attention = prior.network.transformer.transformer_blocks[0].attn1
    assert attention.fused_projections
    assert type(attention.processor).__name__ == "FusedAttnProcessor2_0"


@pytest.mark.parametrize("attention", [None, "sdpa", "sliced"])
def test_attention_is_sliced_where_asked_for_alone(
    tiny_checkpoint: Path, attention: str | None
) -> None:
    """Slices answer the same, so that only the processors show that the option was followed."""
    chosen = settings(tiny_checkpoint, attention=attention)
    decoder = load_family(chosen, Stage.DECODER)
    prior = load_family(chosen, Stage.PRIOR)
    networks = (decoder.denoiser.network.unet, decoder.inpainter.network.unet)
    for network in (*networks, prior.network.transformer):
        names = [type(used).__name__ for used in network.attn_processors.values()]
        assert names
        assert {name.startswith("Sliced") for name in names} == {attention == "sliced"}, names


async def test_bfloat16_stays_close(
    tiny_checkpoint: Path,
    plain_images: np.ndarray,
    plain_embedding: torch.Tensor,
    plain_encodings: list[torch.Tensor],
) -> None:
    options = {"dtype": "bfloat16"}
    difference = np.abs(await decoded_images(tiny_checkpoint, options) - plain_images)
    assert 0 < difference.mean() < 8  # of 255; random weights make a rounding grow
    pairs = [(await embedding(tiny_checkpoint, options), plain_embedding)]
    pairs += zip(await encodings(tiny_checkpoint, options), plain_encodings, strict=True)
    for actual, expected in pairs:
        assert 0 < (actual - expected).abs().max() < 0.1


def test_dtype_stands_in_for_the_entry_s(tiny_checkpoint: Path) -> None:
    chosen = settings(tiny_checkpoint, dtype="float64")
    assert chosen.entry.dtype == "float32"
    unet = chosen.loaders(Stage.DECODER)["inpaint"].model(UNet2DConditionModel, "unet")
    encoders = chosen.loaders(Stage.ENCODERS)["weights"]
    text_encoder = encoders.model(CLIPTextModelWithProjection, "text_encoder")
    assert unet.dtype is text_encoder.dtype is torch.float64


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
        {"offload": "group"},
    ],
    ids=str,
)
async def test_a_gpu_draws_the_same(tiny_checkpoint: Path, options: Options) -> None:
    entry = tiny.CATALOG_ENTRY.replace("device: cpu", "device: cuda")
    tiny.write_catalog(tiny_checkpoint, "tiny-cuda", "float64", entry)  # so that rounding is small
    expected = await decoded_images(tiny_checkpoint, {}, "tiny-cuda")
    difference = await decoded_images(tiny_checkpoint, options, "tiny-cuda") - expected
    assert np.abs(difference).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
async def test_xformers_draws_nearly_the_same(tiny_checkpoint: Path) -> None:
    pytest.importorskip("xformers")
    entry = tiny.CATALOG_ENTRY.replace("device: cpu", "device: cuda")
    tiny.write_catalog(tiny_checkpoint, "tiny-half", "float16", entry)
    expected = await decoded_images(tiny_checkpoint, {}, "tiny-half")
    difference = (
        await decoded_images(tiny_checkpoint, {"attention": "xformers"}, "tiny-half") - expected
    )
    assert np.abs(difference).mean() < 8
