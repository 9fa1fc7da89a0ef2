"""Bad requests are refused by field, before any stage is asked, and the next one is served."""

import math

import numpy as np
import pytest

from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason, invalid
from tests.gateway.errors import failure
from tests.gateway.messages import FLOWS, SENT, floats, request, text

GOOD = request()
CONDITIONINGS = "guide.embeddings.conditionings"


def prompted(**fields):
    return request(**{"guide": text("a", "b"), **fields})


def decoder(**fields):
    return prompted(decoder=fields)


def embedded(*conditionings, **fields):
    return request("embeddings", guide={"embeddings": {"conditionings": conditionings}}, **fields)


BOTH = {"image_embed": floats(4), "negative_image_embed": floats(4)}
STATES = {"text_states": floats(2, 4), "text_mask": tensors.encode(np.ones(2, bool))}

BAD = {
    "no prompts": (prompted(guide=text()), ["guide.text.prompts"]),
    "no guide": (prompted(guide={}), ["guide"]),
    "a canvas of no kind": (prompted(canvas={}), ["canvas"]),
    "empty prompt": (prompted(guide=text("a", "")), ["guide.text.prompts[1]"]),
    "blank prompt": (prompted(guide=text(" \n\t", "b")), ["guide.text.prompts[0]"]),
    "long prompt": (prompted(guide=text("a", "b" * 41)), ["guide.text.prompts[1]"]),
    "long negative": (prompted(negative={"texts": ["b" * 41]}), ["negative.texts[0]"]),
    "long negative of the prior": (
        prompted(prior={"negative_texts": ["b" * 41]}),
        ["prior.negative_texts[0]"],
    ),
    "three negatives for two": (prompted(negative={"texts": ["x"] * 3}), ["negative.texts"]),
    "no images": (prompted(images_per_prompt=0), ["images_per_prompt"]),
    "fewer than no images": (prompted(images_per_prompt=-3), ["images_per_prompt"]),
    "too many images": (prompted(images_per_prompt=5), ["images_per_prompt"]),
    "absurdly many images": (prompted(images_per_prompt=2**31 - 1), ["images_per_prompt"]),
    "too many prompts": (prompted(guide=text(*"a" * 9)), ["guide.text.prompts"]),
    "height 0": (decoder(height=0), ["decoder.height"]),
    "height 7": (decoder(height=7), ["decoder.height"]),
    "height 520": (decoder(height=520), ["decoder.height"]),
    "width 10^9": (decoder(width=10**9), ["decoder.width"]),
    "negative width": (decoder(width=-64), ["decoder.width"]),
    "steps 0": (decoder(steps=0), ["decoder.steps"]),
    "steps 51": (decoder(steps=51), ["decoder.steps"]),
    "prior steps 1": (prompted(prior={"steps": 1}), ["prior.steps"]),
    "prior steps 51": (prompted(prior={"steps": 51}), ["prior.steps"]),
    "guidance NaN": (decoder(guidance_scale=math.nan), ["decoder.guidance_scale"]),
    "guidance inf": (decoder(guidance_scale=math.inf), ["decoder.guidance_scale"]),
    "guidance -1": (decoder(guidance_scale=-1), ["decoder.guidance_scale"]),
    "guidance 101": (decoder(guidance_scale=101), ["decoder.guidance_scale"]),
    "prior guidance NaN": (
        prompted(prior={"guidance_scale": math.nan}),
        ["prior.guidance_scale"],
    ),
    "seed -1": (prompted(seed=-1), ["seed"]),
    "seed without room": (prompted(seed=2**63 - 2), ["seed"]),
    "unknown format": (prompted(output={"format": 77}), ["output.format"]),
    "quality 0": (prompted(output={"format": 2, "quality": 0}), ["output.quality"]),
    "quality 101": (prompted(output={"format": 3, "quality": 101}), ["output.quality"]),
    "quality of a PNG": (prompted(output={"quality": 90}), ["output.quality"]),
    "unknown scheduler": (decoder(scheduler="dpm"), ["decoder.scheduler"]),
    "eta 1.1": (decoder(eta=1.1), ["decoder.eta"]),
    "eta NaN": (decoder(eta=math.nan), ["decoder.eta"]),
    "eta of another scheduler": (decoder(scheduler="euler", eta=0.5), ["decoder.eta"]),
    "progress every 0 steps": (prompted(events={"progress_every": 0}), ["events.progress_every"]),
    "prior settings without a prior": (
        prompted(model="priorless", prior={"steps": 5, "guidance_scale": 2}),
        ["prior.steps", "prior.guidance_scale"],
    ),
    "prior latents without a prior": (
        prompted(model="priorless", prior={"latents": floats(2, 4)}),
        ["prior.latents"],
    ),
    "an image embedding that no decoder reads": (
        prompted(model="priorless", negative={"image_embeds": floats(1, 4)}),
        ["negative.image_embeds"],
    ),
    "latents of three images": (
        prompted(decoder={"latents": floats(3, 4, 8, 8)}),
        ["decoder.latents.shape"],
    ),
    "latents of rank 3": (
        prompted(decoder={"latents": floats(2, 8, 8)}),
        ["decoder.latents.shape"],
    ),
    "latents of integers": (
        prompted(decoder={"latents": tensors.encode(np.zeros((2, 4, 8, 8), np.int32))}),
        ["decoder.latents.dtype"],
    ),
    "latents not finite": (
        prompted(decoder={"latents": floats(2, 4, 8, 8, value=np.nan)}),
        ["decoder.latents.data"],
    ),
    "latents that lie": (
        prompted(decoder={"latents": tensor_pb2.Tensor(dtype=2, shape=[2, 4, 8, 8], data=b"1234")}),
        ["decoder.latents.data"],
    ),
    "latents of unknown dtype": (
        prompted(decoder={"latents": tensor_pb2.Tensor(dtype=99, shape=[2, 1, 1, 1], data=b"12")}),
        ["decoder.latents.dtype"],
    ),
    "latents of no value": (
        prompted(decoder={"latents": tensor_pb2.Tensor(dtype=2, shape=[2**62, 8, 0, 1])}),
        ["decoder.latents.shape"],
    ),
    "prior latents of three": (
        prompted(prior={"latents": floats(3, 4)}),
        ["prior.latents.shape"],
    ),
    "prior latents beside embeddings": (
        embedded(BOTH, BOTH, prior={"latents": floats(2, 4)}),
        ["prior.latents"],
    ),
    "no embeddings": (embedded(), [CONDITIONINGS]),
    "embeddings of no width": (
        embedded({**BOTH, "image_embed": floats(0)}),
        [f"{CONDITIONINGS}[0].image_embed.shape"],
    ),
    "embeddings of rank 2": (
        embedded({**BOTH, "image_embed": floats(1, 4)}),
        [f"{CONDITIONINGS}[0].image_embed.shape"],
    ),
    "too many embeddings": (embedded(*[BOTH] * 9), [CONDITIONINGS]),
    "too many negative embeddings": (
        prompted(negative={"image_embeds": floats(9, 4)}),
        ["negative.image_embeds.shape"],
    ),
    "too many negatives": (prompted(negative={"texts": ["x"] * 9}), ["negative.texts"]),
    "a tensor of nine axes": (
        prompted(
            decoder={"latents": tensor_pb2.Tensor(dtype=2, shape=[1] * 9, data=b"1234")},
        ),
        ["decoder.latents.shape"],
    ),
    "no negative embedding": (
        embedded(BOTH, {"image_embed": floats(4)}),
        [f"{CONDITIONINGS}[1].negative_image_embed"],
    ),
    "no embedding": (
        embedded({"negative_image_embed": floats(4)}),
        [f"{CONDITIONINGS}[0].image_embed"],
    ),
    "an embedding that no decoder reads": (
        embedded({**BOTH, "text_embed": floats(4), "image_states": floats(2, 4)}),
        [f"{CONDITIONINGS}[0].text_embed", f"{CONDITIONINGS}[0].image_states"],
    ),
    "a hint in a conditioning": (
        embedded({**BOTH, "hint": floats(3, 64, 64)}),
        [f"{CONDITIONINGS}[0].hint"],
    ),
    "part of an encoded text": (
        embedded({**BOTH, "text_embed": floats(4)}, model="reader"),
        [
            f"{CONDITIONINGS}[0].negative_text_embed",
            f"{CONDITIONINGS}[0].text_states",
            f"{CONDITIONINGS}[0].negative_text_states",
        ],
    ),
    "part of a negative side that may be left out": (
        embedded({**STATES, "negative_text_states": floats(2, 4)}, model="priorless"),
        [f"{CONDITIONINGS}[0].negative_text_mask"],
    ),
    "three negative embeddings": (
        prompted(negative={"image_embeds": floats(3, 4)}),
        ["negative.image_embeds.shape"],
    ),
    "negative texts and embeddings": (
        prompted(negative={"texts": ["x"], "image_embeds": floats(1, 4)}),
        ["negative.image_embeds"],
    ),
    "negative texts beside embeddings": (embedded(BOTH, negative={"texts": ["x"]}), ["negative"]),
    "everything at once": (
        prompted(
            guide=text("", "b"),
            decoder={
                "height": 7,
                "steps": 0,
                "guidance_scale": -1,
                "latents": floats(3, 4, 8, 8),
            },
            prior={"latents": floats(2)},
            seed=-1,
        ),
        [
            "decoder.height",
            "decoder.steps",
            "decoder.guidance_scale",
            "seed",
            "guide.text.prompts[0]",
            "decoder.latents.shape",
            "prior.latents.shape",
        ],
    ),
    "everything beside a list that is too long": (
        prompted(guide=text(*"a" * 9), decoder={"height": 7}, seed=-1, images_per_prompt=0),
        ["guide.text.prompts", "decoder.height", "seed", "images_per_prompt"],
    ),
    "everything beside a number of images": (
        prompted(images_per_prompt=5, seed=-1, decoder={"latents": floats(8, 8)}),
        ["images_per_prompt", "seed", "decoder.latents.shape"],
    ),
}


