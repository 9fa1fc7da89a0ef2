"""Every guide on every canvas, with and without control, planned as data."""

import itertools

import pytest

from gateway.planning.canvases import CANVASES
from gateway.planning.guides import GUIDES
from gateway.planning.plan import plan
from gateway.requests.undecoded import Undecoded
from gateway.requests.validate import validate
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import CanvasKind, GuideKind, Stage
from tests.gateway.messages import FLOWS, level, mask, mix, request, text_diff, variation

MIXED = mix(({"text": "a"}, 0.5), ({"image": level(7)}, 0.5))
FRAMES = {"interpolation": {"first": {"text": "a"}, "last": {"image": level(7)}, "frames": 2}}
EMBEDDINGS = FLOWS["embeddings"]["guide"]

GUIDED = {
    # guide: message, texts, images that the image encoder reads, prior runs of each image, sources
    # of each image
    "text": (FLOWS["text"]["guide"], ["a", ""], [], [["a"]], [["a"]]),
    "mix": (MIXED, ["a", ""], ["guide.mix.sources[1].source.image"], [["a"]], [["a", 7]]),
    "interpolation": (
        FRAMES,
        ["a", ""],
        ["guide.interpolation.last.image"],
        [["a"], []],
        [["a"], [7]],
    ),
    "image": (variation(level(7)), [], ["guide.image.images[0]"], [[]], [[7]]),
    "text_diff": (text_diff(level(7)), ["a", "b"], ["guide.text_diff.images[0]"], [[]], [[7]]),
    "embeddings": (EMBEDDINGS, [], [], [[]], [["embedding"]]),
}
SENT = {
    "noise": None,
    "image": {"image": {"images": [level(8)], "strength": 0.5}},
    "inpaint": {"inpaint": {"images": [level(8)], "masks": [mask()]}},
    "outpaint": {"outpaint": {"images": [level(8)], "left": 64}},
}
STARTS = {
    # canvas: the decoder's start, what is decoded for it, height and width
    "noise": ("NoiseStart", [], None),
    "image": ("ImageStart", ["canvas.image.images[0]"], (64, 128)),
    "inpaint": (
        "InpaintStart",
        ["canvas.inpaint.images[0]", "canvas.inpaint.masks[0]"],
        (64, 128),
    ),
    "outpaint": ("OutpaintStart", ["canvas.outpaint.images[0]"], (64, 192)),
}
FLOW = {"image": "variation"}


def test_every_guide_and_canvas_is_in_the_table():
    assert GUIDED.keys() | {GuideKind.TEXT_AND_IMAGE} == {kind.value for kind in GUIDES}
    assert SENT.keys() == STARTS.keys() == {kind.value for kind in CANVASES} == set(CanvasKind)
    missing = set(GuideKind) - GUIDED.keys()
    assert missing == {GuideKind.TEXT_AND_IMAGE}, "test_text_and_image.py has it"


@pytest.fixture
def models(catalog):
    entries = Catalog.load((catalog,))
    return {name: entries[name] for name in entries.names}


def message(guide, canvas, control, **fields):
    return request(
        guide=GUIDED[guide][0],
        canvas=SENT[canvas],
        control={"hints": [level(9)]} if control else None,
        **fields,
    )


TABLE = list(itertools.product(GUIDED, SENT, (False, True)))


@pytest.mark.parametrize(("guide", "canvas", "control"), TABLE)
def test_every_guide_on_every_canvas(models, guide, canvas, control):
    # The models' declarations, but for a decoder that follows hints and has an inpainting UNet too.
    made = message(guide, canvas, control, model="hinted" if control else "tiny", seed=5)
    planned = plan(validate(made, models))
    _, texts, images, runs, sources = GUIDED[guide]
    start, inputs, size = STARTS[canvas]
    assert [text.text for text in planned.texts] == texts
    assert [image.field for image in planned.encoder_images] == images
    assert [[run.text.text for run in image.prior_runs] for image in planned.images] == runs
    assert [
        [_shown(part.source) for part in image.conditioning.sources] for image in planned.images
    ] == sources
    assert {type(image.start).__name__ for image in planned.images} == {start}
    hints = ["control.hints[0]"] if control else []
    assert [image.hint.field for image in planned.images if image.hint] == hints * len(sources)
    assert [one.field for one in planned.inputs] == [*images, *inputs, *hints]
    assert (planned.size.height, planned.size.width) == (size or (64, 128))
    parts = [FLOW.get(guide, guide), *([canvas] if canvas != "noise" else [])]
    assert planned.request.flow == "+".join([*parts, *(["control"] if control else [])])
    assert [image.seed for image in planned.images] == [5] * len(sources)


@pytest.mark.parametrize("canvas", ["image", "inpaint", "outpaint"])
@pytest.mark.parametrize("guide", GUIDED)
def test_a_canvas_without_images_takes_the_guides(models, guide, canvas):
    made = message(guide, canvas, control=False)
    getattr(made.canvas, canvas).ClearField("images")
    if guide not in ("image", "text_diff"):
        with pytest.raises(Exception, match="the guide has no images; send at least one"):
            validate(made, models)
        return
    planned = plan(validate(made, models))
    assert planned.images[0].start.image is planned.encoder_images[0]


@pytest.mark.parametrize("guide", GUIDED.keys() - {"embeddings"})
def test_every_guide_takes_a_negative_text(models, guide):
    """It has a run of the prior of its own; only prompts' own runs steer away from it too."""
    planned = plan(validate(message(guide, "noise", False, negative={"texts": ["x"]}), models))
    for image in planned.images:
        assert image.conditioning.negative_source.text == "x"
        assert image.prior_runs[-1].text.text == "x"
        assert {run.negative.text for run in image.prior_runs} == {"x" if guide == "text" else ""}
    assert planned.texts[-1].text == ("x" if guide == "text" else "")


def test_the_cost_is_in_rows_latent_area_and_steps(models):
    made = message("text", "image", False, images_per_prompt=3)
    work = plan(validate(made, models)).work
    assert {stage: one.denoise_cost for stage, one in work.items()} == {
        Stage.PRIOR: 3 * 2 * 1 * 5,
        Stage.DECODER: 3 * 2 * (8 * 16) * int(7 * 0.5),
    }


def test_runs_that_several_frames_share_are_counted_once(models):
    work = plan(validate(message("interpolation", "noise", False), models)).work
    assert (work[Stage.PRIOR].jobs, work[Stage.DECODER].jobs) == (1, 2)
    assert Stage.PRIOR not in plan(validate(message("image", "noise", False), models)).work


def _shown(source):
    """A text, the level of an image, or "embedding"."""
    if isinstance(source, Undecoded):
        source.decode()
        return int(source.content.pixels[0, 0, 0])
    return getattr(source, "text", "embedding")
