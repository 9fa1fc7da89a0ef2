"""What a `shapes` prompt can say, in five languages, and which combinations are held out.

Imports nothing heavy, so that tests and demos can draw prompts without torch.
"""

import hashlib
import random
from dataclasses import dataclass

LANGUAGES = ("en", "ru", "de", "es", "zh")

# RGB, 0 to 255.
PALETTE = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (247, 209, 45),
    "purple": (137, 49, 178),
    "orange": (245, 130, 32),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "gray": (140, 140, 140),
}
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
BACKGROUNDS = ("white", "black", "gray", "blue", "green", "yellow")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = ("", "big")

# Adjective forms by gender: (masculine, feminine, neuter); one form where there is no agreement.
ADJECTIVES = {
    "en": {c: (c,) * 3 for c in (*COLOURS, "big")},
    "zh": {
        c: (w,) * 3
        for c, w in zip(
            (*COLOURS, "big"), ("红色", "绿色", "蓝色", "黄色", "紫色", "橙色", "大"), strict=True
        )
    },
    "ru": {
        "red": ("красный", "красная", "красное"),
        "green": ("зелёный", "зелёная", "зелёное"),
        "blue": ("синий", "синяя", "синее"),
        "yellow": ("жёлтый", "жёлтая", "жёлтое"),
        "purple": ("фиолетовый", "фиолетовая", "фиолетовое"),
        "orange": ("оранжевый", "оранжевая", "оранжевое"),
        "big": ("большой", "большая", "большое"),
    },
    "de": {
        "red": ("roter", "rote", "rotes"),
        "green": ("grüner", "grüne", "grünes"),
        "blue": ("blauer", "blaue", "blaues"),
        "yellow": ("gelber", "gelbe", "gelbes"),
        "purple": ("violetter", "violette", "violettes"),
        "orange": ("oranger", "orange", "oranges"),
        "big": ("großer", "große", "großes"),
    },
    "es": {
        "red": ("rojo", "roja", "rojo"),
        "green": ("verde",) * 3,
        "blue": ("azul",) * 3,
        "yellow": ("amarillo", "amarilla", "amarillo"),
        "purple": ("morado", "morada", "morado"),
        "orange": ("naranja",) * 3,
        "big": ("grande",) * 3,
    },
}
# Noun and its gender (0 masculine, 1 feminine, 2 neuter).
NOUNS = {
    "en": {s: (s, 0) for s in SHAPES},
    "ru": dict(
        zip(
            SHAPES,
            (
                ("круг", 0),
                ("квадрат", 0),
                ("треугольник", 0),
                ("звезда", 1),
                ("крест", 0),
                ("кольцо", 2),
            ),
            strict=True,
        )
    ),
    "de": dict(
        zip(
            SHAPES,
            (
                ("Kreis", 0),
                ("Quadrat", 2),
                ("Dreieck", 2),
                ("Stern", 0),
                ("Kreuz", 2),
                ("Ring", 0),
            ),
            strict=True,
        )
    ),
    "es": dict(
        zip(
            SHAPES,
            (
                ("círculo", 0),
                ("cuadrado", 0),
                ("triángulo", 0),
                ("estrella", 1),
                ("cruz", 1),
                ("anillo", 0),
            ),
            strict=True,
        )
    ),
    "zh": {
        s: (w, 0)
        for s, w in zip(SHAPES, ("圆形", "正方形", "三角形", "星形", "十字形", "圆环"), strict=True)
    },
}
GROUNDS = {
    "en": dict(zip(BACKGROUNDS, BACKGROUNDS, strict=True)),
    "ru": dict(
        zip(BACKGROUNDS, ("белом", "чёрном", "сером", "синем", "зелёном", "жёлтом"), strict=True)
    ),
    "de": dict(
        zip(
            BACKGROUNDS,
            ("weißem", "schwarzem", "grauem", "blauem", "grünem", "gelbem"),
            strict=True,
        )
    ),
    "es": dict(
        zip(BACKGROUNDS, ("blanco", "negro", "gris", "azul", "verde", "amarillo"), strict=True)
    ),
    "zh": dict(zip(BACKGROUNDS, ("白色", "黑色", "灰色", "蓝色", "绿色", "黄色"), strict=True)),
}


@dataclass(frozen=True)
class Scene:
    """One object on one ground; an empty string or None is "not said"."""

    shape: str
    colour: str | None
    background: str | None
    size: str = ""


def combinations() -> list[tuple[str, str, str]]:
    """Every (colour, shape, background) that can be drawn: an object differs from its ground."""
    return [(c, s, b) for c in COLOURS for s in SHAPES for b in BACKGROUNDS if c != b]


def is_held_out(colour: str, shape: str, background: str) -> bool:
    """True for about a tenth of the combinations, by a hash: never shown in training."""
    digest = hashlib.sha256(f"shapes-1/{colour}/{shape}/{background}".encode()).digest()
    return digest[0] < 26


def held_out() -> list[tuple[str, str, str]]:
    return [c for c in combinations() if is_held_out(*c)]


def caption(scene: Scene, language: str, phrasing: int = 0) -> str:
    """`scene` in words; `phrasing` 0 to 2 picks among ways of saying it."""
    noun, gender = NOUNS[language][scene.shape]
    words = ADJECTIVES[language]
    colour = words[scene.colour][gender] if scene.colour else ""
    size = words[scene.size][gender] if scene.size else ""
    ground = GROUNDS[language][scene.background] if scene.background else ""
    if language == "zh":
        thing = f"{size}{colour}{noun}"
        if not ground:
            return (f"一个{thing}", thing, f"一个{size}{colour}的{noun}" if colour else thing)[
                phrasing
            ]
        return (
            f"{ground}背景上的{thing}",
            f"{thing},{ground}背景",
            f"一个{thing}在{ground}背景上",
        )[phrasing]
    if language == "es":
        article = ("un", "una", "un")[gender]
        thing = " ".join(filter(None, (noun, colour, size)))
    else:
        article = {"en": ("a",) * 3, "ru": ("",) * 3, "de": ("ein", "eine", "ein")}[language][
            gender
        ]
        if language == "en" and starts_with_vowel(size or colour or noun):
            article = "an"
        thing = " ".join(filter(None, (size, colour, noun)))
    full = f"{article} {thing}".strip()
    if not ground:
        return (full, thing, full)[phrasing]
    return {
        "en": (
            f"{full} on a {ground} background",
            f"{thing}, {ground} background",
            f"{full} on {ground}",
        ),
        "ru": (
            f"{full} на {ground} фоне",
            f"{thing}, на {ground} фоне",
            f"на {ground} фоне {thing}",
        ),
        "de": (
            f"{full} auf {ground} Hintergrund",
            f"{thing}, auf {ground} Hintergrund",
            f"auf {ground} Hintergrund {full}",
        ),
        "es": (
            f"{full} sobre fondo {ground}",
            f"{thing}, fondo {ground}",
            f"{full} en un fondo {ground}",
        ),
    }[language][phrasing]


def starts_with_vowel(word: str) -> bool:
    return word[0] in "aeiou"


def held_out_prompts(count: int, seed: int = 2022) -> list[tuple[str, str, Scene]]:
    """A seeded draw of (prompt, language, scene), languages in turn. Image i takes seed i."""
    rng = random.Random(seed)
    pool = held_out()
    prompts = []
    for i in range(count):
        colour, shape, background = rng.choice(pool)
        scene = Scene(shape, colour, background, rng.choice(SIZES))
        language = LANGUAGES[i % len(LANGUAGES)]
        prompts.append((caption(scene, language, rng.randrange(3)), language, scene))
    return prompts