@pytest.mark.parametrize(("bad", "fields"), BAD.values(), ids=BAD)
async def test_refused_by_field(api, stages, bad, fields):
    error = await failure(api.Generate(bad))
    assert error.reason is Reason.INVALID_FIELD
    assert {violation.field for violation in error.violations} == set(fields)
    assert stages.calls == []
    assert await failure(api.GenerateImages(bad))
    assert len((await api.GenerateImages(GOOD)).images) == 1


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
    error = await failure(api.Generate(decoder(height=height)))
    assert error.violations[0].description.endswith(advice)


SENTENCES = {
    "negatives for one prompt": (
        prompted(guide=text("a"), negative={"texts": ["x", "y"]}),
        "negative.texts: there are 2 for 1 prompt; give 1",
    ),
    "negatives for two prompts": (
        prompted(negative={"texts": ["x"] * 3}),
        "negative.texts: there are 3 for 2 prompts; give 1 for all, or 2",
    ),
    "negative rows for one prompt": (
        prompted(guide=text("a"), negative={"image_embeds": floats(2, 4)}),
        "negative.image_embeds.shape: has 2 rows for 1 prompt; give 1",
    ),
    "texts for one conditioning": (
        embedded(BOTH, model="reader", decoder={"texts": ["a", "b"]}),
        "decoder.texts: there are 2 for 1 conditioning; give 1",
    ),
    "noise for two images": (
        prompted(decoder={"latents": floats(3, 4, 8, 8)}),
        "decoder.latents.shape: has 3 rows for 2 images; give 1 for all, or 2",
    ),
    "images of one prompt": (
        prompted(guide=text("a"), images_per_prompt=9),
        "images_per_prompt: 9 makes 9 images of 1 prompt; the most is 8",
    ),
    "images of two prompts": (
        prompted(images_per_prompt=5),
        "images_per_prompt: 5 makes 10 images of 2 prompts; the most is 8",
    ),
    "steps": (decoder(steps=51), "decoder.steps: 51 is outside 1 to 50"),
}


