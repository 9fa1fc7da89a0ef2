"""`python -m training.shapes`: trains every part and writes the checkpoint."""

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
PAIRS = (("clip", "movq"), ("prior", "unet"), ("inpaint", "depth"), ("locality",))
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
    if name == "clip":
        from training.shapes.clip import train_clip as run
    elif name == "movq":
        from training.shapes.movq import train_movq as run
    elif name == "prior":
        from training.shapes.prior import train_prior as run
    elif name == "unet":
        from training.shapes.unet import train_unet as run
    elif name == "inpaint":
        from training.shapes.inpaint import train_inpaint as run
    elif name == "depth":
        from training.shapes.depth import train_depth as run
    elif name == "locality":
        from training.shapes.locality import train_locality as run
    else:
        raise typer.BadParameter(name)
    began = time.monotonic()
    run(work, scale)
    seconds = time.monotonic() - began
    done.write_text(f"{seconds:.0f}\n")
    print(f"{name} {seconds:.0f} s", flush=True)


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
    address: Annotated[str, typer.Argument(help="Of a server of `shapes` and `shapes-depth`.")],
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
