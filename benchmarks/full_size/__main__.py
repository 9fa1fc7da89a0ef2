"""`python -m benchmarks.full_size`: full-size Kandinsky 2.2 against diffusers' pipeline.

Reads its options with argparse and prints plain text, where the other benchmarks use typer and
rich: an accelerator's machine is often bare, and sides (a) and (b) need PyTorch and diffusers
alone. For every row of the table, and the plot:

    pip install torch diffusers transformers accelerate numpy matplotlib
    pip install pydantic PyYAML ml_dtypes grpcio grpcio-status protobuf googleapis-common-protos

and the stubs in kandinsky/v1, which `make protos` generates, or any installed kandinsky-serve.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.full_size import plan as plans
from benchmarks.full_size.accelerator import accelerator
from benchmarks.full_size.forwards import forwards
from benchmarks.full_size.measure import Point, measure
from benchmarks.full_size.plan import RUNTIMES, SETTINGS, Plan
from benchmarks.full_size.plot import write_plot
from benchmarks.full_size.report import (
    TERA,
    Row,
    forward_table,
    rows,
    step_table,
    table,
    write_json,
)


def main(words: list[str] | None = None) -> int:
    """Measures and reports; the figures of every point are on disk as soon as it is done."""
    options = _options(words)
    plan = _plan(options)
    options.out.mkdir(parents=True, exist_ok=True)
    about = accelerator(plan.device, plan.dtype)
    heading = f"{plan.size.name}, {about.name}, {about.dtype}, {plan.steps} steps"
    print(heading)
    print(", ".join(f"{name} {number}" for name, number in about.versions.items()))
    print(
        f"measured matrix rate {about.matrix_rate / TERA:.3g} TFLOP/s "
        f"(square products: {', '.join(map(str, about.matrix_rates))}); {about.cores} CPU cores"
    )
    costs = {
        "parameters": plan.size.parameters(),
        "forward_flops": {pixels: plan.size.forward_flops(pixels) for pixels in plan.pixels},
        "image_flops": {
            pixels: plan.size.image_flops(pixels, plan.steps) for pixels in plan.pixels
        },
    }
    counts = {name: f"{count / 1e6:.4g} M" for name, count in costs["parameters"].items()}
    print("random weights:", ", ".join(f"{name} {count}" for name, count in counts.items()))
    networks = plan.size.build(plan.device, plan.dtype)
    alone = list(forwards(plan, networks))
    print("\nEach network alone, eager\n" + forward_table(alone, about.matrix_rate) + "\n")
    points: list[Point] = []
    found: list[Row] = []
    for point in measure(plan, networks):
        if isinstance(point, str):
            print(point, file=sys.stderr, flush=True)
            continue
        points.append(point)
        of_point = rows(point, costs["image_flops"][point.pixels], about.matrix_rate)
        found.extend(of_point)
        print(table(of_point), flush=True, file=sys.stderr)
        write_json(options.out / "figures.json", plan, about, costs, alone, points, found)
    print(f"Images a second\n{table(found)}\n{_legend(plan)}")
    print(f"\nA step of the engine\n{step_table(points)}\n{STEP_LEGEND}")
    print(options.out / "figures.json")
    try:
        write_plot(options.out / "throughput.png", heading, found)
        print(options.out / "throughput.png")
    except ImportError as error:
        print(f"no plot: {error}")
    return 0


STEP_LEGEND = (
    "Outside: the share of a step in which its network does not compute. Launches and waits are "
    "of all threads, a step of all jobs; a captured graph is one launch, and one wait for an event "
    "paces the loop. Warm after: three short rounds with all that is compiled and captured. Apart: "
    "levels of 255, at most and in the mean, between the engine's image of seed 0 and the bare "
    "eager pipeline's."
)


def _legend(plan: Plan) -> str:
    return (
        f"(a) diffusers as it comes, (b) with a documented setting or in batches, (c) this engine. "
        f"{plan.rounds} interleaved rounds, medians; uint8 images on the host on every side, "
        f"guidance {plan.guidance:g}."
    )


def _plan(options: argparse.Namespace) -> Plan:
    cuda = torch.cuda.is_available()
    is_full = cuda and not options.reduced
    plan = plans.full() if is_full else plans.reduced("cuda" if cuda else "cpu")
    given = {
        "dtype": getattr(torch, options.dtype) if options.dtype else None,
        "pixels": options.pixels,
        "concurrencies": options.concurrency,
        "steps": options.steps,
        "rounds": options.rounds,
        "turns": options.turns,
        "batch": options.batch,
        "settings": options.settings,
        "runtimes": options.runtimes,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(plan, **{k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()})


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--reduced", action="store_true", help="few channels; always so without CUDA")
    add("--dtype", choices=("float16", "bfloat16", "float32"))
    add("--pixels", type=int, nargs="+", help="sides of square images")
    add("--concurrency", type=int, nargs="+", help="jobs that the engine has open")
    add("--steps", type=int)
    add("--rounds", type=int)
    add("--turns", type=int, help="images a round for each that is open")
    add("--batch", type=int, help="images a call of the bare pipeline, beside one")
    add("--settings", nargs="*", choices=tuple(SETTINGS), help="of the bare pipeline")
    add("--runtimes", nargs="*", choices=tuple(RUNTIMES), help="of the engine")
    add("--out", type=Path, default=Path("out/full-size"), help="folder for JSON and plot")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
