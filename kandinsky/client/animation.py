"""Several images as one animation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kandinsky.client.events import Generated

SUFFIXES = (".gif", ".webp")


def save_animation(
    images: Sequence[Generated],
    path: str | Path,
    *,
    seconds_a_frame: float = 0.1,
    loop: bool = True,
) -> None:
    """Write images, in order of their index, as an animated GIF or a lossless animated WebP.

    Raises:
        ValueError: the suffix is another, there are no images, or one is a latent.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not images:
        raise ValueError("an animation needs at least one image")
    frames = [generated.image for generated in sorted(images, key=lambda image: image.index)]
    webp = path.suffix.lower() == ".webp"
    options: dict[str, Any] = {"lossless": True, "loop": 0 if loop else 1} if webp else {}
    if loop and not webp:
        options["loop"] = 0  # a GIF plays once where it says nothing
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=round(seconds_a_frame * 1000),
        **options,
    )
