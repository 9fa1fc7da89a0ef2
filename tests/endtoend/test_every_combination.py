"""Every guide with every canvas, with and without control, through the whole system.

A model's declaration says what it has; everything else is refused with a sentence, before any work.
"""

from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import CanvasKind, GuideKind
from kandinsky.v1 import (
    canvas_pb2,
    conditioning_pb2,
    generation_pb2,
    generation_pb2_grpc,
    guide_pb2,
    input_image_pb2,
    settings_pb2,
)
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, Reason, from_rpc_error
from tests.endtoend.conftest import MODELS, System
from training.shapes.flows import SD_MODEL

SIDE, MARGIN = 64, 64
KEPT = SIDE // 2
"""Columns on the left that the mask keeps."""
RED, BLUE = "a red circle on a white background", "a blue square on a black background"
EMBEDDING, TOKENS = 128, 77
"""Width of the embeddings of `shapes`, and tokens of a text of its Stable Diffusion."""
CLOSE = 24
"""Levels of 255 on average by which the autoencoder changes what is kept, at most."""

Field = dict[str, object]


def drawing() -> np.ndarray:
    """A red square on a white ground: uint8 [64, 64, 3]."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[20:44, 20:44] = (220, 30, 30)
    return pixels


def image(pixels: np.ndarray) -> input_image_pb2.InputImage:
    return input_image_pb2.InputImage(pixels=tensors.encode(pixels))


def text(words: str) -> guide_pb2.ConditioningSource:
    return guide_pb2.ConditioningSource(text=words)


def shown() -> guide_pb2.ConditioningSource:
    return guide_pb2.ConditioningSource(image=image(drawing()))


def given_text() -> conditioning_pb2.Conditioning:
    states = np.random.default_rng(0).normal(size=(2, TOKENS, EMBEDDING)).astype(np.float32)
    return conditioning_pb2.Conditioning(
        text_states=tensors.encode(states[0]), negative_text_states=tensors.encode(states[1])
    )


def given_embedding() -> conditioning_pb2.Conditioning:
    numbers = np.random.default_rng(0).normal(size=(2, EMBEDDING)).astype(np.float32)
    return conditioning_pb2.Conditioning(
        image_embed=tensors.encode(numbers[0]), negative_image_embed=tensors.encode(numbers[1])
    )


GUIDES: dict[GuideKind, Callable[[], Field]] = {
    GuideKind.TEXT: lambda: {"text": guide_pb2.TextGuide(prompts=[RED])},
    GuideKind.MIX: lambda: {
        "mix": guide_pb2.MixGuide(
            sources=[
                guide_pb2.WeightedSource(source=text(BLUE), weight=0.6),
                guide_pb2.WeightedSource(source=shown(), weight=0.4),
            ]
        )
    },
    GuideKind.INTERPOLATION: lambda: {
        "interpolation": guide_pb2.InterpolationGuide(first=shown(), last=text(BLUE), frames=2)
    },
    GuideKind.IMAGE: lambda: {"image": guide_pb2.ImageGuide(images=[image(drawing())])},
    GuideKind.TEXT_DIFF: lambda: {
        "text_diff": guide_pb2.TextDiffGuide(images=[image(drawing())], source=RED, target=BLUE)
    },
    GuideKind.TEXT_AND_IMAGE: lambda: {
        "text_and_image": guide_pb2.TextAndImageGuide(prompts=[RED], images=[image(drawing())])
    },
    GuideKind.EMBEDDINGS: lambda: {
        "embeddings": guide_pb2.EmbeddingsGuide(conditionings=[given_embedding()])
    },
}


def mask() -> input_image_pb2.InputImage:
    """White on the right half."""
    levels = np.zeros((SIDE, SIDE), np.uint8)
    levels[:, KEPT:] = 255
    return image(levels)


CANVASES: dict[CanvasKind, Callable[[], canvas_pb2.Canvas | None]] = {
    CanvasKind.NOISE: lambda: None,
    CanvasKind.IMAGE: lambda: canvas_pb2.Canvas(
        image=canvas_pb2.ImageCanvas(images=[image(drawing())], strength=0.5)
    ),
    CanvasKind.INPAINT: lambda: canvas_pb2.Canvas(
        inpaint=canvas_pb2.InpaintCanvas(images=[image(drawing())], masks=[mask()])
    ),
    CanvasKind.OUTPAINT: lambda: canvas_pb2.Canvas(
        outpaint=canvas_pb2.OutpaintCanvas(images=[image(drawing())], right=MARGIN)
    ),
}
KEEPING = {CanvasKind.INPAINT: KEPT, CanvasKind.OUTPAINT: SIDE}
"""Columns on the left of which the canvas's image is kept."""


