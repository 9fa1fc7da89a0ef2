"""What was measured as plain text, as JSON and as a plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import median_latency, median_throughput, throughput_ratio
from benchmarks.full_size.accelerator import Accelerator
from benchmarks.full_size.forwards import Forward
from benchmarks.full_size.measure import Measured, Point
from benchmarks.full_size.plan import Plan

TERA = 1e12


@dataclass(frozen=True)
class Row:
    """One side's figures at one size, medians over its rounds; or why there are none."""

    pixels: int
    side: str
    group: str
    at_once: int
    images_a_second: float | None = None
    matrix_share: float | None = None
    """Of the machine's measured matrix rate."""
    throughput_ratio: float | None = None
    """To the baseline, round by round."""
    best_single_ratio: float | None = None
    """To the fastest bare one that makes an image at a time."""
    best_batch_ratio: float | None = None
    """To the fastest bare one in batches."""
    p50: float | None = None
    """Seconds that one image took."""
    failure: str | None = None


def rows(point: Point, image_flops: int, matrix_rate: float) -> list[Row]:
    """A point's sides in their order."""
    bare = [one for one in point.sides if one.rounds and one.group in "ab"]
    single = _fastest([one for one in bare if one.at_once == 1]) or point.sides[0]
    batch = _fastest([one for one in bare if one.at_once > 1])
    found = []
    for one in point.sides:
        place = (point.pixels, one.side, one.group, one.at_once)
        if one.failure:
            found.append(Row(*place, failure=one.failure))
            continue
        rate = median_throughput(one.rounds)
        found.append(
            Row(
                *place,
                images_a_second=rate,
                matrix_share=rate * image_flops / matrix_rate,
                throughput_ratio=throughput_ratio(one.rounds, point.sides[0].rounds),
                best_single_ratio=throughput_ratio(one.rounds, single.rounds),
                best_batch_ratio=throughput_ratio(one.rounds, batch.rounds) if batch else None,
                p50=median_latency(one.rounds),
            )
        )
    return found


def _fastest(sides: Sequence[Measured]) -> Measured | None:
    return max(sides, key=lambda one: median_throughput(one.rounds), default=None)


def table(found: Sequence[Row]) -> str:
    """The rows as text, for a terminal without rich."""
    heads = ["of matrix rate", "times (a)", "times best single", "times best batch", "p50, s"]
    lines = [["pixels", "side", "images/s", *heads]]
    failures = {}
    for row in found:
        place = [str(row.pixels), f"({row.group}) {row.side}"]
        if row.failure or row.images_a_second is None:
            lines.append([*place, *["-"] * 6])
            failures[place[1]] = row.failure
            continue
        ratios = (row.throughput_ratio, row.best_single_ratio, row.best_batch_ratio)
        lines.append(
            [
                *place,
                _figure(row.images_a_second),
                f"{row.matrix_share:.1%}",
                *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                _figure(row.p50 or 0.0),
            ]
        )
    notes = [f"{side}: {reason}" for side, reason in failures.items()]
    return "\n".join([*_aligned(lines, left=1), *notes])


def step_table(points: Sequence[Point]) -> str:
    """What a step of each engine is made of."""
    heads = ["step, ms", "network, ms", "outside", "launches", "waits", "warm after, s", "apart"]
    lines = [["pixels", "side", *heads]]
    for point in points:
        for one in point.sides:
            if one.step is None:
                continue
            waits = " ".join(f"{count:.1f} {name}" for name, count in one.step.waits.items())
            launches = one.step.launches
            lines.append(
                [
                    str(point.pixels),
                    one.side,
                    _figure(one.step.seconds * 1e3),
                    _figure(one.step.network_seconds * 1e3),
                    f"{one.step.outside:.1%}",
                    "-" if launches is None else f"{launches:.0f}",
                    waits or "-",
                    f"{one.warm_up:.0f}",
                    "-" if one.difference is None else "{} ({:.2f})".format(*one.difference),
                ]
            )
    return "\n".join(_aligned(lines, left=1))


def forward_table(found: Sequence[Forward], matrix_rate: float) -> str:
    """Each network alone as text."""
    lines = [["network", "pixels", "rows", "ms", "ms a row", "TFLOP/s", "of matrix rate"]]
    for one in found:
        milliseconds = one.seconds * 1e3
        lines.append(
            [
                one.network,
                "" if one.pixels is None else str(one.pixels),
                str(one.rows),
                _figure(milliseconds),
                _figure(milliseconds / one.rows),
                _figure(one.matrix_rate / TERA),
                f"{one.matrix_rate / matrix_rate:.1%}",
            ]
        )
    return "\n".join(_aligned(lines, left=0))


def write_json(
    path: Path,
    plan: Plan,
    about: Accelerator,
    networks: dict[str, Any],
    alone: Sequence[Forward],
    points: Sequence[Point],
    found: Sequence[Row],
) -> None:
    """Writes every figure, and the rounds that it comes from."""
    content = {
        "plan": asdict(plan) | {"dtype": about.dtype},
        "machine": asdict(about) | {"matrix_rate": about.matrix_rate},
        "networks": networks,
        "forwards": [asdict(one) for one in alone],
        "rows": [asdict(row) for row in found],
        "points": [asdict(point) for point in points],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _figure(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _aligned(lines: list[list[str]], left: int) -> list[str]:
    """Columns as wide as their widest; the one numbered `left` begins at its left."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
