"""One forward of each network alone, by rows: what the device gives before anyone serves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.full_size.accelerator import seconds
from benchmarks.full_size.networks import Networks
from benchmarks.full_size.plan import Plan

REPEATS = 3


@dataclass(frozen=True)
class Forward:
    """One network's time."""

    network: str
    pixels: int | None
    """Of a side; None for the prior, which sees no pixels."""
    rows: int
    seconds: float
    matrix_rate: float
    """Floating-point operations a second."""


def forwards(plan: Plan, networks: Networks) -> Iterator[Forward]:
    """UNet and prior with two rows an image, MoVQ's decoding with one, at each concurrency."""
    for place, pixels in enumerate(plan.pixels):
        flops = plan.size.forward_flops(pixels)
        for open_ in plan.concurrencies:
            works: dict[str, tuple[int, Callable[[], object]]] = {
                "unet": (2, partial(networks.unet, **networks.unet_inputs(2 * open_, pixels))),
                "movq": (
                    1,
                    partial(
                        networks.movq.decode,
                        networks.latents(open_, pixels),
                        force_not_quantize=True,
                    ),
                ),
            }
            if place == 0:
                prior = partial(networks.prior, **networks.prior_inputs(2 * open_))
                works["prior"] = (2, prior)
            for name, (rows_each, work) in works.items():
                rows = rows_each * open_
                with torch.inference_mode():
                    taken = seconds(work, REPEATS)
                size = None if name == "prior" else pixels
                yield Forward(name, size, rows, taken, rows * flops[name] / taken)
