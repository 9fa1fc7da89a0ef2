"""The figures of what was measured: each network alone, images a second, a step."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.figures import latency, throughput, throughput_ratio
from benchmarks.full_size.accelerator import seconds
from benchmarks.full_size.measure import Measured
from benchmarks.full_size.networks import Networks
from benchmarks.full_size.plan import Plan
from benchmarks.report import Plot, Row, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPEATS = 3


def forwards(plan: Plan, networks: Networks, matrix_rate: float) -> Iterator[Row]:
    """UNet and prior with two rows an image, MoVQ's decoding with one, at each concurrency."""
    for pixels in plan.pixels:
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
                "prior": (2, partial(networks.prior, **networks.prior_inputs(2 * open_))),
            }
            if pixels != plan.pixels[0]:
                del works["prior"]  # which sees no pixels
            for name, (rows_each, work) in works.items():
                rows = rows_each * open_
                with torch.inference_mode():
                    taken = seconds(work, REPEATS)
                rate = rows * flops[name] / taken
                yield {
                    "network": name,
                    "pixels": pixels,
                    "rows": rows,
                    "ms": taken * 1e3,
                    "ms a row": taken * 1e3 / rows,
                    "TFLOP/s": rate / 1e12,
                    "of matrix rate": f"{rate / matrix_rate:.1%}",
                }


def images(sides: Sequence[Measured], image_flops: int, matrix_rate: float) -> list[dict[str, Any]]:
    """The sides of a size in their order; without figures where one failed."""
    bare = [one for one in sides if one.rounds and one.group in "ab"]
    baselines = {
        "times (a)": sides[0],
        "times best single": _fastest([one for one in bare if one.at_once == 1]),
        "times best batch": _fastest([one for one in bare if one.at_once > 1]),
    }
    found = []
    for one in sides:
        rate = throughput(one.rounds) if one.rounds else None
        share = f"{rate * image_flops / matrix_rate:.1%}" if rate else None
        ratios = {
            name: throughput_ratio(one.rounds, base.rounds) if rate and base else None
            for name, base in baselines.items()
        }
        found.append(
            {"pixels": one.pixels, "side": f"({one.group}) {one.side}", "open": one.at_once}
            | {"images/s": rate, "of matrix rate": share, **ratios}
            | {"p50, s": latency(one.rounds) if rate else None}
        )
    return found


def steps(sides: Sequence[Measured]) -> list[dict[str, Any]]:
    """What a step of each engine is made of; operations as counted on fake tensors."""
    return [
        {
            "pixels": one.pixels,
            "side": one.side,
            "step, ms": one.step.seconds * 1e3,
            "network, ms": one.step.network_seconds * 1e3,
            "outside": f"{one.step.outside:.1%}",
            "operations": one.step.operations,
            "reads": one.step.reads,
            "launches": one.step.launches,
            "waits": ", ".join(f"{count:.1f} {name}" for name, count in one.step.waits.items()),
            "warm after, s": round(one.warm_up),
            "apart": "{} ({:.2f})".format(*one.difference) if one.difference else None,
        }
        for one in sides
        if one.step is not None
    ]


def plot(rows: Sequence[Row]) -> Plot:
    """Images a second over open jobs: a line for each runtime and size, the bare ones dashed."""
    made = [row for row in rows if row["images/s"]]
    named = [
        {**row, "side": f"{row['side'].rpartition(', ')[0]}, {row['pixels']}"}
        for row in made
        if row["side"].startswith("(c)")
    ]

    def draw(axes: "Axes") -> None:
        for row in made:
            if not row["side"].startswith("(c)"):
                name = f"{row['side']}, {row['pixels']}"
                axes.axhline(row["images/s"], linestyle="--", label=name)
        lines(named, "side", "open", "images/s")(axes)

    return draw


def _fastest(sides: Sequence[Measured]) -> Measured | None:
    return max(sides, key=lambda one: throughput(one.rounds), default=None)
