"""`shapes` draws what prompts ask for, in combinations that its training never showed it."""

from collections import Counter

import pytest

from kandinsky.client import Client
from training.shapes.classifier import Attributes, classify
from training.shapes.vocabulary import LANGUAGES, Scene, held_out_prompts

COUNT = 60
BARS = {"colour": 0.95, "background": 0.95, "shape": 0.85}


@pytest.fixture(scope="module")
def drawn(client: Client) -> list[tuple[str, Scene, Attributes]]:
    """Language, what was asked for and what came: prompt i with seed i, all at once."""
    import concurrent.futures

    prompts = held_out_prompts(COUNT)

    def draw(index: int) -> Attributes:
        [generated] = client.text_to_image(prompts[index][0], model="shapes", seed=index)
        return classify(generated.image)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        seen = list(pool.map(draw, range(COUNT)))
    return [
        (language, scene, attributes)
        for (_, language, scene), attributes in zip(prompts, seen, strict=True)
    ]


def share_right(drawn: list[tuple[str, Scene, Attributes]], attribute: str) -> float:
    right = Counter(
        getattr(scene, attribute) == getattr(seen, attribute) for _, scene, seen in drawn
    )
    return right[True] / len(drawn)


@pytest.mark.parametrize("attribute", BARS)
def test_held_out_combinations_come_out_right(drawn, attribute: str) -> None:
    assert share_right(drawn, attribute) >= BARS[attribute]


def test_every_language_is_among_the_prompts(drawn) -> None:
    assert {language for language, _, _ in drawn} == set(LANGUAGES)


@pytest.mark.parametrize("attribute", BARS)
def test_the_images_answer_their_own_prompts(drawn, attribute: str) -> None:
    """With the prompts shifted against the images, agreement falls to near chance."""
    shifted = [
        (language, scene, drawn[(index + 7) % len(drawn)][2])
        for index, (language, scene, _) in enumerate(drawn)
    ]
    assert share_right(shifted, attribute) < 0.5
