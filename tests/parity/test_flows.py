"""Mix, image to image and inpaint of 2.2 and 2.1 equal the reference, to one level in a channel.

Through client stub, gateway and stages. Kandinsky 2.1 with DDIM is compared in float64, where
rounding does not grow.
"""

import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from PIL import Image

from kandinsky.client.options import Latents
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import tensors
from tests import tiny, tiny_2_1
from tests.parity.conftest import Chain, pixels, running_chain
from tests.parity.families import HEIGHT, PRIOR_STEPS, SEED, STEPS, WIDTH, Family

FAMILIES = {
    "2.2": ("KandinskyV22", "float32", False),
    "2.1 ddim": ("Kandinsky", "float64", True),
    "2.1 ddpm": ("Kandinsky", "float32", True),
}
RNG = np.random.default_rng(4)
IMAGES = [
    Image.fromarray(RNG.integers(0, 256, (6, 10, 3), np.uint8)).resize((200, 90), Image.NEAREST)
    for _ in range(2)
]
MASK = Image.new("L", (200, 90))
MASK.paste(255, (60, 10, 130, 70))


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=FAMILIES)
def family(request, tmp_path_factory) -> Family:
    prefix, dtype, reads_text = request.param
    folder = tmp_path_factory.mktemp("family")
    if reads_text:
        scheduler = None if dtype == "float64" else tiny_2_1.ddpm_scheduler()
        tiny_2_1.write_catalog(tiny_2_1.build(folder, scheduler=scheduler), dtype=dtype)
    else:
        tiny.write_catalog(tiny.build(folder), dtype=dtype)
    return Family(folder, prefix, getattr(torch, dtype), reads_text)


@pytest.fixture
async def chain(family: Family) -> AsyncIterator[Chain]:
    async with running_chain(family.folder) as running:
        yield running


def file(image: Image.Image) -> bytes:
    made = io.BytesIO()
    image.save(made, "PNG")
    return made.getvalue()


def settings(prior: bool = True, **changes: object) -> dict[str, object]:
    common = {"seed": SEED, "steps": STEPS, "height": HEIGHT, "width": WIDTH}
    return {**common, **({"prior_steps": PRIOR_STEPS} if prior else {}), **changes}


def assert_equal(image: generation.GeneratedImage, expected: np.ndarray) -> None:
    assert expected.std() > 5, "a flat image would equal anything"
    assert np.abs(pixels(image) - expected).max() <= 1


@pytest.mark.parametrize(
    ("negative", "negative_prior"), [("", ""), ("ugly", ""), ("", "bad"), ("ugly", "bad")]
)
async def test_a_mix_equals_interpolate(
    chain: Chain, family: Family, negative: str, negative_prior: str
) -> None:
    """As `.interpolate` weighs them, but each text is a prior run with a generator of its own.

    The reference hands one generator from run to run, so that an image would depend on the order
    of its conditions.
    """
    unwanted = negative_prior or None
    red, _ = family.prior("a red cat", unwanted)
    _, zero = family.prior("dog")
    blend = family.pipeline("Prior", "prior").interpolate(
        IMAGES[:1], [1.0], num_inference_steps=PRIOR_STEPS, generator=torch.Generator()
    )
    embeds = 0.6 * red + 0.7 * blend.image_embeds
    if negative or negative_prior:
        avoided = negative or negative_prior
        zero, _ = family.prior(avoided, unwanted)
    texts = {"negative_prompt": negative} if family.reads_text and negative else {}
    expected = family.decode("", "decoder", "dog", (embeds, zero), **texts)
    [image] = await chain.ask(
        "mix",
        ["a red cat", file(IMAGES[0])],
        [0.6, 0.7],
        negative_prompt=negative or None,
        negative_prior_prompt=negative_prior or None,
        prompt="dog" if family.reads_text else None,
        **settings(),
    )
    assert_equal(image, expected)


async def test_a_mix_of_images_equals_interpolate_itself(chain: Chain, family: Family) -> None:
    made = family.pipeline("Prior", "prior").interpolate(
        IMAGES, [0.3, 0.9], num_inference_steps=PRIOR_STEPS, generator=torch.Generator()
    )
    embeds = (made.image_embeds, made.negative_image_embeds)
    expected = family.decode("", "decoder", "", embeds)
    [image] = await chain.ask(
        "mix", [file(each) for each in IMAGES], [0.3, 0.9], **settings(prior=False)
    )
    assert_equal(image, expected)


