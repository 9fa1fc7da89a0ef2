"""`python -m training.shapes`: trains every part and writes the checkpoint."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)
# Side by side in pairs: two one-threaded processes beat one with two threads.
PAIRS = (
    ("clip", "movq"),
    ("prior", "unet"),
    ("inpaint", "depth"),
    ("kl_autoencoder", "sd_inpaint"),
    ("locality",),
)
Work = Annotated[Path, typer.Option(help="Where stages keep what they made.")]
Scale = Annotated[float, typer.Option(help="Share of the full number of steps.")]
Device = Annotated[str, typer.Option(help="Torch device that computes.")]
Card = Annotated[bool, typer.Option(help="Write the figures into the checkpoint's card.")]
DEFAULT_WORK = Path("out/training/shapes")


@app.command()
def stage(name: str, work: Work = DEFAULT_WORK, scale: Scale = 1.0, device: Device = "cpu") -> None:
    """Trains one part; does nothing where it is done already."""
    import torch

    torch.set_num_threads(1)
    torch.set_default_device(device)
    done = work / f"{name}.done"
    if done.exists():
        return
    names = [one for pair in PAIRS for one in pair]
    if name not in names:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}")
    run = getattr(importlib.import_module(f"training.shapes.{name}"), f"train_{name}")
    began = time.monotonic()
    run(work, scale)
    seconds = time.monotonic() - began
    done.write_text(f"{seconds:.0f}\n")
    print(f"{name} {seconds:.0f} s", flush=True)


@app.command()
def unpack(
    checkpoint: Path = Path("checkpoints/shapes"),
    work: Work = DEFAULT_WORK,
    again: Annotated[list[str] | None, typer.Option(help="A stage to train again.")] = None,
) -> None:
    """Take a checkpoint's parts for trained, so that `train` trains no more than `--again` says."""
    from training.shapes.data import prepare
    from training.shapes.layout import unpack as run

    work.mkdir(parents=True, exist_ok=True)
    prepare(work)
    for name in run(checkpoint, work, again or ()):
        (work / f"{name}.done").write_text("0\n")


@app.command()
def train(
    work: Work = DEFAULT_WORK,
    out: Path = Path("checkpoints/shapes"),
    scale: Scale = 1.0,
    device: Device = "cpu",
):
    """Every stage in turn, pairs side by side, then the checkpoint in `out`, with a card."""
    from training.shapes import card
    from training.shapes.data import prepare
    from training.shapes.layout import export

    work.mkdir(parents=True, exist_ok=True)
    prepare(work)
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    for pair in PAIRS:
        command = [sys.executable, "-m", "training.shapes", "stage"]
        options = ["--work", str(work), "--scale", str(scale), "--device", device]
        running = [subprocess.Popen([*command, n, *options], env=settings) for n in pair]
        failures = [process.wait() for process in running]
        if any(failures):
            raise typer.Exit(1)
    export(work, out)
    if scale == 1 and (out / card.CARD).exists():
        names = [name for pair in PAIRS for name in pair]
        card.record(
            out, "training", {name: int((work / f"{name}.done").read_text()) for name in names}
        )


@app.command()
def adapter(
    name: str,
    checkpoint: Path = Path("checkpoints/shapes"),
    work: Work = DEFAULT_WORK,
    scale: Scale = 1.0,
) -> None:
    """Trains an adapter of the Stable Diffusion inpainting: `outlined`, `diamond` or `shown`."""
    import torch

    from training.shapes.adapters import LESSONS, learn
    from training.shapes.image_prompt import learn_shown

    torch.set_num_threads(1)
    if name == "shown":
        learn_shown(checkpoint, work, scale)
    elif name in LESSONS:
        learn(name, checkpoint, work, scale)
    else:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(LESSONS)}, shown")


@app.command()
def evaluate(
    out: Path = Path("checkpoints/shapes"),
    count: int = 500,
    sheet: Path | None = None,
    card: Card = False,
) -> None:
    """Share of images that show what the prompt says, on held-out combinations."""
    from training.shapes.evaluate import evaluate as run

    _show("prompts", run(out, count, sheet), out, card)


@app.command()
def evaluate_flows(
    address: Annotated[str, typer.Argument(help="Of a server of the three models of shapes.")],
    out: Path = Path("checkpoints/shapes"),
    count: int = 100,
    card: Card = False,
) -> None:
    """Share of images that show what was asked for, by flow, as a running server makes them."""
    from training.shapes.flows import evaluate as run

    _show("flows", run(address, count), out, card)


def _show(name: str, figures: dict[str, Any], out: Path, card: bool) -> None:
    from training.shapes.card import record

    print(json.dumps(figures, indent=2))
    if card:
        record(out, name, figures)


if __name__ == "__main__":
    app()
