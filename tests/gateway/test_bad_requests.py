"""Bad requests are refused by field, before any stage is asked, and the next one is served."""

import math

import numpy as np
import pytest

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason, invalid
from tests.gateway.errors import failure

GOOD = generation.TextToImageRequest(model="tiny", prompts=["a"])


def floats(*shape):
    return tensors.encode(np.zeros(shape, np.float32))


def prompted(**fields):
    return generation.TextToImageRequest(**{"model": "tiny", "prompts": ["a", "b"], **fields})


def settings(**fields):
    return prompted(settings=fields)


def embedded(**fields):
    return generation.TextToImageRequest(
        **{
            "model": "tiny",
            "image_embeds": floats(2, 4),
            "negative_image_embeds": floats(1, 4),
            **fields,
        }
    )


BAD = {
    "no prompts": (prompted(prompts=[]), ["prompts"]),
    "prompts and embeddings": (embedded(prompts=["a"]), ["image_embeds"]),
    "empty prompt": (prompted(prompts=["a", ""]), ["prompts[1]"]),
    "blank prompt": (prompted(prompts=[" \n\t", "b"]), ["prompts[0]"]),
    "long prompt": (prompted(prompts=["a", "b" * 41]), ["prompts[1]"]),
    "long negative": (prompted(negative_prompts=["b" * 41]), ["negative_prompts[0]"]),
    "three negatives for two": (prompted(negative_prompts=["x"] * 3), ["negative_prompts"]),
    "no images": (settings(images_per_prompt=0), ["settings.images_per_prompt"]),
    "fewer than no images": (settings(images_per_prompt=-3), ["settings.images_per_prompt"]),
    "too many images": (settings(images_per_prompt=5), ["settings.images_per_prompt"]),
    "absurdly many images": (
        settings(images_per_prompt=2**31 - 1),
        ["settings.images_per_prompt"],
    ),
    "too many prompts": (prompted(prompts=["a"] * 9), ["prompts"]),
    "height 0": (settings(height=0), ["settings.height"]),
    "height 7": (settings(height=7), ["settings.height"]),
    "height 520": (settings(height=520), ["settings.height"]),
    "width 10^9": (settings(width=10**9), ["settings.width"]),
    "negative width": (settings(width=-64), ["settings.width"]),
    "steps 0": (settings(steps=0), ["settings.steps"]),
    "steps 51": (settings(steps=51), ["settings.steps"]),
    "prior steps 1": (settings(prior_steps=1), ["settings.prior_steps"]),
    "prior steps 51": (settings(prior_steps=51), ["settings.prior_steps"]),
    "guidance NaN": (settings(guidance_scale=math.nan), ["settings.guidance_scale"]),
    "guidance inf": (settings(guidance_scale=math.inf), ["settings.guidance_scale"]),
    "guidance -1": (settings(guidance_scale=-1), ["settings.guidance_scale"]),
    "guidance 101": (settings(guidance_scale=101), ["settings.guidance_scale"]),
    "prior guidance NaN": (
        settings(prior_guidance_scale=math.nan),
        ["settings.prior_guidance_scale"],
    ),
    "seed -1": (settings(seed=-1), ["settings.seed"]),
    "seed without room": (settings(seed=2**63 - 2), ["settings.seed"]),
    "unknown format": (settings(output_format=77), ["settings.output_format"]),
    "quality 0": (settings(output_format=2, output_quality=0), ["settings.output_quality"]),
    "quality 101": (settings(output_format=3, output_quality=101), ["settings.output_quality"]),
    "quality of a PNG": (settings(output_quality=90), ["settings.output_quality"]),
    "unknown scheduler": (settings(scheduler="dpm"), ["settings.scheduler"]),
    "eta 1.1": (settings(eta=1.1), ["settings.eta"]),
    "eta NaN": (settings(eta=math.nan), ["settings.eta"]),
    "eta of another scheduler": (settings(scheduler="euler", eta=0.5), ["settings.eta"]),
    "progress every 0 steps": (settings(progress_every=0), ["settings.progress_every"]),
    "prior settings without a prior": (
        prompted(model="priorless", settings={"prior_steps": 5, "prior_guidance_scale": 2}),
        ["settings.prior_steps", "settings.prior_guidance_scale"],
    ),
    "prior latents without a prior": (
        prompted(model="priorless", prior_latents=floats(2, 4)),
        ["prior_latents"],
    ),
    "latents of one image": (prompted(latents=floats(1, 4, 8, 8)), ["latents.shape"]),
    "latents of rank 3": (prompted(latents=floats(2, 8, 8)), ["latents.shape"]),
    "latents of integers": (
        prompted(latents=tensors.encode(np.zeros((2, 4, 8, 8), np.int32))),
        ["latents.dtype"],
    ),
    "latents not finite": (
        prompted(latents=tensors.encode(np.full((2, 4, 8, 8), np.nan, np.float32))),
        ["latents.data"],
    ),
    "latents that lie": (
        prompted(latents=tensor_pb2.Tensor(dtype=2, shape=[2, 4, 8, 8], data=b"1234")),
        ["latents.data"],
    ),
    "latents of unknown dtype": (
        prompted(latents=tensor_pb2.Tensor(dtype=99, shape=[2, 1, 1, 1], data=b"12")),
        ["latents.dtype"],
    ),
    "latents of no value": (
        prompted(latents=tensor_pb2.Tensor(dtype=2, shape=[2**62, 8, 0, 1])),
        ["latents.shape"],
    ),
    "prior latents of three": (prompted(prior_latents=floats(3, 4)), ["prior_latents.shape"]),
    "prior latents beside embeddings": (
        embedded(prior_latents=floats(2, 4)),
        ["prior_latents"],
    ),
    "no embeddings": (embedded(image_embeds=floats(0, 4)), ["image_embeds.shape"]),
    "embeddings of rank 1": (embedded(image_embeds=floats(4)), ["image_embeds.shape"]),
    "too many embeddings": (embedded(image_embeds=floats(9, 4)), ["image_embeds.shape"]),
    "too many negative embeddings": (
        embedded(negative_image_embeds=floats(9, 4)),
        ["negative_image_embeds.shape"],
    ),
    "too many negatives": (prompted(negative_prompts=["x"] * 9), ["negative_prompts"]),
    "a tensor of nine axes": (
        prompted(latents=tensor_pb2.Tensor(dtype=2, shape=[1] * 9, data=b"1234")),
        ["latents.shape"],
    ),
    "no negative embeddings": (
        embedded(negative_image_embeds=None),
        ["negative_image_embeds"],
    ),
    "three negative embeddings": (
        embedded(negative_image_embeds=floats(3, 4)),
        ["negative_image_embeds.shape"],
    ),
    "negative texts and embeddings": (
        prompted(negative_prompts=["x"], negative_image_embeds=floats(1, 4)),
        ["negative_image_embeds"],
    ),
    "negative texts beside embeddings": (
        embedded(negative_prompts=["x"]),
        ["negative_prompts"],
    ),
    "everything at once": (
        prompted(
            prompts=["", "b"],
            latents=floats(3, 4, 8, 8),
            prior_latents=floats(2),
            settings={"height": 7, "steps": 0, "guidance_scale": -1, "seed": -1},
        ),
        [
            "settings.height",
            "settings.steps",
            "settings.guidance_scale",
            "settings.seed",
            "prompts[0]",
            "latents.shape",
            "prior_latents.shape",
        ],
    ),
    "everything beside a list that is too long": (
        prompted(prompts=["a"] * 9, settings={"height": 7, "seed": -1, "images_per_prompt": 0}),
        ["prompts", "settings.height", "settings.seed"],
    ),
    "everything beside a number of images": (
        prompted(settings={"images_per_prompt": 5, "seed": -1}, latents=floats(8, 8)),
        ["settings.images_per_prompt", "settings.seed", "latents.shape"],
    ),
}


