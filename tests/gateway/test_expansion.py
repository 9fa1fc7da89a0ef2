"""Prompts and images per prompt expand to one entry an image, prompt-major."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.flows.text_to_image import text_to_image
from kandinsky.catalog.catalog import CatalogEntry
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import tensors

MODELS = {
    "tiny": CatalogEntry.model_validate(
        {
            "name": "tiny",
            "description": "A model.",
            "family": "kandinsky-2-2",
            "stages": {stage: {"model": "other"} for stage in ("encoders", "prior", "decoder")},
            "flows": ["text_to_image"],
            "defaults": {"height": 64, "width": 64, "steps": 2, "guidance_scale": 4},
            "limits": {"size_multiple": 64, "min_size": 64, "max_size": 64},
        }
    )
}
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@st.composite
def requests(draw):
    prompts = draw(st.lists(TEXTS.filter(str.strip), min_size=1, max_size=6))
    negatives = draw(
        st.one_of(
            st.just([]),
            st.lists(TEXTS | st.just(""), min_size=1, max_size=1),
            st.lists(TEXTS | st.just(""), min_size=len(prompts), max_size=len(prompts)),
        )
    )
    return prompts, negatives, draw(st.integers(1, 10)), draw(st.none() | st.integers(0, 2**62))


@given(requests())
def test_expansion(parts):
    prompts, negatives, each, seed = parts
    total = len(prompts) * each
    latents = np.arange(total, dtype=np.float32).reshape(total, 1, 1, 1)
    request = generation.TextToImageRequest(
        model="tiny",
        prompts=prompts,
        negative_prompts=negatives,
        settings={"images_per_prompt": each, "seed": seed},
        latents=tensors.encode(latents),
    )
    draft = text_to_image(request, MODELS)
    images = draft.images([start.make() for start in draft.starts])
    assert [image.index for image in images] == list(range(total))
    first = images[0].seed
    assert first == seed if seed is not None else 0 <= first <= 2**63 - 1 - total
    for i, image in enumerate(images):
        assert image.seed == first + i
        [term] = image.guide.terms
        assert draft.texts[term.source.text] == prompts[i // each]
        negative = negatives[i // each % len(negatives)] if negatives else ""
        if negative.strip():
            assert draft.texts[image.guide.unwanted] == negative
            assert image.guide.negative.text == image.guide.unwanted
        else:
            assert image.guide.unwanted is image.guide.negative is None
        np.testing.assert_array_equal(tensors.decode(image.latents, ""), latents[i])