@pytest.mark.parametrize(("bad", "sentence"), SENTENCES.values(), ids=SENTENCES)
async def test_the_sentence(api, bad, sentence):
    assert (await failure(api.Generate(bad))).message == sentence


async def test_which_embeddings_have_a_wrong_width_is_the_decoders_to_say(api, stages):
    """Nothing before it knows the width, so nothing before it blames the one or the other."""
    at = "conditioning.image_embed.shape"
    stages.failures["Decode"].extend([invalid(at, "[5] does not fit; it must be [4]")] * 2)
    error = await failure(api.Generate(embedded({**BOTH, "image_embed": floats(5)})))
    fields = [violation.field for violation in error.violations]
    assert fields == [f"{CONDITIONINGS}[0].image_embed.shape"]


async def test_very_many_violations_still_reach_the_caller(api):
    bad = prompted(guide=text(*[""] * 8), negative={"texts": ["x" * 50] * 8}, decoder={"height": 7})
    error = await failure(api.Generate(bad))
    assert "more" in error.violations[-1].description


async def test_unknown_model(api, stages):
    error = await failure(api.Generate(request(model="x" * 100_000)))
    assert error.reason is Reason.MODEL_NOT_FOUND
    served = "attending, hinted, priorless, reader, textless, tiny, upscaling"
    assert error.metadata == {"model": "x" * 64, "served": served}
    assert stages.calls == []


