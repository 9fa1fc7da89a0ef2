"""A crop to a soft mask: box and seam are those of diffusers' VaeImageProcessor."""

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw, ImageFilter

from kandinsky.wire import tensors
from tests.gateway.test_flows import asked, tensor


async def test_the_box_of_a_crop_is_diffusers_box_of_the_grey_mask(api, stages):
    """The faint edge of a soft mask counts, and a smaller mask is brought to the image first."""
    image = tensor(np.random.default_rng(0).integers(0, 256, (200, 320, 3), np.uint8))
    grey = Image.new("L", (160, 100))
    ImageDraw.Draw(grey).ellipse((60, 40, 90, 60), 255)
    grey = grey.filter(ImageFilter.GaussianBlur(5))
    large = grey.resize((320, 200), Image.Resampling.LANCZOS)
    _, request = asked(
        "Inpaint", prompts=["a"], image=image, mask=tensor(np.asarray(grey)), padding_mask_crop=2
    )
    await api.InpaintUnary(request)
    canvas = stages.calls[-1].request.canvas
    box = VaeImageProcessor.get_crop_region(large, canvas.width, canvas.height, pad=2)
    sent = tensors.decode(canvas.masked_image.pixels, "pixels")
    part = Image.fromarray(tensors.decode(image["pixels"], "image")).crop(box)
    size = (canvas.width, canvas.height)
    expected = part.resize(size, Image.Resampling.BICUBIC, reducing_gap=1)
    np.testing.assert_array_equal(sent, np.asarray(expected))


async def test_a_soft_mask_blends_the_crop_as_diffusers_overlays_it(api):
    whole = np.random.default_rng(0).integers(0, 90, (100, 160, 3), np.uint8)
    grey = Image.new("L", (160, 100))
    ImageDraw.Draw(grey).ellipse((60, 30, 100, 70), 255)
    grey = grey.filter(ImageFilter.GaussianBlur(4))
    _, request = asked(
        "Inpaint",
        prompts=["a"],
        image=tensor(whole),
        mask=tensor(np.asarray(grey)),
        padding_mask_crop=4,
        settings={"output_format": "OUTPUT_FORMAT_PIXELS"},
    )
    [image] = (await api.InpaintUnary(request)).images
    made = Image.new("RGB", grey.size, (100, 100, 100))  # what the fake decoder draws
    overlaid = VaeImageProcessor().apply_overlay(grey, Image.fromarray(whole), made)
    result = tensors.decode(image.tensor, "image").astype(int)
    assert 0 < np.asarray(grey)[50, 58] < 255
    assert abs(result - np.asarray(overlaid, int)).max() <= 1
