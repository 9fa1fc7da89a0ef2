"""A canvas that starts from a picture equals the reference's image to image."""

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Img2ImgPipeline

from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError
from tests.services.test_stage_inputs import decode_request, fields


async def test_image_to_image_equals_the_reference(stages, tiny_checkpoint) -> None:
    request = decode_request()
    canvas, sampling = request.canvas, request.sampling
    sampling.steps = 6
    picture = torch.rand(canvas.height, canvas.width, 3, generator=torch.manual_seed(3)) * 2 - 1
    canvas.image.pixels.CopyFrom(tensors.from_torch(picture))
    canvas.image.strength = 0.5
    pipeline = KandinskyV22Img2ImgPipeline.from_pretrained(tiny_checkpoint / "decoder")
    given = request.conditioning
    expected = pipeline(
        image_embeds=tensors.to_torch(given.image_embed, "a")[None],
        negative_image_embeds=tensors.to_torch(given.negative_image_embed, "b")[None],
        image=picture.permute(2, 0, 1)[None],
        strength=0.5,
        height=canvas.height,
        width=canvas.width,
        num_inference_steps=6,
        guidance_scale=sampling.guidance_scale if sampling.HasField("guidance_scale") else 4.0,
        generator=torch.Generator().manual_seed(sampling.seed),
        output_type="np",
    ).images[0]
    actual = tensors.to_torch((await stages.decode(request))[-1].image.tensor, "c").numpy()
    assert np.abs(actual.astype(int) - (expected * 255).round().astype(int)).max() <= 1


async def test_strength_that_leaves_no_step_is_refused(stages) -> None:
    request = decode_request()
    request.canvas.image.strength = 1e-3
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == ["canvas.image.strength"]