UNSUPPORTED = {
    flow: (
        request(flow, model="textless"),
        flow,
        f"model textless does not have {flow}; its guides are embeddings",
    )
    for flow in FLOWS.keys() - {"embeddings"}
} | {
    "a canvas": (
        request("text+inpaint", model="priorless"),
        "text+inpaint",
        "model priorless does not have text+inpaint; its canvases are noise, image",
    ),
    "a hint that no one follows": (
        request("text+control", model="tiny", canvas=FLOWS["text+image"]["canvas"]),
        "text+image+control",
        "model tiny does not have text+image+control; it follows no control hint",
    ),
    "no hint where one is followed": (
        request("variation", model="hinted"),
        "variation",
        "model hinted does not have variation; it follows a control hint; send control.hints",
    ),
    "an image canvas of a model without the guide": (
        request("variation", model="priorless", canvas={"image": {"images": [SENT]}}),
        "variation+image",
        "model priorless does not have variation+image; its guides are text, embeddings",
    ),
}


@pytest.mark.parametrize(("bad", "flow", "sentence"), UNSUPPORTED.values(), ids=UNSUPPORTED)
@pytest.mark.parametrize("rpc", ["Generate", "GenerateImages"])
async def test_a_flow_is_refused_where_the_model_lacks_it(api, stages, rpc, bad, flow, sentence):
    error = await failure(getattr(api, rpc)(bad))
    assert (error.reason, error.message) == (Reason.FLOW_UNSUPPORTED, sentence)
    assert error.metadata == {"flow": flow, "model": bad.model}
    assert stages.calls == []


async def test_an_answer_too_large_for_one_message(api, stages):
    large = prompted(
        decoder={"height": 1024, "width": 1024}, images_per_prompt=3, output={"format": 5}
    )
    error = await failure(api.GenerateImages(large))
    assert (error.reason, error.metadata) == (Reason.ANSWER_TOO_LARGE, {"rpc": "Generate"})
    assert error.message == (
        "6 images of 6291456 pixels in all may take 75497472 bytes as FLOAT_PIXELS, and one "
        "message holds 67108864; call Generate, which streams them"
    )
    assert stages.calls == []
