"""Kandinsky 3 in the layout of the hub's files makes the image that new files make.

Those are of the variant fp16 alone, the text encoder's in shards, the tokenizer sentencepiece's.
"""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from safetensors.torch import load_file, save_file
from transformers import T5Tokenizer

from tests import tiny, tiny_3
from tests.parity.conftest import Chain, pixels, running_chain

CORPUS = ["a red cat and a dog", "ein roter Hund", "красный кот", "un gato rojo"]


def age(folder: Path, model: bytes) -> None:
    """Rewrite a checkpoint into the files that the hub holds.

    Args:
        folder: of the checkpoint.
        model: the tokenizer as a sentencepiece model.
    """
    for part in ("unet", "movq"):
        file = folder / part / "diffusion_pytorch_model.safetensors"
        file.rename(file.with_suffix(".fp16.safetensors"))
    encoder = folder / "text_encoder"
    weights = load_file(encoder / "model.safetensors")
    names = sorted(weights)
    shards = {f"model.fp16-0000{k + 1}-of-00002.safetensors": names[k::2] for k in range(2)}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, encoder / shard, {"format": "pt"})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index = {"metadata": {}, "weight_map": weight_map}
    (encoder / "model.safetensors.index.fp16.json").write_text(json.dumps(index))
    (encoder / "model.safetensors").unlink()
    tokenizer = folder / "tokenizer"
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "spiece.model").write_bytes(model)


def sentencepiece_model() -> bytes:
    """A tokenizer as sentencepiece writes it, of a few pieces, with the special ones of T5."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    return model.getvalue()


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """One as save_pretrained writes it, and the same as the hub has it."""
    model = sentencepiece_model()
    (tmp_path / "spiece.model").write_bytes(model)
    tokenizer = T5Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("a red cat") != list("a red cat"), "no pieces were learnt"
    new, old = (tiny_3.build(tmp_path / name, tokenizer=tokenizer) for name in ("new", "old"))
    age(old / "kandinsky-3", model)
    entry = re.sub(r"folder: [\w-]+", r"\g<0>, variant: fp16", tiny_3.CATALOG_ENTRY)
    return [tiny_3.write_catalog(new), tiny.write_catalog(old, entry=entry)]


async def image(chain: Chain) -> np.ndarray:
    [one] = await chain.ask("text_to_image", "a red cat", negative_prompts="dog", seed=3)
    return pixels(one)


async def test_the_hub_s_files_make_the_same_image(checkpoints: list[Path]) -> None:
    images = []
    for folder in checkpoints:
        async with running_chain(folder) as chain:
            images.append(await image(chain))
    assert np.abs(images[0] - images[1]).max() <= 1
    assert images[0].std() > 5
