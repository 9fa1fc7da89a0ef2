"""Settings of super-resolution: where they go, and who refuses them."""

import numpy as np
import pytest

from kandinsky.wire import tensors
from kandinsky.wire.errors import Reason
from tests.gateway.errors import failure
from tests.gateway.messages import floats, level, text
from tests.gateway.test_flows import asked


def upscaling(stages):
    return [call.request.super_resolution for call in stages.calls if call.method == "Decode"]


async def test_the_models_steps_where_a_request_names_none(api, stages):
    await api.GenerateImages(asked(model="upscaling", guide=text("a")))
    [sent] = upscaling(stages)
    assert (sent.steps, sent.HasField("noise")) == (6, False)


async def test_each_image_has_its_row_of_noise(api, stages):
    noise = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    settings = {"steps": 3, "latents": tensors.encode(noise)}
    request = asked(
        model="upscaling", guide=text("a"), images_per_prompt=2, super_resolution=settings
    )
    await api.GenerateImages(request)
    for sent, row in zip(upscaling(stages), noise, strict=True):
        assert sent.steps == 3
        np.testing.assert_array_equal(tensors.decode(sent.noise, "noise"), row)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"steps": 0}, "super_resolution.steps"),
        ({"steps": 1}, "super_resolution.steps"),
        ({"steps": 21}, "super_resolution.steps"),
        ({"latents": floats(3, 3, 64, 64)}, "super_resolution.latents.shape"),
    ],
)
async def test_what_cannot_be_is_named(api, stages, settings, field):
    request = asked(
        model="upscaling", guide=text("a"), images_per_prompt=2, super_resolution=settings
    )
    error = await failure(api.GenerateImages(request))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [field]
    assert not stages.calls


@pytest.mark.parametrize("settings", [{"scheduler": "ddim"}, {"eta": 0.5}])
async def test_a_model_of_one_scheduler_has_no_choice(api, stages, settings):
    request = asked(model="upscaling", guide=text("a"), decoder=settings)
    error = await failure(api.GenerateImages(request))
    assert [violation.field for violation in error.violations] == [
        f"decoder.{next(iter(settings))}"
    ]
    assert not stages.calls


async def test_a_model_without_small_images_refuses_every_setting(api, stages):
    error = await failure(api.GenerateImages(asked(guide=text("a"), super_resolution={"steps": 3})))
    assert [violation.field for violation in error.violations] == ["super_resolution.steps"]
    assert not stages.calls


async def test_its_steps_are_part_of_the_cost(api):
    async def cost(steps):
        request = asked(
            model="upscaling",
            guide=text("a"),
            super_resolution={"steps": steps},
            validate_only=True,
        )
        stages = (await api.GenerateImages(request)).estimate.stages
        return {each.stage: each.denoise_cost for each in stages}

    less, more = await cost(4), await cost(5)
    assert more["decoder"] - less["decoder"] == 64 * 64
    assert more["prior"] == less["prior"]


async def test_a_model_of_one_size_keeps_it_whatever_the_images(api, stages):
    await api.GenerateImages(
        asked(model="upscaling", guide={"image": {"images": [level(9, 128, 256)]}})
    )
    [sent] = [call.request.start for call in stages.calls if call.method == "Decode"]
    assert (sent.height, sent.width) == (64, 64)
