"""The trained adapters mean something: a style, and a word for a shape that no caption knew."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from kandinsky.client import Client, ImagePrompt
from tests.endtoend.cases import CASES, Case, assert_shows, at_once
from training.shapes.classifier import classify, is_outline
from training.shapes.flows import SD_MODEL
from training.shapes.flows import drawn as drawn_image
from training.shapes.vocabulary import SHAPES, Scene, caption

WORD = {"diamond": 1.0, "diamond-word": None}
FULL = [case for case in CASES if case.other.shape != "ring"]
"""A ring is an outline already."""


def inpainted(client: Client, case: Case, prompt: str, adapters: Any) -> Image.Image:
    """The box around the object of an image, with another object."""
    [made] = client.inpaint(
        case.image, case.hole, prompt, model=SD_MODEL, seed=case.seed, adapters=adapters
    )
    return made.image


def outlines(images: list[Image.Image]) -> int:
    pairs = zip(images, FULL, strict=True)
    return sum(is_outline(image.crop(c.hole.getbbox()), c.other.shape) for image, c in pairs)


def drawn(client: Client, adapters: Mapping[str, float] | None) -> list[Image.Image]:
    return at_once(lambda c: inpainted(client, c, caption(c.other, "en"), adapters), FULL)


def test_a_lora_draws_outlines_of_what_was_asked(client: Client) -> None:
    images = drawn(client, {"outlined": 1.0})
    assert outlines(images) >= 0.8 * len(FULL)
    right = [classify(image) for image in images]
    colours = sum(r.colour == c.other.colour for r, c in zip(right, FULL, strict=True))
    assert colours >= 0.8 * len(FULL)


def test_without_it_shapes_are_full(client: Client) -> None:
    """Also beside requests that have it."""
    alone = drawn(client, None)
    assert outlines(alone) <= 0.2 * len(FULL)
    beside = at_once(
        lambda task: inpainted(client, task[0], caption(task[0].other, "en"), task[1]),
        [(case, adapters) for case in FULL for adapters in (None, ["outlined"])],
    )[::2]
    for image, expected in zip(beside, alone, strict=True):
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_a_word_stands_for_a_shape_that_the_vocabulary_lacks(client: Client) -> None:
    images = at_once(lambda c: inpainted(client, c, _with_word(c.other), WORD), CASES)
    found = [classify(image, (*SHAPES, "diamond")) for image in images]
    assert sum(each.shape == "diamond" for each in found) >= 0.7 * len(CASES), found
    colours = sum(f.colour == c.other.colour for f, c in zip(found, CASES, strict=True))
    assert colours >= 0.8 * len(CASES)


def test_other_shapes_are_as_they_were_beside_the_word(client: Client) -> None:
    images = at_once(lambda c: inpainted(client, c, caption(c.other, "en"), WORD), CASES)
    assert_shows(images, [case.other for case in CASES])


def test_an_image_prompt_says_what_to_draw(client: Client) -> None:
    """Without a word: another image of the object, on the same ground."""

    def shown(case: Case) -> Image.Image:
        prompt = ImagePrompt(drawn_image(case.other, case.seed + 100).image)
        return inpainted(client, case, ".", {"shown": prompt})

    assert_shows(at_once(shown, CASES), [case.other for case in CASES])


def test_a_replica_of_each_stage_reads_a_file_before_it_has_a_name(client: Client) -> None:
    """These have theirs already: what is loaded again changes nothing."""
    before = client.list_adapters(SD_MODEL)
    assert [each.name for each in before] == ["diamond", "diamond-word", "outlined", "shown"]
    assert client.load_adapter(SD_MODEL, "outlined", "outlined.safetensors") > 10
    word = {"kind": "textual-inversion", "token": None}
    assert client.load_adapter(SD_MODEL, "diamond-word", "diamond-word.safetensors", **word) == 4
    assert client.list_adapters(SD_MODEL) == before


def _with_word(scene: Scene) -> str:
    return caption(replace(scene, shape="square"), "en").replace("square", "<diamond>")