def hint() -> canvas_pb2.Control:
    near = np.zeros((SIDE, SIDE), np.uint8)
    near[16:48, 16:48] = 255
    return canvas_pb2.Control(hints=[image(np.repeat(near[:, :, None], 3, axis=2))])


def request(model: str, guide: GuideKind, canvas: CanvasKind) -> generation_pb2.GenerateRequest:
    spec = Catalog.load()[model].spec
    sized = {} if canvas is CanvasKind.OUTPAINT else {"height": SIDE, "width": SIDE}
    asked = generation_pb2.GenerateRequest(
        model=model,
        guide=guide_pb2.Guide(**GUIDES[guide]()),
        canvas=CANVASES[canvas](),
        control=hint() if Catalog.load()[model].control else None,
        seed=5,
        decoder=settings_pb2.DecoderSettings(steps=4, **sized),
        output=settings_pb2.OutputSettings(format=settings_pb2.OUTPUT_FORMAT_PIXELS),
    )
    if guide in (GuideKind.TEXT, GuideKind.MIX, GuideKind.INTERPOLATION) and spec.has_prior:
        asked.prior.steps = 2
    if guide is GuideKind.EMBEDDINGS and not spec.decoder_reads_image:
        asked.guide.embeddings.conditionings[0].CopyFrom(given_text())
    return asked


@pytest.fixture(scope="module")
def generate(system: System) -> Iterator[Callable[..., list[np.ndarray]]]:
    """Calls GenerateImages; images in order, uint8 [H, W, 3]."""
    with grpc.insecure_channel(system.gateway, options=OPTIONS) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)

        def call(asked: generation_pb2.GenerateRequest) -> list[np.ndarray]:
            try:
                answer = stub.GenerateImages(asked, timeout=120)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            return [tensors.decode(made.tensor, "image") for made in answer.images]

        yield call


@pytest.mark.parametrize("canvas", CanvasKind)
@pytest.mark.parametrize("guide", GuideKind)
@pytest.mark.parametrize("model", MODELS)
def test_a_combination_works_or_is_refused_by_the_declaration(
    generate, model: str, guide: GuideKind, canvas: CanvasKind
) -> None:
    entry = Catalog.load()[model]
    asked = request(model, guide, canvas)
    if guide not in entry.has_guides or canvas not in entry.has_canvases:
        with pytest.raises(KandinskyError) as refusal:
            generate(asked)
        assert refusal.value.reason is Reason.FLOW_UNSUPPORTED
        assert model in refusal.value.message
        return
    images = generate(asked)
    assert len(images) == (2 if guide is GuideKind.INTERPOLATION else 1)
    width = SIDE + MARGIN if canvas is CanvasKind.OUTPAINT else SIDE
    assert {made.shape for made in images} == {(SIDE, width, 3)}
    for made in images:
        if canvas in KEEPING and model != SD_MODEL:  # which draws all again, and knows 128 pixels
            kept = KEEPING[canvas] - 8  # a latent cell at the seam mixes both
            off = np.abs(made[:, :kept].astype(int) - drawing()[:, :kept]).mean()
            assert off < CLOSE
            assert np.ptp(made[:, KEEPING[canvas] :]) > 0


@pytest.mark.parametrize("guide", [kind for kind in GuideKind if kind is not GuideKind.TEXT])
def test_a_guide_is_followed_on_every_canvas(generate, guide: GuideKind) -> None:
    """Another guide, the same canvas and seed: another image."""
    entry = Catalog.load()["shapes"]
    if guide not in entry.has_guides:
        pytest.skip("refused, as the table above asserts")
    for canvas in entry.has_canvases:
        by_text = generate(request("shapes", GuideKind.TEXT, canvas))[0].astype(int)
        by_guide = generate(request("shapes", guide, canvas))[0].astype(int)
        assert np.abs(by_text - by_guide).max() > 16, canvas


def test_a_model_that_follows_hints_refuses_a_request_without_one(generate) -> None:
    asked = request("shapes-depth", GuideKind.MIX, CanvasKind.NOISE)
    asked.ClearField("control")
    with pytest.raises(KandinskyError) as refusal:
        generate(asked)
    assert refusal.value.reason is Reason.FLOW_UNSUPPORTED
    assert "shapes-depth" in refusal.value.message


def test_a_model_that_follows_no_hint_refuses_one(generate) -> None:
    asked = request("shapes", GuideKind.MIX, CanvasKind.NOISE)
    asked.control.CopyFrom(hint())
    with pytest.raises(KandinskyError) as refusal:
        generate(asked)
    assert refusal.value.reason is Reason.FLOW_UNSUPPORTED
    assert "shapes" in refusal.value.message
