"""Starts the whole system on this machine, draws images over gRPC, and ends everything again.

python examples/demo.py --out out
"""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from contact_sheet import Captioned, Row, draw_one, draw_sheet
from flows import DEPTH_MODEL, SD_MODEL, rows
from prompts import PROMPTS, Prompt

from kandinsky import Client, Generated, KandinskyError
from services.local.child import ServerError, serving

MODEL = "shapes"
RULE = "Prompt k is drawn with seed k, and image j of a prompt with seed k + j; nothing is picked."
UNSEEN = "A dot marks what training never showed: that colour and shape on that background."
REQUEST_SECONDS = 600
COLUMNS = 5


def main(out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("out")) -> None:
    """Draw the demo's images."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _demo(out)
    except KandinskyError as error:
        raise _failed(f"the server could not draw: {error.message}") from error
    except (ServerError, OSError) as error:
        raise _failed(str(error)) from error
    except KeyboardInterrupt:
        raise _failed("interrupted; everything was ended") from None


def _demo(out: Path) -> None:
    started = time.monotonic()
    beside = [word for name in (DEPTH_MODEL, SD_MODEL) for word in ("--model", name)]
    print(f"starting: kandinsky up --model {MODEL} {' '.join(beside)}", flush=True)
    with serving(MODEL, beside) as address:
        print(f"healthy at {address} after {time.monotonic() - started:.0f} s", flush=True)
        print(RULE, flush=True)
        asked = time.monotonic()
        with Client(address, timeout=REQUEST_SECONDS) as client:
            drawn = list(_draw(client))
            flows = list(rows(client, out))
        seconds = time.monotonic() - asked
    count = len(drawn) + sum(len(row.cells) for row in flows)
    print(f"{count} images in {seconds:.1f} s; everything has ended", flush=True)
    _write(out, drawn, flows)


def _draw(client: Client) -> Iterator[tuple[Prompt, Generated]]:
    """Every prompt's images. Prompts that need nothing of their own go as one request."""
    plain = [prompt for prompt in PROMPTS if prompt.negative is None and prompt.images == 1]
    if tuple(plain) != PROMPTS[: len(plain)]:
        raise ValueError("the plain prompts come first, so that their seeds are 0, 1, 2 and so on")
    images = client.text_to_image([prompt.text for prompt in plain], model=MODEL, seed=0)
    yield from zip(plain, images, strict=True)
    for seed, prompt in enumerate(PROMPTS[len(plain) :], start=len(plain)):
        for image in client.text_to_image(
            prompt.text,
            model=MODEL,
            negative_prompts=prompt.negative,
            images_per_prompt=prompt.images,
            seed=seed,
        ):
            yield prompt, image


def _write(out: Path, drawn: list[tuple[Prompt, Generated]], flows: list[Row]) -> None:
    captioned = [_caption(prompt, image) for prompt, image in drawn]
    for number, (prompt, _) in enumerate(drawn):
        path = out / f"{number:02}-{prompt.meaning.replace(' ', '-')}.png"
        draw_one(captioned[number]).save(path)
        print(f"{path}: {prompt.text}")
    for row in flows:
        path = out / f"{row.title.lower().replace(' ', '-')}.png"
        draw_sheet([row], "", "").save(path)
        print(f"{path}: {row.title}")
    grid = [
        Row("" if at else "Text to image", tuple(captioned[at : at + COLUMNS]))
        for at in range(0, len(captioned), COLUMNS)
    ]
    sheet = draw_sheet([*grid, *flows], "What the shapes model draws", f"{RULE} {UNSEEN}")
    sheet.save(out / "contact-sheet.png")
    print(out / "contact-sheet.png")


def _caption(prompt: Prompt, image: Generated) -> Captioned:
    notes = [f"seed {image.seed} · {prompt.language}" + (" · ●" if prompt.unseen else "")]
    if prompt.language != "English":
        notes.append(prompt.meaning)
    if prompt.negative is not None:
        notes.append(f"negative prompt: {prompt.negative}")
    return Captioned(image.image, prompt.text, tuple(notes))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _failed(sentence: str) -> typer.Exit:
    print(sentence, file=sys.stderr)
    return typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
