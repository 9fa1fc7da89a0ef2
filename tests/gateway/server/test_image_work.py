"""When input images are decoded: after every check, within the pixel quota, and for no longer."""

import asyncio
import io
import threading

import pytest
from PIL import Image

from gateway.server.codec_pool import ImageCodecPool
from gateway.server.image_work import ImageCodecs, ImageWork
from gateway.server.pixel_quota import PixelQuota
from kandinsky.v1.generation_pb2_grpc import GenerationServiceStub
from kandinsky.wire import images
from kandinsky.wire.errors import Reason
from kandinsky.wire.images import MAX_PIXELS
from tests.gateway.errors import failure
from tests.gateway.fakes import Hold
from tests.gateway.messages import FLOWS, request, text, variation


def png(size, mode="L", level=255):
    file = io.BytesIO()
    Image.new(mode, size, level).save(file, "PNG")
    return {"encoded": file.getvalue()}


LARGEST = png((4096, 4096))


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
def quota(monkeypatch):
    """The pixel quota of the gateway that the test starts."""
    made = []

    class Kept(PixelQuota):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("gateway.server.app.PixelQuota", Kept)
    return made


BAD_SETTINGS = {"decoder": {"steps": 0, "height": 64, "width": 128}, "seed": -1}


@pytest.mark.parametrize("flow", FLOWS)
async def test_a_refused_request_decodes_nothing(api, decoded, flow):
    error = await failure(api.Generate(request(flow, **BAD_SETTINGS)))
    assert "decoder.steps" in {violation.field for violation in error.violations}
    assert not decoded


MASKS = {
    "too many": ([png((64, 64))] * 9, ""),
    "not one a prompt": ([png((128, 64))] * 3, ""),
    "more pixels than a request may have": ([LARGEST] * 3, "[2].encoded"),
}


@pytest.mark.parametrize(("masks", "field"), MASKS.values(), ids=MASKS)
async def test_masks_are_counted_before_any_is_decoded(api, decoded, masks, field):
    changes = {"guide": text("a", "b"), "canvas.inpaint.masks": masks}
    error = await failure(api.Generate(request("text+inpaint", changes)))
    assert f"canvas.inpaint.masks{field}" in {violation.field for violation in error.violations}
    assert not decoded


async def test_masks_of_a_crop_count_at_their_images_size(api, decoded):
    canvas = {"images": [LARGEST], "masks": [png((64, 64))] * 2, "padding_mask_crop": 1}
    error = await failure(api.Generate(request(guide=text("a", "b"), canvas={"inpaint": canvas})))
    fields = [violation.field for violation in error.violations]
    assert fields == ["canvas.inpaint.padding_mask_crop"]
    assert not decoded


async def test_too_many_images_for_the_gateway_decode_nothing(gateway_at, stages, decoded):
    hold = stages.holds["Decode"] = Hold()
    async with gateway_at(max_requests=4) as (_, channel):
        stub = GenerationServiceStub(channel)
        first = stub.Generate(request(images_per_prompt=3))
        await hold.asked.wait()
        several = request("variation", images_per_prompt=3)
        assert (await failure(stub.Generate(several))).reason is Reason.OVERLOADED
        assert not decoded
        hold.released.set()
        assert [event async for event in first]


async def test_each_image_is_decoded_once(api, decoded):
    changes = {"guide": text("a", "b"), "canvas.inpaint.masks": [png((128, 64))] * 2}
    await api.GenerateImages(request("text+inpaint", changes))
    fields = ["images[0]", "masks[0]", "masks[1]"]
    assert sorted(decoded) == [f"canvas.inpaint.{field}.encoded" for field in fields]


async def test_an_image_of_guide_canvas_and_prior_is_decoded_once(api, decoded):
    changes = {"canvas.image.strength": 0.5, "negative.texts": ["x"], "prior.start.strength": 0.5}
    await api.GenerateImages(request("variation", changes))
    assert decoded == ["guide.image.images[0].encoded"]


HELD = {
    # flow: the stage call at which pixels are looked at, and how many are held then
    "a canvas drops them": ("text+image", "Decode", {}, 0),
    "a variation, until the image encoder has answered": ("variation", "EncodeImage", {}, 64 * 128),
    "a variation, after that": ("variation", "Decode", {}, 0),
    "a crop, to the end": (
        "text+inpaint",
        "Decode",
        {"canvas.inpaint.padding_mask_crop": 0},
        2 * 64 * 128,
    ),
}


@pytest.mark.parametrize(("flow", "stage", "fields", "held"), HELD.values(), ids=HELD)
async def test_pixels_are_held_as_long_as_they_are_needed(
    gateway_at, stages, quota, flow, stage, fields, held
):
    hold = stages.holds[stage] = Hold()
    async with gateway_at() as (_, channel):
        call = GenerationServiceStub(channel).Generate(request(flow, fields))
        await hold.asked.wait()
        assert quota[0].held == held
        hold.released.set()
        assert [event async for event in call]
        assert quota[0].held == 0


async def test_a_request_without_images_waits_for_no_decode(gateway_at, monkeypatch):
    begun, over, real, in_time = threading.Event(), threading.Event(), images.decode, []

    def slow(*args, **options):
        begun.set()
        in_time.append(over.wait(30))
        return real(*args, **options)

    monkeypatch.setattr(images, "decode", slow)
    async with gateway_at() as (_, channel):
        stub = GenerationServiceStub(channel)
        slow_call = stub.Generate(request("variation"), metadata=(("x-tenant", "a"),))
        await asyncio.to_thread(begun.wait, 60)
        assert (await stub.GenerateImages(request())).images
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
    work = ImageWork(ImageCodecs(pool, PixelQuota(4 * MAX_PIXELS, 60)), "a")
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


async def test_large_images_of_one_tenant_delay_no_other(gateway_at, stages, quota):
    hold = stages.holds["EncodeImage"] = Hold()
    large = request(guide=variation(LARGEST), decoder={"height": 64, "width": 64})
    async with gateway_at() as (_, channel):
        stub = GenerationServiceStub(channel)
        calls = [stub.Generate(large, metadata=(("x-tenant", "a"),)) for _ in range(3)]
        await stages.called("EncodeImage", 2)
        assert quota[0].held == 2 * MAX_PIXELS  # the third waits
        other = stub.Generate(request("variation"), metadata=(("x-tenant", "b"),))
        asked = await stages.called("EncodeImage", 3)
        assert list(asked[2].request.pixels.shape) == [64, 128, 3]
        assert quota[0].held == 2 * MAX_PIXELS + 64 * 128
        hold.released.set()
        for call in (*calls, other):
            assert [event async for event in call]
        assert quota[0].held == 0