@pytest.mark.parametrize(("bad", "fields"), BAD.values(), ids=BAD)
async def test_refused_by_field(api, stages, bad, fields):
    error = await failure(api.TextToImage(bad))
    assert error.reason is Reason.INVALID_FIELD
    assert {violation.field for violation in error.violations} == set(fields)
    assert stages.calls == []
    assert await failure(api.TextToImageUnary(bad))
    assert len((await api.TextToImageUnary(GOOD)).images) == 1


@pytest.mark.parametrize(
    ("height", "advice"),
    [
        (520, "use 512 or 576"),
        (7, "use 64"),
        (0, "use 64"),
        (10**9, "use 1024"),
        (1000, "960 or 1024"),
    ],
)
async def test_the_nearest_sizes_are_named(api, height, advice):
    error = await failure(api.TextToImage(settings(height=height)))
    assert error.violations[0].description.endswith(advice)


SENTENCES = {
    "negatives for one prompt": (
        prompted(prompts=["a"], negative_prompts=["x", "y"]),
        "negative_prompts: there are 2 for 1 prompt; give 1",
    ),
    "negatives for two prompts": (
        prompted(negative_prompts=["x"] * 3),
        "negative_prompts: there are 3 for 2 prompts; give 1 for all, or 2",
    ),
    "negative rows for one row": (
        embedded(image_embeds=floats(1, 4), negative_image_embeds=floats(2, 4)),
        "negative_image_embeds.shape: has 2 rows for 1 prompt; give 1",
    ),
    "prompts for one row": (
        embedded(model="reader", image_embeds=floats(1, 4), prompts=["a", "b"]),
        "prompts: there are 2 for 1 row of image_embeds",
    ),
    "images of one prompt": (
        prompted(prompts=["a"], settings={"images_per_prompt": 9}),
        "settings.images_per_prompt: 9 makes 9 images of 1 prompt; the most is 8",
    ),
    "images of two prompts": (
        settings(images_per_prompt=5),
        "settings.images_per_prompt: 5 makes 10 images of 2 prompts; the most is 8",
    ),
    "steps": (settings(steps=51), "settings.steps: 51 is outside 1 to 50"),
}


