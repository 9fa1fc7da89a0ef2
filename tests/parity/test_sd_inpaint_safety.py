"""The safety checker's verdict on each image, and its black image, equal the reference's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image

from tests import tiny_sd_inpaint
from tests.parity.conftest import pixels, running_chain
from tests.parity.test_sd_inpaint import IMAGE, MASK, PROMPT, SEED, Reference, settings

COUNT = 4


def most_alike(pipeline: StableDiffusionInpaintPipeline, image: np.ndarray) -> float:
    """The greatest cosine of an image with what the checker is to find."""
    values = pipeline.feature_extractor(
        [Image.fromarray(image.astype(np.uint8))], return_tensors="pt"
    ).pixel_values
    checker = pipeline.safety_checker
    with torch.inference_mode():
        embed = checker.visual_projection(checker.vision_model(values)[1])
        concepts = torch.nn.functional.normalize(checker.concept_embeds)
        return float((torch.nn.functional.normalize(embed) @ concepts.T).max())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checker flags about half of the images."""
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("sd-safety"))
    whole = StableDiffusionInpaintPipeline.from_pretrained(folder / "sd-inpaint")
    unchecked = Reference(folder)
    drawn = [unchecked.draw(seed=SEED + index) for index in range(COUNT)]
    scores = sorted(most_alike(whole, image) for image in drawn)
    checker: StableDiffusionSafetyChecker = whole.safety_checker
    with torch.no_grad():
        checker.concept_embeds_weights.fill_((scores[1] + scores[2]) / 2)
    checker.save_pretrained(folder / "sd-inpaint" / "safety_checker")
    return tiny_sd_inpaint.write_catalog(folder)


async def test_verdicts_and_black_images(checkpoint: Path) -> None:
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(checkpoint / "sd-inpaint")
    async with running_chain(checkpoint) as chain:
        answers = await chain.ask(
            "inpaint", IMAGE, MASK, PROMPT, images_per_prompt=COUNT, **settings()
        )
        [latent] = await chain.ask(
            "inpaint", IMAGE, MASK, PROMPT, **settings(output_format="latents")
        )
    verdicts = []
    for index, answer in enumerate(answers):
        expected = pipeline(
            PROMPT,
            image=Image.fromarray(IMAGE),
            mask_image=Image.fromarray(MASK),
            height=64,
            width=128,
            num_inference_steps=6,
            generator=torch.Generator().manual_seed(SEED + index),
            output_type="np",
        )
        assert answer.HasField("flagged")
        assert answer.flagged is expected.nsfw_content_detected[0]
        assert np.abs(pixels(answer) - (expected.images[0] * 255).round()).max() <= 1
        assert answer.flagged == (pixels(answer).max() == 0)
        verdicts.append(answer.flagged)
    assert sorted(verdicts) == [False, False, True, True]
    assert not latent.HasField("flagged")
