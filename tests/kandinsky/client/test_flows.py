"""Every flow's method of both clients: the request that goes out, as data."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kandinsky import AsyncClient, Client, KandinskyError
from kandinsky.client import (
    Embedding,
    Generated,
    Latents,
    canvases,
    guides,
    requests,
    save_animation,
)
from kandinsky.client.embedding_flows import EmbeddingFlows
from kandinsky.client.flows import Flows, Requests
from kandinsky.client.prompt_flows import PromptFlows
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.v1.input_image_pb2 import InputImage
from kandinsky.wire import images, tensors
from tests.kandinsky import recording
from tests.kandinsky.recording import RED, RecordingGateway

FILE = b"an image file"
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
HOLE = np.eye(4, dtype=bool)[None]
VECTOR = np.arange(4, dtype=np.float32)
OTHER = VECTOR + 1
LATENT = np.zeros((4, 2, 2), np.float32)
SENT = {"encoded": FILE}
SENT_PIXELS = {"pixels": tensors.encode(PIXELS)}
SENT_HOLE = {"pixels": tensors.encode(HOLE)}

CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], GenerateRequest]] = {
    "text to image": (
        "text_to_image",
        (["a", "b"],),
        {"prior_latents": VECTOR[None], "negative_image_embeds": VECTOR[None]},
        GenerateRequest(
            guide={"text": {"prompts": ["a", "b"]}},
            negative={"image_embeds": tensors.encode(VECTOR[None])},
            prior={"latents": tensors.encode(VECTOR[None])},
        ),
    ),
    "text to image of embeddings": (
        "text_to_image",
        (),
        {"image_embeds": [VECTOR, OTHER], "negative_image_embeds": [OTHER]},
        GenerateRequest(
            guide={
                "embeddings": {
                    "conditionings": [
                        {
                            "image_embed": tensors.encode(VECTOR),
                            "negative_image_embed": tensors.encode(OTHER),
                        },
                        {
                            "image_embed": tensors.encode(OTHER),
                            "negative_image_embed": tensors.encode(OTHER),
                        },
                    ]
                }
            },
        ),
    ),
    "text to image of embeddings, a decoder that reads text": (
        "text_to_image",
        ("a",),
        {"image_embeds": VECTOR[None], "negative_prompts": "x"},
        GenerateRequest(
            guide={"embeddings": {"conditionings": [{"image_embed": tensors.encode(VECTOR)}]}},
            decoder={"texts": ["a"], "negative_texts": ["x"]},
        ),
    ),
    "mix": (
        "mix",
        (["a", FILE, Embedding(VECTOR)], [0.5, 0.25, -1]),
        {
            "interpolation": "spherical",
            "negative_prompt": "x",
            "negative_prior_prompt": "y",
            "prompt": "z",
            "negative_image_embed": VECTOR,
            "seed": 3,
        },
        GenerateRequest(
            guide={
                "mix": {
                    "sources": [
                        {"source": {"text": "a"}, "weight": 0.5},
                        {"source": {"image": SENT}, "weight": 0.25},
                        {"source": {"image_embed": tensors.encode(VECTOR)}, "weight": -1},
                    ],
                    "interpolation": "INTERPOLATION_SPHERICAL",
                }
            },
            negative={"texts": ["x"], "image_embeds": tensors.encode(VECTOR[None])},
            prior={"negative_texts": ["y"]},
            decoder={"texts": ["z"]},
            seed=3,
        ),
    ),
    "frames": (
        "interpolate_frames",
        ("a", PIXELS, 7),
        {"latents": LATENT[None], "interpolation": "linear"},
        GenerateRequest(
            guide={
                "interpolation": {
                    "first": {"text": "a"},
                    "last": {"image": SENT_PIXELS},
                    "frames": 7,
                    "interpolation": "INTERPOLATION_LINEAR",
                }
            },
            decoder={"latents": tensors.encode(LATENT[None])},
        ),
    ),
    "frames, spherical": (
        "interpolate_frames",
        ("a", "b", 2),
        {
            "interpolation": "spherical",
            "negative_prompt": "x",
            "negative_prior_prompt": "y",
            "prompt": "z",
            "negative_image_embed": VECTOR,
        },
        GenerateRequest(
            guide={
                "interpolation": {
                    "first": {"text": "a"},
                    "last": {"text": "b"},
                    "frames": 2,
                    "interpolation": "INTERPOLATION_SPHERICAL",
                }
            },
            negative={"texts": ["x"], "image_embeds": tensors.encode(VECTOR[None])},
            prior={"negative_texts": ["y"]},
            decoder={"texts": ["z"]},
        ),
    ),
    "image to image": (
        "image_to_image",
        (Latents(LATENT), "a"),
        {"strength": 0.5, "prior_strength": 0.25, "negative_prompts": "x"},
        GenerateRequest(
            guide={"text": {"prompts": ["a"]}},
            canvas={"image": {"images": [{"latents": tensors.encode(LATENT)}], "strength": 0.5}},
            negative={"texts": ["x"]},
            prior={"start": {"strength": 0.25}},
        ),
    ),
    "inpaint, an image and a mask each": (
        "inpaint",
        ([FILE, PIXELS], [HOLE, FILE], ["a", "b"]),
        {"padding_mask_crop": 0, "scheduler": "ddim", "eta": 0.5, "progress_every": 2},
        GenerateRequest(
            guide={"text": {"prompts": ["a", "b"]}},
            canvas={
                "inpaint": {
                    "images": [SENT, SENT_PIXELS],
                    "masks": [SENT_HOLE, SENT],
                    "padding_mask_crop": 0,
                }
            },
            decoder={"scheduler": "ddim", "eta": 0.5},
            events={"progress_every": 2},
        ),
    ),
    "outpaint": (
        "outpaint",
        (FILE, ()),
        {"left": 64, "bottom": 32, "image_embeds": VECTOR[None], "strength": 0.5},
        GenerateRequest(
            guide={"embeddings": {"conditionings": [{"image_embed": tensors.encode(VECTOR)}]}},
            canvas={"outpaint": {"images": [SENT], "left": 64, "bottom": 32, "strength": 0.5}},
        ),
    ),
    "variation": (
        "variation",
        (FILE,),
        {"images_per_prompt": 2, "output_format": "webp"},
        GenerateRequest(
            guide={"image": {"images": [SENT]}},
            images_per_prompt=2,
            output={"format": "OUTPUT_FORMAT_WEBP"},
        ),
    ),
    "variation of several": (
        "variation",
        ([FILE, PIXELS],),
        {"negative_image_embeds": VECTOR[None], "prompt": "z"},
        GenerateRequest(
            guide={"image": {"images": [SENT, SENT_PIXELS]}},
            negative={"image_embeds": tensors.encode(VECTOR[None])},
            decoder={"texts": ["z"]},
        ),
    ),
    "control": (
        "control",
        (FILE, "a"),
        {"model": "tiny"},
        GenerateRequest(
            model="tiny", guide={"text": {"prompts": ["a"]}}, control={"hints": [SENT]}
        ),
    ),
    "control from an image": (
        "control",
        (FILE, ["a", "b"]),
        {"image": [FILE, FILE], "strength": 0.5, "prior_strength": 0.25},
        GenerateRequest(
            guide={"text": {"prompts": ["a", "b"]}},
            canvas={"image": {"images": [SENT, SENT], "strength": 0.5}},
            control={"hints": [SENT]},
            prior={"start": {"strength": 0.25}},
        ),
    ),
    "dual guided": (
        "dual_guided",
        (["a", "b"], FILE),
        {"text_to_image_strength": 0.25, "negative_prompts": "x", "eta": 0.5},
        GenerateRequest(
            guide={
                "text_and_image": {
                    "prompts": ["a", "b"],
                    "images": [SENT],
                    "text_to_image_strength": 0.25,
                }
            },
            negative={"texts": ["x"]},
            decoder={"eta": 0.5},
        ),
    ),
    "text-guided edit": (
        "text_guided_edit",
        (FILE, "a", "b"),
        {"amount": 0.25, "strength": 0.5, "negative_image_embed": VECTOR, "prompt": "z"},
        GenerateRequest(
            guide={"text_diff": {"images": [SENT], "source": "a", "target": "b", "amount": 0.25}},
            canvas={"image": {"strength": 0.5}},
            negative={"image_embeds": tensors.encode(VECTOR[None])},
            decoder={"texts": ["z"]},
        ),
    ),
    "text-guided edit from noise": (
        "text_guided_edit",
        (FILE, "a", "b"),
        {},
        GenerateRequest(
            guide={"text_diff": {"images": [SENT], "source": "a", "target": "b"}},
        ),
    ),
    "a mix under a mask, with a hint": (
        "generate",
        (guides.mix(["a", FILE], [1, 2]), canvases.inpaint(HOLE, FILE), PIXELS),
        {
            "negative_prompts": "x",
            "negative_image_embeds": VECTOR[None],
            "prior_negative_texts": "y",
            "prior_strength": 0.5,
            "prior_images": FILE,
            "prior_image_embeds": VECTOR[None],
            "decoder_texts": "z",
            "decoder_negative_texts": "w",
            "width": 64,
        },
        GenerateRequest(
            guide={
                "mix": {
                    "sources": [
                        {"source": {"text": "a"}, "weight": 1},
                        {"source": {"image": SENT}, "weight": 2},
                    ]
                }
            },
            canvas={"inpaint": {"images": [SENT], "masks": [SENT_HOLE]}},
            control={"hints": [SENT_PIXELS]},
            negative={"texts": ["x"], "image_embeds": tensors.encode(VECTOR[None])},
            prior={
                "negative_texts": ["y"],
                "start": {
                    "strength": 0.5,
                    "images": [SENT],
                    "image_embeds": tensors.encode(VECTOR[None]),
                },
            },
            decoder={"texts": ["z"], "negative_texts": ["w"], "width": 64},
        ),
    ),
    "a variation, continued": (
        "generate",
        (guides.image(FILE), canvases.outpaint(right=64, top=1)),
        {},
        GenerateRequest(
            guide={"image": {"images": [SENT]}}, canvas={"outpaint": {"right": 64, "top": 1}}
        ),
    ),
    "dual guidance": (
        "generate",
        (guides.text_and_image(["a", "b"], FILE, text_to_image_strength=0.25),),
        {},
        GenerateRequest(
            guide={
                "text_and_image": {
                    "prompts": ["a", "b"],
                    "images": [SENT],
                    "text_to_image_strength": 0.25,
                }
            }
        ),
    ),
    "states of texts": (
        "generate",
        (guides.embeddings([{"text_states": LATENT[0], "text_mask": [True, False]}]),),
        {},
        GenerateRequest(
            guide={
                "embeddings": {
                    "conditionings": [
                        {
                            "text_states": tensors.encode(LATENT[0]),
                            "text_mask": tensors.encode(np.array([True, False])),
                        }
                    ]
                }
            }
        ),
    ),
}


def call_sync(address: str, method: str, args: Any, options: Any) -> list[Generated]:
    with Client(address) as client:
        return getattr(client, method)(*args, **options)


def call_async(address: str, method: str, args: Any, options: Any) -> list[Generated]:
    async def call() -> list[Generated]:
        async with AsyncClient(address) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(call())


@pytest.mark.parametrize("call", [call_sync, call_async])
@pytest.mark.parametrize(("method", "args", "options", "expected"), CALLS.values(), ids=CALLS)
def test_the_request(
    gateway: RecordingGateway, call: Any, method: str, args: Any, options: Any, expected: Any
) -> None:
    [image] = call(gateway.address, method, args, options)
    assert image.seed == 7
    if not expected.model:
        expected = type(expected).FromString(expected.SerializeToString())
        expected.model = "shapes"
    assert gateway.requests == [expected]


@pytest.mark.parametrize(("method", "args", "options", "expected"), CALLS.values(), ids=CALLS)
def test_requests_has_what_the_clients_send(
    method: str, args: Any, options: Any, expected: GenerateRequest
) -> None:
    request = getattr(requests, method)(*args, **options)
    request.model = expected.model
    assert request == expected


def test_a_client_and_requests_have_the_same_flows() -> None:
    known = vars(Flows) | vars(PromptFlows) | vars(EmbeddingFlows)
    flows = {name for name in known if not name.startswith("_")}
    assert flows == {method for method, *_ in CALLS.values()} - {"generate"}
    for flow in flows:
        assert getattr(Client, flow) is getattr(AsyncClient, flow) is getattr(Requests, flow)


def sent(image: Any) -> InputImage:
    return requests.variation(image).guide.image.images[0]


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILE)
    assert sent(tmp_path / "a.png").encoded == FILE


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16"])
def test_a_pil_image_goes_as_a_png(mode: str) -> None:
    image = Image.new("I;16", (3, 2)) if mode == "I;16" else Image.new("RGB", (3, 2), "red")
    image = image if mode == "I;16" else image.convert(mode)
    read = Image.open(io.BytesIO(sent(image).encoded))
    assert (read.format, read.size) == ("PNG", (3, 2))
    if mode in ("RGB", "RGBA", "CMYK"):
        near = np.asarray(read.convert("RGB")).astype(int) - np.asarray(image.convert("RGB"))
        assert abs(near).max() <= 2


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_stay_sixteen(mode: str) -> None:
    values = np.array([[0, 1000, 40_000, 65_535]], ">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (4, 1), values.tobytes())
    [levels] = images.decode(sent(image).encoded, "image")[..., 0].tolist()
    assert levels == [0, 4, 156, 255]


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_transparency_goes_along(mode: str) -> None:
    image = Image.new("LA", (3, 2), (90, 0))
    image = image.convert("RGBA").convert(mode) if mode != "La" else image.convert(mode)
    assert Image.open(io.BytesIO(sent(image).encoded)).convert("RGBA").getpixel((0, 0))[3] == 0


@pytest.mark.parametrize("mode", ["I", "F", "I;16L"])
def test_a_pil_image_that_would_be_clipped_is_refused(mode: str) -> None:
    """Pillow would clip it to 0 to 255: a depth map in metres becomes nearly black."""
    with pytest.raises(KandinskyError, match=f"of mode {mode}, .* mode I;16"):
        requests.control(Image.new(mode, (3, 2), 700), "a")


def test_an_orientation_goes_along() -> None:
    image = Image.new("RGB", (3, 2))
    image.getexif()[0x0112] = 6
    assert Image.open(io.BytesIO(sent(image).encoded)).getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: requests.mix(["a", "b"], [1]), "weights"),
        (lambda: requests.mix(["a"], ["much"]), "guide.mix.sources[0].weight"),
        (lambda: requests.mix(["a"], [float("nan")]), "guide.mix.sources[0].weight"),
        (lambda: requests.mix([], []), "guide.mix.sources"),
        (lambda: requests.mix(["a"], [1], interpolation="cubic"), "guide.mix.interpolation"),
        (
            lambda: requests.mix([Embedding(np.array(["a"]))], [1]),
            "guide.mix.sources[0].source.image_embed",
        ),
        (
            lambda: requests.mix([Embedding(LATENT)], [1]),
            "guide.mix.sources[0].source.image_embed.shape",
        ),
        (lambda: requests.variation("image.png"), "guide.image.images[0]"),
        (lambda: requests.variation([FILE, object()]), "guide.image.images[1].pixels"),
        (lambda: requests.inpaint(FILE, np.array(["a"]), "a"), "canvas.inpaint.masks[0].pixels"),
        (
            lambda: requests.image_to_image(FILE, "a", strength="half"),
            "canvas.image.strength",
        ),
        (lambda: requests.image_to_image(FILE, "a", strength=0), "canvas.image.strength"),
        (
            lambda: requests.image_to_image(FILE, "a", prior_strength=2),
            "prior.start.strength",
        ),
        (lambda: requests.outpaint(FILE, "a", left=1.5), "canvas.outpaint.left"),
        (lambda: requests.outpaint(FILE, "a", left=-1), "canvas.outpaint.left"),
        (lambda: requests.interpolate_frames("a", "b", 2**40), "guide.interpolation.frames"),
        (lambda: requests.interpolate_frames("a", "b", 1), "guide.interpolation.frames"),
        (lambda: requests.text_to_image(), "guide.text.prompts"),
        (lambda: requests.text_to_image(["a", " "]), "guide.text.prompts[1]"),
        (lambda: requests.text_to_image(image_embeds=VECTOR), "image_embeds"),
        (
            lambda: requests.text_to_image(
                image_embeds=np.zeros((3, 4)), negative_image_embeds=np.zeros((2, 4))
            ),
            "negative_image_embeds",
        ),
        (lambda: requests.text_guided_edit(FILE, "", "b"), "guide.text_diff.source"),
        (
            lambda: requests.text_guided_edit(FILE, "a", "b", amount=2),
            "guide.text_diff.amount",
        ),
    ],
)
def test_what_the_contract_does_not_allow_is_refused(make: Any, field: str) -> None:
    with pytest.raises(KandinskyError) as caught:
        make()
    assert [violation.field for violation in caught.value.violations] == [field]


def test_an_option_of_another_flow_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="variation has no option strength"):
        requests.variation(FILE, strength=0.5)
    with pytest.raises(TypeError, match="text_to_image has no option decoder_texts"):
        requests.text_to_image("a", decoder_texts="b")
    with pytest.raises(TypeError, match="a request has no option colour"):
        requests.generate(guides.text("a"), colour="red")
    with pytest.raises(TypeError, match="a conditioning has no field colour"):
        guides.embeddings([{"colour": VECTOR}])


def test_an_option_of_a_call_is_not_part_of_a_request() -> None:
    with pytest.raises(TypeError, match="no option timeout; pass it to stream"):
        requests.text_to_image("a", timeout=1)


def frame(index: int, level: int) -> Generated:
    pixels = np.full((4, 6, 3), level, np.uint8)
    return Generated(index, 7, "pixels", 0.1, {}, tensor=pixels)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("loop", [True, False])
def test_an_animation_has_every_frame_in_order(tmp_path: Path, suffix: str, loop: bool) -> None:
    path = tmp_path / f"out{suffix}"
    frames = [frame(index, level) for index, level in ((2, 200), (0, 10), (1, 90))]
    save_animation(frames, path, seconds_a_frame=0.2, loop=loop)
    with Image.open(path) as moving:
        moving.load()
        assert moving.n_frames == 3
        assert moving.info["duration"] == 200
        assert (moving.info.get("loop", 1) == 0) is loop
        for index, level in enumerate((10, 90, 200)):
            moving.seek(index)
            assert abs(int(np.asarray(moving.convert("RGB"))[0, 0, 0]) - level) <= 1


def test_a_bad_animation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        save_animation([frame(0, 0)], tmp_path / "out.png")
    with pytest.raises(ValueError, match="at least one"):
        save_animation([], tmp_path / "out.gif")


def test_a_stream_takes_any_request(gateway: RecordingGateway) -> None:
    gateway.events = [recording.image(0, seed=1)]
    with Client(gateway.address) as client:
        [image] = client.stream(requests.variation(RED))
    assert isinstance(image, Generated)
    assert gateway.requests[0].guide.WhichOneof("kind") == "image"


def test_the_number_of_weights_is_said_of_one_source_too() -> None:
    with pytest.raises(KandinskyError) as refused:
        requests.mix(["a"], [1, 2])
    assert refused.value.message == "weights: there are 2; pass one for each source, 1 in all"