@pytest.mark.parametrize(("bad", "sentence"), SENTENCES.values(), ids=SENTENCES)
async def test_the_sentence(api, bad, sentence):
    assert (await failure(api.TextToImage(bad))).message == sentence


async def test_which_embeddings_have_a_wrong_width_is_the_decoders_to_say(api, stages):
    """Nothing before it knows the width, so nothing before it blames the one or the other."""
    at = "conditioning.image_embed.shape"
    stages.failures["Decode"].extend([invalid(at, "[5] does not fit; it must be [4]")] * 2)
    error = await failure(api.TextToImage(embedded(image_embeds=floats(2, 5))))
    assert [violation.field for violation in error.violations] == ["image_embeds.shape"]


async def test_very_many_violations_still_reach_the_caller(api):
    lists = {"prompts": [""] * 8, "negative_prompts": ["x" * 50] * 8}
    error = await failure(api.TextToImage(prompted(**lists, settings={"height": 7})))
    assert "more" in error.violations[-1].description


async def test_unknown_model(api, stages):
    error = await failure(api.TextToImage(generation.TextToImageRequest(model="x" * 100_000)))
    assert error.reason is Reason.MODEL_NOT_FOUND
    assert error.metadata == {"model": "x" * 64, "served": "flowless, priorless, reader, tiny"}
    assert stages.calls == []


async def test_a_model_without_the_flow(api):
    error = await failure(api.TextToImageUnary(prompted(model="flowless")))
    assert (error.reason, error.metadata["flow"]) == (Reason.FLOW_UNSUPPORTED, "text_to_image")


@pytest.mark.parametrize(
    "rpc",
    [
        "Mix",
        "InterpolateFrames",
        "ImageToImage",
        "Inpaint",
        "Outpaint",
        "Control",
        "TextGuidedEdit",
    ],
)
@pytest.mark.parametrize("form", ["", "Unary"])
async def test_every_flow_is_refused_where_the_model_lacks_it(api, rpc, form):
    request = getattr(generation, f"{rpc}Request")(model="flowless")
    error = await failure(getattr(api, rpc + form)(request))
    assert error.reason is Reason.FLOW_UNSUPPORTED


async def test_a_unary_answer_too_large(api, stages):
    large = {"height": 1024, "width": 1024, "images_per_prompt": 3, "output_format": 5}
    error = await failure(api.TextToImageUnary(settings(**large)))
    assert (error.reason, error.metadata) == (Reason.ANSWER_TOO_LARGE, {"rpc": "TextToImage"})
    assert error.message == (
        "6 images of 6291456 pixels in all may take 75497472 bytes as FLOAT_PIXELS, and one "
        "message holds 67108864; call TextToImage, which streams them"
    )
    assert stages.calls == []
