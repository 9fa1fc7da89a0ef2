"""When input images are decoded: after every check, within the pixel budget, and for no longer."""

import asyncio
import io
import threading

import pytest
from PIL import Image

from gateway.image_work import ImageCodecs, ImageWork
from gateway.server.codec_pool import ImageCodecPool
from gateway.server.pixel_budget import PixelBudget
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire import images
from kandinsky.wire.errors import Reason
from kandinsky.wire.images import MAX_PIXELS
from tests.gateway.errors import failure
from tests.gateway.fakes import Hold
from tests.gateway.test_bad_inputs import GOOD


def png(size, mode="L", level=255):
    file = io.BytesIO()
    Image.new(mode, size, level).save(file, "PNG")
    return {"encoded": file.getvalue()}


LARGEST = png((4096, 4096))
ASKED = {
    flow: getattr(generation, f"{flow}Request")(model="tiny", **fields)
    for flow, fields in GOOD.items()
}


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the files that were decoded, in order."""
    paths = []
    for name in ("decode", "decode_mask"):
        real = getattr(images, name)

        def decode(data, field, real=real, **options):
            paths.append(field)
            return real(data, field, **options)

        monkeypatch.setattr(images, name, decode)
    return paths


@pytest.fixture
def budget(monkeypatch):
    """The pixel budget of the gateway that the test starts."""
    made = []

    class Kept(PixelBudget):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("gateway.server.app.PixelBudget", Kept)
    return made


BAD_SETTINGS = {"steps": 0, "seed": -1, "height": 64, "width": 128}


@pytest.mark.parametrize("flow", GOOD)
async def test_a_refused_request_decodes_nothing(api, decoded, flow):
    request = type(ASKED[flow])()
    request.CopyFrom(ASKED[flow])
    request.settings.CopyFrom(generation.GenerationSettings(**BAD_SETTINGS))
    error = await failure(getattr(api, flow)(request))
    assert "settings.steps" in {violation.field for violation in error.violations}
    assert not decoded


MASKS = {
    "too many": ([png((64, 64))] * 9, "masks"),
    "not one a prompt": ([png((128, 64))] * 3, "masks"),
    "more pixels than a request may have": ([LARGEST] * 3, "masks[2].encoded"),
}


@pytest.mark.parametrize(("masks", "field"), MASKS.values(), ids=MASKS)
async def test_masks_are_counted_before_any_is_decoded(api, decoded, masks, field):
    request = generation.InpaintRequest(
        model="tiny", prompts=["a", "b"], image=GOOD["Inpaint"]["image"], masks=masks
    )
    error = await failure(api.Inpaint(request))
    assert field in {violation.field for violation in error.violations}
    assert not decoded


async def test_masks_of_a_crop_count_at_their_pictures_size(api, decoded):
    request = generation.InpaintRequest(
        model="tiny",
        prompts=["a", "b"],
        image=LARGEST,
        masks=[png((64, 64))] * 2,
        padding_mask_crop=1,
    )
    error = await failure(api.Inpaint(request))
    assert [violation.field for violation in error.violations] == ["padding_mask_crop"]
    assert not decoded


async def test_too_many_images_for_the_gateway_decode_nothing(gateway_at, stages, decoded):
    hold = stages.holds["Decode"] = Hold()
    async with gateway_at(max_requests=4) as (_, channel):
        stub = GenerationServiceStub(channel)
        text = generation.TextToImageRequest(
            model="tiny", prompts=["a"], settings={"images_per_prompt": 3}
        )
        first = stub.TextToImage(text)
        await hold.asked.wait()
        several = generation.VariationRequest(
            model="tiny", image=GOOD["Variation"]["image"], settings={"images_per_prompt": 3}
        )
        assert (await failure(stub.Variation(several))).reason is Reason.OVERLOADED
        assert not decoded
        hold.released.set()
        assert [event async for event in first]


async def test_each_image_is_decoded_once(api, decoded):
    request = generation.InpaintRequest(
        model="tiny",
        prompts=["a", "b"],
        image=GOOD["Inpaint"]["image"],
        masks=[png((128, 64))] * 2,
    )
    await api.InpaintUnary(request)
    assert sorted(decoded) == ["image.encoded", "masks[0].encoded", "masks[1].encoded"]


HELD = {
    # flow: the stage call at which pixels are looked at, and how many are held then
    "a canvas drops them": ("ImageToImage", "Decode", {}, 0),
    "a variation, until the image encoder has answered": ("Variation", "EncodeImage", {}, 64 * 128),
    "a variation, after that": ("Variation", "Decode", {}, 0),
    "a crop, to the end": ("Inpaint", "Decode", {"padding_mask_crop": 0}, 2 * 64 * 128),
}


@pytest.mark.parametrize(("flow", "stage", "fields", "held"), HELD.values(), ids=HELD)
async def test_pixels_are_held_as_long_as_they_are_needed(
    gateway_at, stages, budget, flow, stage, fields, held
):
    hold = stages.holds[stage] = Hold()
    request = type(ASKED[flow])(**fields)
    request.MergeFrom(ASKED[flow])
    async with gateway_at() as (_, channel):
        call = getattr(GenerationServiceStub(channel), flow)(request)
        await hold.asked.wait()
        assert budget[0].held == held
        hold.released.set()
        assert [event async for event in call]
        assert budget[0].held == 0


async def test_a_request_without_images_waits_for_no_decode(gateway_at, monkeypatch):
    begun, over, real, in_time = threading.Event(), threading.Event(), images.decode, []

    def slow(*args, **options):
        begun.set()
        in_time.append(over.wait(30))
        return real(*args, **options)

    monkeypatch.setattr(images, "decode", slow)
    async with gateway_at() as (_, channel):
        stub = GenerationServiceStub(channel)
        slow_call = stub.Variation(ASKED["Variation"], metadata=(("x-tenant", "a"),))
        await asyncio.to_thread(begun.wait, 60)
        text = generation.TextToImageRequest(model="tiny", prompts=["a"])
        assert (await stub.TextToImageUnary(text)).images
        over.set()
        assert [event async for event in slow_call]
    assert in_time == [True]  # not only when the decode gave up


async def test_whole_results_of_a_crop_are_made_one_after_the_other(monkeypatch):
    made = []

    async def finish(self, result, *_):
        made.append(result)
        return result

    monkeypatch.setattr(ImageWork, "_finish", finish)
    pool = ImageCodecPool(1)
    work = ImageWork(ImageCodecs(pool, PixelBudget(4 * MAX_PIXELS, 60)), "a")
    handed_over = asyncio.Event()

    async def hand_over(result, crop):
        async with work.finished(result, None, None, crop):
            await handed_over.wait()

    crops = [asyncio.create_task(hand_over(name, object())) for name in ("first", "second")]
    others = [asyncio.create_task(hand_over(name, None)) for name in ("third", "fourth")]
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(made) == ["first", "fourth", "third"]
    handed_over.set()
    await asyncio.gather(*crops, *others)
    assert sorted(made) == ["first", "fourth", "second", "third"]
    pool.close()


async def test_large_images_of_one_tenant_delay_no_other(gateway_at, stages, budget):
    hold = stages.holds["EncodeImage"] = Hold()
    large = generation.VariationRequest(
        model="tiny", image=LARGEST, settings={"height": 64, "width": 64}
    )
    async with gateway_at() as (_, channel):
        stub = GenerationServiceStub(channel)
        calls = [stub.Variation(large, metadata=(("x-tenant", "a"),)) for _ in range(3)]
        await stages.called("EncodeImage", 2)
        assert budget[0].held == 2 * MAX_PIXELS  # the third waits
        other = stub.Variation(ASKED["Variation"], metadata=(("x-tenant", "b"),))
        asked = await stages.called("EncodeImage", 3)
        assert list(asked[2].request.pixels.shape) == [64, 128, 3]
        assert budget[0].held == 2 * MAX_PIXELS + 64 * 128
        hold.released.set()
        for call in (*calls, other):
            assert [event async for event in call]
        assert budget[0].held == 0