async def test_a_variation_is_a_mix_of_one(chain: Chain) -> None:
    [mixed] = await chain.ask("mix", [file(IMAGES[0])], [1], **settings(prior=False))
    [varied] = await chain.ask("variation", file(IMAGES[0]), **settings(prior=False))
    np.testing.assert_array_equal(pixels(varied), pixels(mixed))


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
async def test_image_to_image(chain: Chain, family: Family, strength: float) -> None:
    """On a square canvas: the reference takes height for width when it resizes the image."""
    expected = family.decode(
        "Img2Img",
        "decoder",
        "a red cat",
        family.prior("a red cat"),
        width=HEIGHT,
        image=IMAGES[0],
        strength=strength,
    )
    [image] = await chain.ask(
        "image_to_image",
        file(IMAGES[0]),
        "a red cat",
        strength=strength,
        **settings(width=HEIGHT),
    )
    assert_equal(image, expected)


@pytest.mark.parametrize("negative", [None, "ugly"])
async def test_inpaint(chain: Chain, family: Family, negative: str | None) -> None:
    texts = {"negative_prompt": negative} if family.reads_text and negative else {}
    expected = family.decode(
        "Inpaint",
        "decoder-inpaint",
        "a red cat",
        family.prior("a red cat", negative),
        image=IMAGES[0],
        mask_image=MASK,
        **texts,
    )
    [image] = await chain.ask(
        "inpaint",
        file(IMAGES[0]),
        file(MASK),
        "a red cat",
        negative_prompts=negative,
        **settings(),
    )
    assert_equal(image, expected)


async def test_no_guidance_with_two_images_where_the_reference_fails(
    chain: Chain, family: Family
) -> None:
    """Without guidance the reference does not repeat the embeddings for a second image.

    Each image equals the reference's one-image call with that image's seed.
    """
    images = await chain.ask(
        "inpaint",
        file(IMAGES[0]),
        file(MASK),
        "a red cat",
        **settings(guidance_scale=1, images_per_prompt=2),
    )
    for seed, image in enumerate(images, SEED):
        embeds = family.prior("a red cat", seed=seed)
        expected = family.decode(
            "Inpaint",
            "decoder-inpaint",
            "a red cat",
            embeds,
            seed,
            image=IMAGES[0],
            mask_image=MASK,
            guidance_scale=1.0,
        )
        assert_equal(image, expected)


TWICE = {
    "image_to_image": ((file(IMAGES[0]),), {"strength": 0.6}),
    "inpaint": ((file(IMAGES[0]), file(MASK)), {}),
    "outpaint": ((file(IMAGES[0].resize((64, 64))),), {"right": 64}),
}


@pytest.mark.parametrize("flow", TWICE)
async def test_two_prompts_two_images_each_equal_four_requests(chain: Chain, flow: str) -> None:
    prompts = ["a red cat", "dog"]
    args, options = TWICE[flow]
    together = await chain.ask(flow, *args, prompts, **options, **settings(images_per_prompt=2))
    for index, image in enumerate(together):
        alone = settings(seed=SEED + index)
        [one] = await chain.ask(flow, *args, prompts[index // 2], **options, **alone)
        assert np.abs(pixels(one) - pixels(image)).max() <= 1
        assert (one.seed, image.seed) == (SEED + index,) * 2
    assert np.abs(pixels(together[0]) - pixels(together[1])).max() > 5


async def test_frames_start_and_end_as_their_ends(chain: Chain) -> None:
    ends = ["a red cat", file(IMAGES[0])]
    frames = await chain.ask("interpolate_frames", *ends, 3, **settings())
    for frame, weights in zip(frames, ((1, 0), (0.5, 0.5), (0, 1)), strict=True):
        [mixed] = await chain.ask("mix", ends, weights, **settings())
        assert np.abs(pixels(frame) - pixels(mixed)).max() <= 1
        assert frame.seed == SEED


async def test_a_latent_stands_in_for_an_image(chain: Chain) -> None:
    """A latent that one flow made is what another starts from."""
    latents = settings(output_format="latents")
    [made] = await chain.ask("text_to_image", "dog", **latents)
    start = tensors.decode(made.tensor, "latents")
    [image] = await chain.ask(
        "image_to_image", Latents(start), "a red cat", strength=0.5, **latents
    )
    end = tensors.decode(image.tensor, "latents")
    assert start.shape == end.shape == (4, HEIGHT // 8, WIDTH // 8)
    assert np.abs(start - end).max() > 1e-3
