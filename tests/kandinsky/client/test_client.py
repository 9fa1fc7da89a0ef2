"""Both clients against a recording gateway: what goes out, what comes back."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kandinsky import (
    AsyncClient,
    Client,
    Generated,
    KandinskyError,
    Preview,
    Progress,
    Queued,
    Reason,
)
from kandinsky.client import CostEstimate, StageCost, guides, requests
from kandinsky.v1 import generation_pb2, sampling_pb2, settings_pb2
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.wire import tensors
from kandinsky.wire.errors import carries_reason, invalid
from tests.kandinsky import recording
from tests.kandinsky.recording import RED, RecordingGateway

Draw = Callable[..., list[Generated]]


PROMPT = ("a",)


def draw_sync(address: str, *args: Any, **options: Any) -> list[Generated]:
    with Client(address) as client:
        return client.text_to_image(*(args or PROMPT), **options)


def draw_async(address: str, *args: Any, **options: Any) -> list[Generated]:
    async def draw() -> list[Generated]:
        async with AsyncClient(address) as client:
            return await client.text_to_image(*(args or PROMPT), **options)

    return asyncio.run(draw())


@pytest.fixture(params=[draw_sync, draw_async])
def draw(request: pytest.FixtureRequest, gateway: RecordingGateway) -> Draw:
    return lambda *args, **options: request.param(gateway.address, *args, **options)


def test_everything_that_is_given_stands_in_the_request(
    draw: Draw, gateway: RecordingGateway
) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    draw(
        "a red circle",
        model="tiny",
        negative_prompts=["blue"],
        images_per_prompt=2,
        height=128,
        width=64,
        steps=9,
        guidance_scale=0.0,
        guidance_interval=(0.25, 1),
        step_cache_interval=3,
        preset="fast",
        prior_steps=5,
        prior_guidance_scale=1.5,
        prior_guidance_interval=(0, 0.5),
        seed=0,
        output_format="jpeg",
        output_quality=80,
        latents=latents,
        request_id="abc",
        timeout=30,
    )
    assert gateway.requests == [
        GenerateRequest(
            model="tiny",
            guide={"text": {"prompts": ["a red circle"]}},
            negative={"texts": ["blue"]},
            images_per_prompt=2,
            seed=0,
            prior={
                "steps": 5,
                "guidance_scale": 1.5,
                "guidance_interval": {"low": 0, "high": 0.5},
            },
            decoder={
                "height": 128,
                "width": 64,
                "steps": 9,
                "guidance_scale": 0.0,
                "guidance_interval": {"low": 0.25, "high": 1},
                "step_cache_interval": 3,
                "preset": "PRESET_FAST",
                "latents": tensors.encode(latents),
            },
            output={"format": "OUTPUT_FORMAT_JPEG", "quality": 80},
        )
    ]
    assert gateway.metadata[0]["x-request-id"] == "abc"
    assert 20 < gateway.time_left[0] < 31  # gRPC rounds up


def test_what_is_left_out_stays_unset(draw: Draw, gateway: RecordingGateway) -> None:
    draw(["a", "b"], steps=None)
    assert gateway.requests == [
        GenerateRequest(model="shapes", guide={"text": {"prompts": ["a", "b"]}})
    ]


def test_images_come_decoded_and_in_order(draw: Draw, gateway: RecordingGateway) -> None:
    gateway.events = [recording.image(1, seed=8), recording.image(0, seed=7)]
    first, second = draw("a", images_per_prompt=2)
    assert (first.index, first.seed, second.index, second.seed) == (0, 7, 1, 8)
    assert first.image.size == (6, 4)
    assert np.array_equal(first.array, RED)
    assert first.elapsed == 2.5
    assert list(first.stats) == ["decoder"]
    assert first.stats["decoder"].running == 0.5
    assert first.stats["decoder"].shared_forwards == 5
    assert first.stats["decoder"].first_shared_forward is None


def test_progress_is_reported(draw: Draw, gateway: RecordingGateway) -> None:
    gateway.events = [
        recording.queued(0, 3),
        recording.progress(0, "denoise", 2, 25),
        generation_pb2.GenerateEvent(),  # a kind that this client does not know
        recording.image(0, seed=1),
    ]
    reported: list[Progress] = []
    assert len(draw("a", on_progress=reported.append)) == 1
    assert reported == [Progress(0, "denoise", 2, 25, remaining=1.5)]


def test_an_error_keeps_its_violations(draw: Draw, gateway: RecordingGateway) -> None:
    gateway.error = invalid("decoder.height", "100 is not a multiple of 64")
    with pytest.raises(KandinskyError) as caught:
        draw("a")
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.violations == gateway.error.violations


def test_an_overload_says_when_to_come_back(draw: Draw, gateway: RecordingGateway) -> None:
    gateway.error = KandinskyError(Reason.OVERLOADED, "full", retry_after=1.5)
    with pytest.raises(KandinskyError) as caught:
        draw("a")
    assert (caught.value.reason, caught.value.retry_after) == (Reason.OVERLOADED, 1.5)


@pytest.mark.parametrize("draw_at", [draw_sync, draw_async])
def test_an_unreachable_server_is_named(draw_at: Draw) -> None:
    with pytest.raises(KandinskyError, match=r"no server answers at 127\.0\.0\.1:1:") as caught:
        draw_at("127.0.0.1:1", "a")
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert not carries_reason(caught.value.__cause__)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"height": 2**40}, "decoder.height"),
        ({"steps": 2.5}, "decoder.steps"),
        ({"seed": "one"}, "seed"),
        ({"output_format": "gif"}, "output.format"),
        ({"latents": np.array(["a"])}, "decoder.latents"),
        ({"negative_prompts": [1]}, "negative.texts[0]"),
        ({"request_id": "ü"}, "x-request-id"),
        ({"steps": 0}, "decoder.steps"),
        ({"guidance_scale": float("nan")}, "decoder.guidance_scale"),
        ({"prior_guidance_scale": 101}, "prior.guidance_scale"),
        ({"seed": -1}, "seed"),
        ({"output_quality": 101}, "output.quality"),
        ({"preset": "quick"}, "decoder.preset"),
        ({"guidance_interval": 0.5}, "decoder.guidance_interval"),
        ({"guidance_interval": (0.5, 2)}, "decoder.guidance_interval.high"),
        ({"step_cache_interval": 0}, "decoder.step_cache_interval"),
        ({"latents": np.zeros((4, 8, 8), np.float32)}, "decoder.latents.shape"),
    ],
)
def test_what_the_contract_does_not_allow_is_refused_before_it_is_sent(
    gateway: RecordingGateway, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(KandinskyError) as caught:
        draw_sync(gateway.address, "a", **options)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert gateway.requests == []


def estimate_sync(address: str, **options: Any) -> CostEstimate:
    with Client(address) as client:
        return client.estimate(guides.text("a"), **options)


def estimate_async(address: str, **options: Any) -> CostEstimate:
    async def ask() -> CostEstimate:
        async with AsyncClient(address) as client:
            return await client.estimate(guides.text("a"), **options)

    return asyncio.run(ask())


@pytest.mark.parametrize("estimate", [estimate_sync, estimate_async])
def test_an_estimate_asks_what_a_request_would_cost(
    gateway: RecordingGateway, estimate: Any
) -> None:
    assert estimate(gateway.address, steps=9, request_id="abc") == CostEstimate(
        images=1,
        stages={
            "prior": StageCost(denoise_cost=50, running=0.5, queued=0),
            "decoder": StageCost(denoise_cost=12_800, running=None, queued=None),
        },
        least=2.5,
    )
    assert gateway.requests == [
        GenerateRequest(
            model="shapes",
            guide={"text": {"prompts": ["a"]}},
            decoder={"steps": 9},
            validate_only=True,
        )
    ]
    assert gateway.metadata[0]["x-request-id"] == "abc"


def test_a_stream_of_an_estimate_has_it_as_its_only_event(gateway: RecordingGateway) -> None:
    gateway.events = [recording.estimated()]
    with Client(gateway.address) as client:
        [event] = client.stream(requests.estimate(guides.text("a")))
    assert isinstance(event, CostEstimate)
    assert gateway.requests[0].validate_only


def models_sync(address: str, **options: Any) -> Any:
    with Client(address) as client:
        return client.list_models(**options)


def models_async(address: str, **options: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(address) as client:
            return await client.list_models(**options)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "call",
    [draw_sync, draw_async, models_sync, models_async, estimate_sync, estimate_async],
)
def test_a_deadline_that_passes_is_named(call: Any, gateway: RecordingGateway) -> None:
    gateway.silent = True
    with pytest.raises(KandinskyError) as caught:
        call(gateway.address, timeout=0.01)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert caught.value.message == (
        f"the deadline of 0.01 s passed before the server at {gateway.address} had answered"
    )


def test_the_server_s_own_sentence_on_a_deadline_is_kept(
    draw: Draw, gateway: RecordingGateway
) -> None:
    gateway.error = KandinskyError(Reason.DEADLINE_EXCEEDED, "it would take 9 s")
    with pytest.raises(KandinskyError, match=r"^it would take 9 s$"):
        draw("a", timeout=60)


BAD_TIMEOUTS = [0, 0.0, -1, float("nan"), float("inf"), 1e18, "soon"]


@pytest.mark.parametrize("timeout", BAD_TIMEOUTS)
@pytest.mark.parametrize("call", [draw_sync, draw_async, models_sync, models_async])
def test_a_bad_timeout_is_refused(call: Any, timeout: Any, gateway: RecordingGateway) -> None:
    with pytest.raises(KandinskyError) as caught:
        call(gateway.address, timeout=timeout)
    [violation] = caught.value.violations
    assert violation.field == "timeout"
    assert "above 0" in violation.description
    assert gateway.requests == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("timeout", BAD_TIMEOUTS)
def test_so_is_that_of_a_client(kind: Any, timeout: Any) -> None:
    with pytest.raises(KandinskyError, match=r"^timeout: "):
        kind(timeout=timeout)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":50051",
        "a:0",
        "a:65536",
        "a:b",
        "a b:1",
        "http://a:1",
        "::1:50051",
        "a:1\n",
    ],
)
def test_a_bad_address_is_refused(kind: Any, address: str) -> None:
    with pytest.raises(KandinskyError, match="HOST:PORT") as caught:
        kind(address)
    assert [violation.field for violation in caught.value.violations] == ["address"]


@pytest.mark.parametrize(
    "address", ["localhost:1", "10.0.0.1:65535", "[::1]:50051", "my_host-2.svc.cluster.local:443"]
)
def test_an_address_is_host_and_port(address: str) -> None:
    Client(address).close()


def test_an_unknown_option_is_a_type_error(draw: Draw) -> None:
    with pytest.raises(TypeError, match="colour"):
        draw("a", colour="red")
    with pytest.raises(TypeError, match="text_to_image has no option prior_strength"):
        draw("a", prior_strength=0.5)


def test_a_stream_gives_events_as_they_come(gateway: RecordingGateway) -> None:
    gateway.events = [recording.queued(0, 3), recording.image(0, seed=1)]
    with Client(gateway.address) as client:
        events = list(client.stream(requests.text_to_image("a")))
    assert events[0] == Queued(0, position=3, wait=2)
    assert isinstance(events[1], Generated)


def test_a_preview_says_what_it_cost(gateway: RecordingGateway) -> None:
    gateway.events = [recording.preview(0, 5), recording.image(0, seed=1)]
    with Client(gateway.address) as client:
        request = requests.text_to_image("a", preview_every=5, preview_mode="decode")
        preview, image = client.stream(request)
    assert gateway.requests[0].events.preview_every == 5
    assert gateway.requests[0].events.preview_mode == sampling_pb2.PREVIEW_MODE_DECODE
    assert isinstance(preview, Preview) and isinstance(image, Generated)
    assert (preview.step, preview.cost) == (5, pytest.approx(0.002))
    np.testing.assert_array_equal(preview.pixels, RED)
    assert (image.stats["decoder"].resumes, image.stats["decoder"].steps_redone) == (2, 7)


def test_tenant_and_priority_go_with_every_call(gateway: RecordingGateway) -> None:
    gateway.events = [recording.image(0, seed=1)]
    with Client(gateway.address, tenant="studio", priority=-3) as client:
        client.text_to_image("a")
    assert gateway.metadata[0]["x-tenant"] == "studio"
    assert gateway.metadata[0]["x-priority"] == "-3"


async def test_an_async_stream_gives_events_as_they_come(gateway: RecordingGateway) -> None:
    gateway.events = [recording.queued(0, 3), recording.image(0, seed=1)]
    async with AsyncClient(gateway.address) as client:
        events = [event async for event in client.stream(requests.text_to_image("a"))]
        assert [model.name for model in await client.list_models()] == ["shapes"]
    assert events[0] == Queued(0, position=3, wait=2)
    assert isinstance(events[1], Generated)


@pytest.mark.parametrize(
    ("format", "array"),
    [
        (settings_pb2.OUTPUT_FORMAT_PIXELS, RED),
        (settings_pb2.OUTPUT_FORMAT_FLOAT_PIXELS, (RED / 255).astype(np.float32)),
        (settings_pb2.OUTPUT_FORMAT_LATENTS, np.zeros((4, 8, 8), np.float32)),
    ],
)
def test_tensors_come_as_arrays(gateway: RecordingGateway, format: Any, array: Any) -> None:
    gateway.events = [recording.tensor(0, format, array)]
    with Client(gateway.address) as client:
        (image,) = client.text_to_image("a")
    assert image.array.dtype == array.dtype
    assert np.array_equal(image.array, array)
    if image.format == "latents":
        with pytest.raises(ValueError, match="latents are not pixels"):
            image.image  # noqa: B018
    else:
        assert np.array_equal(np.asarray(image.image), RED)


def test_saving_keeps_the_file_or_turns_it_into_another(
    gateway: RecordingGateway, tmp_path: Path
) -> None:
    with Client(gateway.address) as client:
        (image,) = client.text_to_image("a")
    image.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == image.encoded
    image.save(tmp_path / "a.webp")
    assert (tmp_path / "a.webp").read_bytes()[8:12] == b"WEBP"
    image.save(tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), RED)


def test_neither_client_nor_command_imports_torch_or_ray() -> None:
    program = (
        "import sys, kandinsky, kandinsky.cli.app; kandinsky.Client; "
        "print([name for name in ('torch', 'ray', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
