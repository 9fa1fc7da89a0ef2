"""What the demo asks for: every prompt by its number, which is also its seed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """One prompt of the demo."""

    language: str
    text: str
    meaning: str
    """In English; names the file."""
    negative: str | None = None
    images: int = 1
    unseen: bool = False
    """Whether training never showed this colour and shape on this background."""


PROMPTS = (
    Prompt("English", "a red circle on a blue background", "red circle on blue"),
    Prompt("English", "a big green star on black", "big green star on black", unseen=True),
    Prompt("Russian", "жёлтый квадрат на синем фоне", "yellow square on blue"),
    Prompt("Russian", "фиолетовый круг на синем фоне", "purple circle on blue", unseen=True),
    Prompt("German", "ein grünes Dreieck auf weißem Hintergrund", "green triangle on white"),
    Prompt("German", "ein roter Ring auf schwarzem Hintergrund", "red ring on black"),
    Prompt("Spanish", "una estrella azul sobre fondo amarillo", "blue star on yellow"),
    Prompt("Spanish", "un anillo azul sobre fondo amarillo", "blue ring on yellow", unseen=True),
    Prompt("Chinese", "黑色背景上的橙色十字形", "orange cross on black", unseen=True),
    Prompt("Chinese", "一个大红色圆形在白色背景上", "big red circle on white"),
    Prompt("English", "a big star on a white background", "big star on white", negative="red"),
    Prompt("English", "an orange square on a gray background", "orange square on gray", images=4),
)
