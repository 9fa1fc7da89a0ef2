"""What Kandinsky 2.2 alone has: control, and a prior that starts from an image."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22PriorEmb2EmbPipeline

from tests.parity.conftest import Chain, running_chain
from tests.parity.families import HEIGHT, PRIOR_STEPS, WIDTH, Family, generator
from tests.parity.test_flows import IMAGES, assert_equal, file, settings

HINT = torch.rand(HEIGHT, WIDTH, 3, generator=torch.manual_seed(1))


@pytest.fixture
def family(tiny_checkpoint: Path) -> Family:
    return Family(tiny_checkpoint, "KandinskyV22", torch.float32, reads_text=False)


@pytest.fixture
async def chain(tiny_checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(tiny_checkpoint, "tiny-control") as running:
        yield running


def moved(family: Family, strength: float, negative: str | None) -> torch.Tensor:
    """The image's embedding, moved toward the prompt; the negative's run starts there too."""
    pipeline = KandinskyV22PriorEmb2EmbPipeline.from_pretrained(family.folder / "prior")
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        "a red cat",
        image=[IMAGES[0]],
        strength=strength,
        negative_prompt=negative,
        num_inference_steps=PRIOR_STEPS,
        generator=[generator(), generator()] if negative else generator(),
    )
    return made.image_embeds, made.negative_image_embeds


@pytest.mark.parametrize("negative", [None, "ugly"])
async def test_a_prior_that_starts_from_the_image(
    chain: Chain, family: Family, negative: str | None
) -> None:
    """The reference's Emb2Emb pipeline has an `.interpolate` too, which fails with any text: it
    hands `latents` to a `__call__` that takes none. A mix here takes texts and images alike."""
    embeds = moved(family, 0.5, negative)
    expected = family.decode(
        "Img2Img", "decoder", "", embeds, width=HEIGHT, image=IMAGES[0], strength=0.5
    )
    [image] = await chain.ask(
        "image_to_image",
        file(IMAGES[0]),
        "a red cat",
        strength=0.5,
        prior_strength=0.5,
        negative_prompts=negative,
        **settings(width=HEIGHT),
    )
    assert_equal(image, expected)


async def test_control(chain: Chain, family: Family) -> None:
    """A hint is taken as numpy has it, and as the reference's own examples make it."""
    embeds = family.prior("a red cat")
    images = []
    for hint, sent in ((HINT, HINT), (1 - HINT, (1 - HINT).permute(2, 0, 1)[None].contiguous())):
        channels_first = hint.permute(2, 0, 1)[None]
        expected = family.decode("Controlnet", "decoder-control", "", embeds, hint=channels_first)
        [image] = await chain.ask(
            "control", sent.numpy(), "a red cat", model="tiny-control", **settings()
        )
        assert_equal(image, expected)
        images.append(expected)
    assert np.abs(images[0] - images[1]).max() > 100, "parity would hold without the hint"


async def test_control_from_an_image(chain: Chain, family: Family) -> None:
    hint = HINT[:, :HEIGHT].contiguous()
    expected = family.decode(
        "ControlnetImg2Img",
        "decoder-control",
        "",
        family.prior("a red cat"),
        width=HEIGHT,
        hint=hint.permute(2, 0, 1)[None],
        image=IMAGES[0],
        strength=0.5,
    )
    [image] = await chain.ask(
        "control",
        hint.numpy(),
        "a red cat",
        image=file(IMAGES[0]),
        strength=0.5,
        model="tiny-control",
        **settings(width=HEIGHT),
    )
    assert_equal(image, expected)
