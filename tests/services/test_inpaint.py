"""Inpainting: as the reference's, each image with its own mask, and beside any other job."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22InpaintPipeline
from PIL import Image

from kandinsky.v1 import decoder_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason
from tests.services.asking import SIZE, decode_request, drawn, mask, random_tensor, row, sent_image
from tests.services.conftest import StageStubs, fields
from tests.services.test_stage_inputs import set_path


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> KandinskyV22InpaintPipeline:
    loaded = KandinskyV22InpaintPipeline.from_pretrained(tiny_checkpoint / "decoder-inpaint")
    loaded.set_progress_bar_config(disable=True)
    return loaded


def reference(
    pipeline: KandinskyV22InpaintPipeline, requests: list[decoder_pb2.DecodeRequest]
) -> np.ndarray:
    """int [images, H, W, 3] of one call of the pipeline."""
    first = requests[0]
    starts = [request.start.inpaint for request in requests]

    def stacked(part: str) -> torch.Tensor:
        return torch.cat([row(getattr(request.conditioning, part)) for request in requests])

    images = pipeline(
        image_embeds=stacked("image_embed"),
        negative_image_embeds=stacked("negative_image_embed"),
        image=[Image.fromarray(tensors.decode(start.pixels, "p")) for start in starts],
        mask_image=[Image.fromarray(tensors.decode(start.mask, "m")) for start in starts],
        height=SIZE,
        width=SIZE,
        num_inference_steps=first.sampling.steps,
        guidance_scale=first.sampling.guidance_scale
        if first.sampling.HasField("guidance_scale")
        else 4.0,
        generator=[torch.Generator().manual_seed(request.sampling.seed) for request in requests],
        output_type="np",
    ).images
    return (images * 255).round().astype(int)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
async def test_it_equals_the_reference(
    stages: StageStubs, pipeline: KandinskyV22InpaintPipeline, guidance_scale: float
) -> None:
    request = decode_request("inpaint")
    request.sampling.guidance_scale = guidance_scale
    expected = reference(pipeline, [request])[0]
    assert expected.std() > 3
    assert np.abs(drawn(await stages.decode(request)) - expected).max() <= 1


async def test_each_image_is_blended_with_its_own(
    stages: StageStubs, pipeline: KandinskyV22InpaintPipeline
) -> None:
    """The reference blends every row of a batch with the first row's image and mask.

    Two images in one call of it come out wrong in the second; here each equals its own call.
    """
    requests = [decode_request("inpaint", seed=seed) for seed in (4, 5)]
    requests[1].start.inpaint.pixels.CopyFrom(sent_image(8))
    requests[1].start.inpaint.mask.CopyFrom(mask(1))
    together = await stages.decode_together(first=requests[0], second=requests[1])
    assert any(forward.rows == 4 for forward in stages.host.decoder.counters.trace)
    alone = [reference(pipeline, [request])[0] for request in requests]
    for events, expected in zip(together, alone, strict=True):
        assert np.abs(drawn(events) - expected).max() <= 1
    assert np.abs(reference(pipeline, requests)[1] - alone[1]).max() > 10


async def test_a_latent_stands_in_for_the_image(stages: StageStubs) -> None:
    request = decode_request("inpaint")
    pixels = request.start.inpaint.pixels
    encoded = await stages.decoder("EncodeLatents", decoder_pb2.EncodeLatentsRequest(pixels=pixels))
    expected = drawn(await stages.decode(request))
    request.start.inpaint.ClearField("pixels")
    request.start.inpaint.latents.CopyFrom(encoded.latents)
    assert np.abs(drawn(await stages.decode(request)) - expected).max() <= 1


async def test_kept_cells_end_as_they_began(stages: StageStubs) -> None:
    request = decode_request("inpaint")
    latents = random_tensor(4, 8, 8, seed=6)
    request.start.inpaint.ClearField("pixels")
    request.start.inpaint.latents.CopyFrom(latents)
    half = np.zeros((SIZE, SIZE), np.uint8)
    half[:, SIZE // 2 :] = 255
    request.start.inpaint.mask.CopyFrom(tensors.encode(half))
    request.output = decoder_pb2.DECODE_OUTPUT_LATENTS
    for strength in (0.5, 1.0):
        request.start.inpaint.strength = strength
        made, given = drawn(await stages.decode(request)), tensors.decode(latents, "latents")
        np.testing.assert_allclose(made[:, :, :3], given[:, :, :3], atol=1e-6)
        assert np.abs(made[:, :, 4:] - given[:, :, 4:]).mean() > 0.1


async def test_less_strength_starts_nearer_to_the_image(stages: StageStubs) -> None:
    request = decode_request("inpaint", steps=10)
    request.sampling.guidance_scale = 1
    request.output = decoder_pb2.DECODE_OUTPUT_LATENTS
    latents = random_tensor(4, 8, 8, seed=6)
    request.start.inpaint.ClearField("pixels")
    request.start.inpaint.latents.CopyFrom(latents)
    differences = []
    for strength in (0.1, 0.5, 1.0):
        request.start.inpaint.strength = strength
        events = await stages.decode(request)
        assert events[-1].image.stats.forwards == 10 * strength
        differences.append(np.abs(drawn(events) - tensors.decode(latents, "latents")).mean())
    assert differences[0] < 0.5 * differences[1] < differences[2]


async def test_masked_jobs_share_among_themselves_and_take_turns(stages: StageStubs) -> None:
    requests = [decode_request("inpaint", steps=steps) for steps in (40, 50)]
    requests.append(decode_request("noise", steps=40))
    alone = [drawn(await stages.decode(request)) for request in requests]
    stages.host.decoder.counters.trace.clear()
    names = ("short", "long", "noise")
    together = await stages.decode_together(**dict(zip(names, requests, strict=True)))
    trace = stages.host.decoder.counters.trace
    jobs = [{name for name, _ in forward.jobs} for forward in trace if "unet" in forward.network]
    assert sum({"short", "long"} <= shared for shared in jobs) > 10
    assert not any("noise" in shared and len(shared) > 1 for shared in jobs)
    first_noise = next(i for i, shared in enumerate(jobs) if "noise" in shared)
    assert any("noise" not in shared for shared in jobs[first_noise:])
    for events, expected in zip(together, alone, strict=True):
        assert np.abs(drawn(events) - expected).max() <= 1


WHITE = np.full((SIZE, SIZE), 255, np.uint8)
BAD = [
    ("mask", None, "mask"),
    ("mask", tensors.encode(WHITE[:32]), "mask.shape"),
    ("mask", tensors.encode(WHITE.astype(np.float32)), "mask.dtype"),
    ("pixels", None, ""),
    ("pixels", tensors.encode(np.zeros((SIZE, 2 * SIZE, 3), np.uint8)), "pixels"),
    ("latents", random_tensor(4, 8, 9, seed=0), "latents.shape"),
    ("strength", 0.0, "strength"),
    ("strength", 0.1, "strength"),
    ("strength", float("nan"), "strength"),
    ("noise", random_tensor(4, 8, 9, seed=0), "noise.shape"),
]


@pytest.mark.parametrize(("field", "value", "path"), BAD)
async def test_bad_input_is_refused(stages: StageStubs, field: str, value, path: str) -> None:
    request = decode_request("inpaint")
    set_path(request.start.inpaint, field, value)
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == [f"start.inpaint.{path}".removesuffix(".")]
    assert stages.host.decoder.counters.forwards == 0


async def test_a_model_without_an_inpainting_unet_says_so(control_stages: StageStubs) -> None:
    with pytest.raises(KandinskyError) as error:
        await control_stages.decode(decode_request("inpaint"))
    assert error.value.reason is Reason.FLOW_UNSUPPORTED
    assert error.value.metadata["flow"] == "inpaint"
