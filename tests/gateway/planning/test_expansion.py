"""Prompts and images per prompt expand to one entry an image, prompt-major."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.planning.plan import plan
from gateway.requests.validate import validate
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import generation_pb2
from kandinsky.wire import tensors

MODELS = {
    "tiny": CatalogEntry.model_validate(
        {
            "name": "tiny",
            "description": "A model.",
            "family": "kandinsky-2-2",
            "stages": {stage: {"model": "other"} for stage in ("encoders", "prior", "decoder")},
            "size": {"height": 64, "width": 64, "min": 64, "max": 64},
            "samplers": {"decoder": {"steps": 2}},
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
    request = generation_pb2.GenerateRequest(
        model="tiny",
        guide={"text": {"prompts": prompts}},
        negative={"texts": negatives},
        images_per_prompt=each,
        seed=seed,
        decoder={"latents": tensors.encode(latents)},
    )
    planned = plan(validate(request, MODELS))
    images, encoded = planned.images, [text.text for text in planned.texts]
    assert len(set(encoded)) == len(encoded)
    assert [image.index for image in images] == list(range(total))
    first = images[0].seed
    assert first == seed if seed is not None else 0 <= first <= 2**63 - 1 - total
    for i, image in enumerate(images):
        assert image.seed == first + i
        [part] = image.conditioning.sources
        assert part.source.text == prompts[i // each]
        assert part.source.text in encoded
        assert image.prior_runs[0].text is part.source
        negative = negatives[i // each % len(negatives)] if negatives else ""
        if negative.strip():
            assert image.prior_runs[0].negative.text == negative
            assert image.conditioning.negative_source == image.prior_runs[0].negative
            assert negative in encoded
        else:
            assert image.prior_runs[0].negative.text == ""
            assert image.conditioning.negative_source is None
            assert "" in encoded
        np.testing.assert_array_equal(tensors.decode(image.latents.tensor, ""), latents[i])
