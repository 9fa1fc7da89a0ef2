"""Texts and images on their way to a decoder that attends to both."""

import numpy as np
import pytest

from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure
from tests.gateway.messages import level, text
from tests.gateway.test_flows import asked


@pytest.fixture(autouse=True)
def reading_decoder(stages):
    stages.readers = ("decoder",)


def dual(*prompts, images, **fields):
    return {"text_and_image": {"prompts": prompts, "images": images, **fields}}


def sent(stages):
    return [call.request.conditioning for call in stages.calls if call.method == "Decode"]


def ratio(conditioning):
    return float(tensors.decode(conditioning.mix_ratio, "mix_ratio")[0])


@pytest.mark.parametrize(("fields", "share"), [({}, 0.5), ({"text_to_image_strength": 0.25}, 0.25)])
async def test_each_prompt_has_its_image_and_the_share(api, stages, fields, share):
    guide = dual("a", "b", images=[level(1, 64, 64), level(2, 64, 64)], **fields)
    await api.GenerateImages(asked(model="attending", guide=guide))
    first, second = sent(stages)
    assert ratio(first) == ratio(second) == share
    assert first.text_states != second.text_states
    assert first.image_states != second.image_states
    assert first.HasField("negative_text_states")
    assert first.HasField("negative_image_states")


async def test_one_image_for_all_prompts(api, stages):
    guide = dual("a", "b", images=[level(1, 64, 64)])
    await api.GenerateImages(asked(model="attending", guide=guide))
    first, second = sent(stages)
    assert first.image_states == second.image_states
    assert [call.method for call in stages.calls].count("EncodeImage") == 1


async def test_a_text_alone_has_all_of_the_share_and_no_image(api, stages):
    await api.GenerateImages(asked(model="attending", guide=text("a")))
    [conditioning] = sent(stages)
    assert ratio(conditioning) == 1
    assert not conditioning.HasField("image_states")


async def test_an_image_alone_leaves_the_text_none(api, stages):
    guide = {"image": {"images": [level(1, 64, 64)]}}
    await api.GenerateImages(asked(model="attending", guide=guide))
    [conditioning] = sent(stages)
    assert ratio(conditioning) == 0
    assert conditioning.HasField("image_states")


async def test_conditionings_may_leave_the_image_out(api, stages):
    given = {
        "text_states": tensors.encode(np.ones((77, 8), np.float32)),
        "negative_text_states": tensors.encode(np.zeros((77, 8), np.float32)),
    }
    guide = {"embeddings": {"conditionings": [given]}}
    error = await failure(api.GenerateImages(asked(model="attending", guide=guide)))
    at = "guide.embeddings.conditionings[0]"
    assert [violation.field for violation in error.violations] == [f"{at}.mix_ratio"]
    given["mix_ratio"] = tensors.encode(np.ones(1, np.float32))
    await api.GenerateImages(asked(model="attending", guide=guide))
    [conditioning] = sent(stages)
    assert not conditioning.HasField("image_states")


@pytest.mark.parametrize(
    ("guide", "field"),
    [
        (dual(images=[level(1, 64, 64)]), "guide.text_and_image.prompts"),
        (dual("a", images=[]), "guide.text_and_image.images"),
        (dual("a", "b", "c", images=[level(1, 64, 64)] * 2), "guide.text_and_image.images"),
        (
            dual("a", images=[level(1, 64, 64)], text_to_image_strength=1.5),
            "guide.text_and_image.text_to_image_strength",
        ),
    ],
)
async def test_what_cannot_be_is_named(api, stages, guide, field):
    error = await failure(api.GenerateImages(asked(model="attending", guide=guide)))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [field]
    assert not stages.calls


async def test_a_decoder_that_attends_to_no_image_has_no_such_guide(api, stages):
    guide = dual("a", images=[level(1, 64, 64)])
    error = await failure(api.GenerateImages(asked(guide=guide)))
    assert error.reason is Reason.FLOW_UNSUPPORTED
    assert not stages.calls
