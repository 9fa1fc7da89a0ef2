"""A crop to a soft mask: box and seam are those of diffusers' VaeImageProcessor."""

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw, ImageFilter

from kandinsky.wire import tensors
from tests.gateway.messages import request, tensor, text


def cropped(image, mask, padding, **fields):
    canvas = {"images": [image], "masks": [mask], "padding_mask_crop": padding}
    return request(guide=text("a"), canvas={"inpaint": canvas}, seed=100, **fields)


async def test_the_box_of_a_crop_is_diffusers_box_of_the_grey_mask(api, stages):
    """The faint edge of a soft mask counts, and a smaller mask is brought to the image first."""
    image = tensor(np.random.default_rng(0).integers(0, 256, (200, 320, 3), np.uint8))
    grey = Image.new("L", (160, 100))
    ImageDraw.Draw(grey).ellipse((60, 40, 90, 60), 255)
    grey = grey.filter(ImageFilter.GaussianBlur(5))
    large = grey.resize((320, 200), Image.Resampling.LANCZOS)
    await api.GenerateImages(cropped(image, tensor(np.asarray(grey)), 2))
    start = stages.calls[-1].request.start
    box = VaeImageProcessor.get_crop_region(large, start.width, start.height, pad=2)
    sent = tensors.decode(start.inpaint.pixels, "pixels")
    part = Image.fromarray(tensors.decode(image["pixels"], "image")).crop(box)
    size = (start.width, start.height)
    expected = part.resize(size, Image.Resampling.BICUBIC, reducing_gap=1)
    np.testing.assert_array_equal(sent, np.asarray(expected))


async def test_a_soft_mask_blends_the_crop_as_diffusers_overlays_it(api):
    whole = np.random.default_rng(0).integers(0, 90, (100, 160, 3), np.uint8)
    grey = Image.new("L", (160, 100))
    ImageDraw.Draw(grey).ellipse((60, 30, 100, 70), 255)
    grey = grey.filter(ImageFilter.GaussianBlur(4))
    message = cropped(
        tensor(whole), tensor(np.asarray(grey)), 4, output={"format": "OUTPUT_FORMAT_PIXELS"}
    )
    [image] = (await api.GenerateImages(message)).images
    made = Image.new("RGB", grey.size, (100, 100, 100))  # what the fake decoder draws
    overlaid = VaeImageProcessor().apply_overlay(grey, Image.fromarray(whole), made)
    result = tensors.decode(image.tensor, "image").astype(int)
    assert 0 < np.asarray(grey)[50, 58] < 255
    assert abs(result - np.asarray(overlaid, int)).max() <= 1
