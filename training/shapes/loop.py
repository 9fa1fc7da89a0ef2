"""The training loop that every stage shares: one-cycle AdamW, clipped, averaged, resumable."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

SAVE_SECONDS = 120


def train(
    loss_at: Callable[[int], torch.Tensor],
    parameters: Iterable[torch.nn.Parameter],
    steps: int,
    rate: float,
    state: Path,
    average: float = 0.0,
) -> None:
    """Minimise `loss_at(step)`; ends with the averaged weights in place when `average` > 0.

    `state` holds everything a restart needs. Every step reseeds torch from its index, so a
    resumed run draws what an unbroken one would have drawn.
    """
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps + 1, pct_start=0.1
    )
    mean = [p.detach().clone() for p in parameters]
    first = 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        first = kept["step"]
        optimizer.load_state_dict(kept["optimizer"])
        cycle.load_state_dict(kept["cycle"])
        mean = kept["mean"]
        with torch.no_grad():
            for p, value in zip(parameters, kept["parameters"], strict=False):
                p.copy_(value)
    began = saved = time.monotonic()
    running = None
    for step in range(first, steps):
        torch.manual_seed(step)
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        cycle.step()
        keep = min(average, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(mean, [p.detach() for p in parameters], 1 - keep)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 25 == 0:
            seconds = time.monotonic() - began
            print(f"{state.stem} {step}/{steps} loss {running:.4f} {seconds:.0f} s", flush=True)
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = time.monotonic()
            store(state, step + 1, optimizer, cycle, parameters, mean)
    if average:
        with torch.no_grad():
            for p, value in zip(parameters, mean, strict=False):
                p.copy_(value)


def store(state: Path, step: int, optimizer, cycle, parameters, mean) -> None:
    """Keep what a restart needs."""
    kept = {
        "step": step,
        "optimizer": optimizer.state_dict(),
        "cycle": cycle.state_dict(),
        "parameters": [p.detach() for p in parameters],
        "mean": mean,
    }
    save(kept, state)


def save(value, path: Path) -> None:
    """Writes beside the file and renames: a killed run, or two at once, leave a whole one."""
    fresh = path.with_suffix(f".{os.getpid()}")
    torch.save(value, fresh)
    fresh.rename(path)
