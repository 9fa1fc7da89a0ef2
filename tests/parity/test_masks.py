"""Masks of any size and depth inpaint as the reference pipeline does, through the whole chain."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from tests.parity.conftest import Chain
from tests.parity.families import HEIGHT, WIDTH, Embeds, Family
from tests.parity.test_flows import assert_equal, file, settings

SIZE = (131, 77)
IMAGE = Image.fromarray(np.random.default_rng(4).integers(0, 256, (6, 10, 3), np.uint8)).resize(
    SIZE, Image.Resampling.NEAREST
)


def soft(size: tuple[int, int] = SIZE) -> Image.Image:
    """A blurred white ellipse on black."""
    mask = Image.new("L", size)
    width, height = size
    ImageDraw.Draw(mask).ellipse((width // 4, height // 5, width * 3 // 4, height * 4 // 5), 255)
    return mask.filter(ImageFilter.GaussianBlur(9))


def transparent() -> Image.Image:
    """White strokes on nothing, as an editor saves them: the reference reads no alpha.

    Of the canvas's size, because the reference resizes by alpha, and a stroke grows by that.
    """
    mask = Image.new("RGBA", (WIDTH, HEIGHT))
    ImageDraw.Draw(mask).rectangle((30, 20, 90, 60), (255, 255, 255, 255))
    return mask


def thin(mode: str) -> Image.Image:
    """Single white columns, which Pillow averages in grey and picks from in two levels."""
    columns = np.zeros(SIZE[::-1], np.uint8)
    columns[:, ::4] = 255
    columns[:, 40:] = 0
    columns[:, 90:] = 255
    return Image.fromarray(columns).convert(mode)


MASKS: dict[str, Callable[[], Image.Image]] = {
    "soft": soft,
    "soft, of another size than the image": lambda: soft((300, 200)),
    "transparent": transparent,
    "columns in grey": lambda: thin("L"),
    "columns in one bit": lambda: thin("1"),
    "black, which generates nothing": lambda: Image.new("L", SIZE),
}


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Path) -> Family:
    return Family(tiny_checkpoint, "KandinskyV22", torch.float32, reads_text=False)


@pytest.fixture(scope="module")
def embeds(family: Family) -> Embeds:
    return family.prior("a red cat")


@pytest.mark.parametrize("make", MASKS.values(), ids=MASKS)
async def test_a_mask_file(
    chain: Chain, family: Family, embeds: Embeds, make: Callable[[], Image.Image]
) -> None:
    expected = family.decode(
        "Inpaint", "decoder-inpaint", "", embeds, image=IMAGE, mask_image=make()
    )
    [image] = await chain.ask("inpaint", file(IMAGE), file(make()), "a red cat", **settings())
    assert_equal(image, expected)
