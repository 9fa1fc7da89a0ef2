"""The data set and the classifier that judges the checkpoint; trains nothing."""

import random

from training.shapes import vocabulary as v
from training.shapes.classifier import classify
from training.shapes.drawing import draw


def scenes(count: int) -> list[v.Scene]:
    rng = random.Random(1)
    return [
        v.Scene(s, c, b, rng.choice(v.SIZES))
        for c, s, b in (rng.choice(v.combinations()) for _ in range(count))
    ]


def agreement(said: list[v.Scene], shown: list[v.Scene], attribute: str) -> float:
    rng = random.Random(2)
    seen = [getattr(classify(draw(s, rng)), attribute) for s in shown]
    return sum(getattr(a, attribute) == b for a, b in zip(said, seen, strict=False)) / len(said)


def test_classifier_reads_drawn_images():
    drawn = scenes(300)
    for attribute in ("colour", "background", "shape"):
        assert agreement(drawn, drawn, attribute) >= 0.99


def test_classifier_is_near_chance_on_shuffled_captions():
    drawn = scenes(300)
    said = random.Random(3).sample(drawn, len(drawn))
    for attribute in ("colour", "background", "shape"):
        assert agreement(said, drawn, attribute) < 0.3


def test_held_out_combinations_are_about_a_tenth_and_cover_every_word():
    share = len(v.held_out()) / len(v.combinations())
    assert 0.05 < share < 0.15
    for words, position in ((v.COLOURS, 0), (v.SHAPES, 1), (v.BACKGROUNDS, 2)):
        assert {c[position] for c in v.held_out()} == set(words)


def test_prompts_are_stable_and_held_out():
    prompts = v.held_out_prompts(50)
    assert prompts == v.held_out_prompts(50)
    assert all(v.is_held_out(s.colour, s.shape, s.background) for _, _, s in prompts)


def test_every_word_has_every_language():
    for language in v.LANGUAGES:
        assert set(v.NOUNS[language]) == set(v.SHAPES)
        assert set(v.GROUNDS[language]) == set(v.BACKGROUNDS)
        assert set(v.ADJECTIVES[language]) == {*v.COLOURS, "big"}


def test_drawing_is_deterministic():
    scene = v.Scene("star", "red", "blue", "big")
    first, second = (draw(scene, random.Random(7)).tobytes() for _ in range(2))
    assert first == second
