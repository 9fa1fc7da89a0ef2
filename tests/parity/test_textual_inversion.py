"""Textual inversions of Stable Diffusion inpainting: as in diffusers, for who names them alone."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from transformers import CLIPTextModel

from tests import tiny_lora, tiny_sd_inpaint, tiny_tokens
from tests.parity.conftest import Chain, running_chain
from tests.parity.test_sd_inpaint import Reference, assert_equal, inpainted

FORMS: dict[str, dict[str, Any]] = {
    "toy": {},
    "box": {"form": "bin"},
    "long": {"form": "pt", "count": 3},
    "many": {"form": "bin", "count": 2},
    "renamed": {"token": "zebra"},
}
TOKENS = {name: form.get("token", f"<{name}>") for name, form in FORMS.items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_sd_inpaint.build(tmp_path_factory.mktemp("tokens"))
    catalog = tiny_sd_inpaint.write_catalog(folder)
    for seed, (name, form) in enumerate(FORMS.items()):
        tiny_tokens.write(folder / "adapters", name, seed, **form)
    tiny_lora.write(folder / "adapters", folder / "sd-inpaint", "lora", 7)
    tiny_sd_inpaint.declare_adapters(folder)
    return catalog


@pytest.fixture
async def chain(checkpoint: Path) -> AsyncIterator[Chain]:
    async with running_chain(checkpoint) as running:
        yield running


def taught(folder: Path, names: list[str]) -> Reference:
    """The pipeline with textual inversions, loaded as a list of files with a list of tokens."""
    reference = Reference(folder)
    files = yaml.safe_load((folder / "adapters" / "manifest.yaml").read_text())
    learned = [name for name in names if name in FORMS]
    reference.pipeline.load_textual_inversion(
        [str(folder / "adapters" / files[name]["file"]) for name in learned],
        token=[TOKENS[name] for name in learned],
    )
    if "lora" in names:
        reference.pipeline.load_lora_weights(
            folder / "adapters", weight_name="lora.safetensors", adapter_name="lora"
        )
    return reference


CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    **{form: ([form], {"prompts": f"a {token} cat"}) for form, token in TOKENS.items()},
    "of what images do not show": (["long"], {"prompts": "cat", "negative_prompts": "<long>, bad"}),
    "two": (["toy", "many"], {"prompts": "a <toy> in a <many> <toy>"}),
    "one that no text has": (["toy"], {"prompts": "a cat"}),
    "beside a LoRA": (["toy", "lora"], {"prompts": "a <toy>"}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_it_equals_the_reference(
    chain: Chain, checkpoint: Path, case: tuple[list[str], dict[str, str]]
) -> None:
    names, texts = case
    [actual] = await inpainted(chain, adapters=names, **texts)
    assert_equal(actual, taught(checkpoint, names).draw(**as_reference(texts)))


def as_reference(texts: Mapping[str, str]) -> dict[str, str]:
    return {key.removesuffix("s"): text for key, text in texts.items()}


async def test_it_is_unknown_to_a_request_that_does_not_name_it(
    chain: Chain, checkpoint: Path
) -> None:
    [named] = await inpainted(chain, "a <toy>", adapters=["toy"])
    [plain] = await inpainted(chain, "a <toy>")
    assert np.abs(named - plain).max() > 8
    assert_equal(plain, Reference(checkpoint).draw("a <toy>"))


async def test_beside_clip_skip(
    chain: Chain, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference looks for `text_model`, which transformers 5 has not any more."""
    monkeypatch.setattr(
        CLIPTextModel, "text_model", property(lambda encoder: encoder), raising=False
    )
    [actual] = await inpainted(chain, "a <toy>", adapters=["toy"], clip_skip=1)
    assert_equal(actual, taught(checkpoint, ["toy"]).draw("a <toy>", clip_skip=1))
