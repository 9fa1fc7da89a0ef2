"""Kandinsky 2.1 in the layout of the hub's old files makes the image that new files make."""

import io
from pathlib import Path

import numpy as np
import sentencepiece
from transformers import XLMRobertaTokenizer

from tests import published, tiny_2_1
from tests.parity.conftest import Chain, pixels, running_chain

SEED = 3
CORPUS = ["a red cat and a dog", "ein roter Hund", "красный кот", "un gato rojo"]


def sentencepiece_model() -> bytes:
    """A tokenizer as sentencepiece writes it, of a few pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


async def image(chain: Chain) -> np.ndarray:
    [one] = await chain.ask("text_to_image", "a red cat", negative_prompts="dog", seed=SEED)
    return pixels(one)


async def test_old_files_make_the_same_image(tmp_path: Path) -> None:
    model = sentencepiece_model()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    tokenizer = XLMRobertaTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("a red cat") != list("a red cat"), "no pieces were learnt"
    scheduler = tiny_2_1.ddpm_scheduler()  # in float32 DDIM would amplify rounding
    images = []
    for name in ("new", "old"):
        folder = tiny_2_1.build(tmp_path / name, scheduler=scheduler, tokenizer=tokenizer)
        if name == "old":
            published.age(folder)
            published.age_multilingual(folder / "decoder", model)
        async with running_chain(tiny_2_1.write_catalog(folder)) as running:
            images.append(await image(running))
    assert not (tmp_path / "old/decoder/tokenizer/tokenizer.json").exists()
    assert not list((tmp_path / "old/decoder/text_encoder").glob("*.safetensors"))
    assert np.abs(images[0] - images[1]).max() <= 1
    assert images[0].std() > 5
