"""The trained Stable Diffusion inpainting fills a hole with what it is asked for."""

import numpy as np
import pytest
from PIL import Image

from kandinsky.client import Client, canvases, guides
from tests.endtoend.cases import CASES, Case, assert_shows, at_once
from training.shapes.flows import SD_MODEL
from training.shapes.vocabulary import LANGUAGES, caption


def inpainted(client: Client, case: Case, language: str = "en") -> Image.Image:
    """The box around the object of an image, with another object."""
    prompt = caption(case.other, language)
    [made] = client.inpaint(case.image, case.hole, prompt, model=SD_MODEL, seed=case.seed)
    return made.image


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_hole_is_filled_with_what_was_asked(client: Client, language: str) -> None:
    images = at_once(lambda case: inpainted(client, case, language), CASES)
    assert_shows(images, [case.other for case in CASES])


def test_what_is_kept_stays(client: Client) -> None:
    """Away from the hole, in levels of 255 on average: it is drawn again from its latents."""
    off = []
    for case, made in zip(CASES, at_once(lambda c: inpainted(client, c), CASES), strict=True):
        kept = np.asarray(case.hole) == 0
        off.append(np.abs(np.asarray(made, int) - np.asarray(case.image, int))[kept].mean())
    assert np.mean(off) < 12, off


def test_a_whole_image_is_drawn_from_a_prompt(client: Client) -> None:
    everywhere = Image.new("L", (128, 128), 255)

    def draw(case: Case) -> Image.Image:
        canvas = canvases.inpaint(everywhere, case.image)
        guide = guides.text(caption(case.other, "en"))
        [made] = client.generate(guide, canvas, model=SD_MODEL, seed=case.seed)
        return made.image

    assert_shows(at_once(draw, CASES), [case.other for case in CASES])
