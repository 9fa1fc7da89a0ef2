"""Tokenizer, text encoder and image encoder, trained together by contrast."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from training.shapes.data import (
    CLIP_SIZE,
    clip_pixels,
    said_part,
    scenes,
    some_caption,
    training_scenes,
)
from training.shapes.loop import train
from training.shapes.vocabulary import BACKGROUNDS, COLOURS, LANGUAGES, SHAPES, caption

WIDTH = 128
POSITIONS = 32
BATCH = 192
STEPS = 1400
START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own way of cutting a line into words (openai/CLIP, simple_tokenizer.py).
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Byte-pair merges over 30,000 captions, rare ones left out; a Chinese character is a token.

    Chinese has no spaces, so merges learnt from it would glue whole phrases into one token.
    """
    rng = random.Random(3)
    lines = [some_caption(s, rng) for s in scenes(30_000, seed=3)]
    chinese = sorted({c for line in lines for c in line if "\u4e00" <= c <= "\u9fff"})
    lines = [line for line in lines if not set(line) & set(chinese)]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=1100,
            min_frequency=150,
            initial_alphabet=letters,
            end_of_word_suffix="</w>",
            special_tokens=[START, END],
        ),
    )
    learnt = json.loads(bpe.to_str())["model"]
    vocab = dict(learnt["vocab"])
    for letter in sorted(letters):  # a byte that ends a word must be known too
        vocab.setdefault(letter + "</w>", len(vocab))
    merges = [tuple(m) for m in learnt["merges"]]
    for character in chinese:
        [(spelt, _)] = pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(character)
        first, second, third = spelt  # UTF-8 spells each of these in three bytes
        for pair in ((first, second), (first + second, third), (first + second, third + "</w>")):
            if pair not in merges:
                merges.append(pair)
                vocab.setdefault("".join(pair), len(vocab))
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=POSITIONS)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_encoders(tokenizer: CLIPTokenizer):
    torch.manual_seed(0)
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    image = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=CLIP_SIZE,
            patch_size=8,
        )
    )
    return text, image


def tokens(tokenizer: CLIPTokenizer, lines: list[str]):
    return tokenizer(lines, padding="max_length", max_length=POSITIONS, return_tensors="pt")


def agrees(said: list[list[int]], shown: torch.Tensor) -> torch.Tensor:
    """[texts, images] bool: nothing the text says (-1 = unsaid) contradicts the image."""
    claim = torch.tensor(said)[:, None]
    return ((claim == -1) | (claim == shown[None])).all(-1)


class Attributes(torch.nn.Module):
    """Heads that name colour, background and shape from an embedding; thrown away after."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (len(COLOURS), len(BACKGROUNDS), len(SHAPES), 2)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(WIDTH, n) for n in sizes)

    def loss(self, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy over `labels` [B, 4]; -1 is ignored."""
        pairs = zip(self.heads, labels.unbind(-1), strict=False)
        return sum(F.cross_entropy(h(embedding), n, ignore_index=-1) for h, n in pairs)


def train_clip(work: Path, scale: float) -> None:
    tokenizer = make_tokenizer(work / "tokenizer")
    text, image = make_encoders(tokenizer)
    heads, warmth = Attributes(), torch.nn.Parameter(torch.tensor(2.5))
    small = np.load(work / "small.npy", mmap_mode="r")
    drawn = training_scenes()
    labels = torch.tensor([label(s) for s in drawn])
    by_pair: dict[tuple[int, int], list[int]] = {}
    for i, (colour, ground, _, _) in enumerate(labels.tolist()):
        by_pair.setdefault((colour, ground), []).append(i)
    unnamed = by_pair.pop((-1, -1))
    pairs = sorted(by_pair)

    def loss_at(step: int) -> torch.Tensor:
        rng = random.Random(step)
        if step % 2:  # hard: images that differ in shape and size only
            rows = [i for p in rng.sample(pairs, 4) for i in rng.sample(by_pair[p], BATCH // 6)]
            rows += rng.sample(unnamed, BATCH - len(rows))
        else:
            rows = rng.sample(range(len(drawn)), BATCH)
        lines, said = [], []
        for i in rows:
            line, claim = claimed_caption(drawn[i], rng)
            lines.append(line)
            said.append(claim)
        shown = labels[rows]
        # The text encoder is causal: what pads a line after its end changes nothing in it.
        words = tokenizer(lines, padding="longest", return_tensors="pt")
        a = text(**words).text_embeds
        images = small[rows]
        images[1::2] = images[1::2, :, ::-1]  # every shape keeps its name in a mirror
        b = image(pixel_values=clip_pixels(images)).image_embeds
        logits = warmth.exp().clamp(max=100) * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
        match = agrees(said, shown).float()
        contrast = -(F.log_softmax(logits, 1) * match / match.sum(1, keepdim=True)).sum(1).mean()
        contrast -= (F.log_softmax(logits, 0) * match / match.sum(0, keepdim=True)).sum(0).mean()
        scale_free = F.layer_norm(a, (WIDTH,)), F.layer_norm(b, (WIDTH,))
        named = heads.loss(scale_free[0], torch.tensor(said)) + heads.loss(scale_free[1], shown)
        return contrast / 2 + 0.3 * named

    weights = [*text.parameters(), *image.parameters(), *heads.parameters(), warmth]
    train(loss_at, weights, int(STEPS * scale), 1e-3, work / "clip.state")
    text.save_pretrained(work / "text_encoder")
    image.save_pretrained(work / "image_encoder")


def label(scene) -> list[int]:
    return [
        COLOURS.index(scene.colour) if scene.colour else -1,
        BACKGROUNDS.index(scene.background) if scene.background else -1,
        SHAPES.index(scene.shape),
        int(scene.size == "big"),
    ]


def claimed_caption(scene, rng: random.Random) -> tuple[str, list[int]]:
    """A caption and what it says, as `label` with -1 for what it leaves out."""
    said = said_part(scene, rng)
    claim = label(said)
    if not said.size:
        claim[3] = -1
    return caption(said, rng.choice(LANGUAGES), rng.randrange(3)), claim
