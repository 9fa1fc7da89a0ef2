"""`python -m benchmarks.full_size`: full-size Kandinsky 2.2 against diffusers' pipeline.

Reads its options with argparse and prints plain text, where the other benchmarks use typer and
rich: an accelerator's machine is often bare, and sides (a) and (b) need PyTorch and diffusers
alone. For every row of the table, and the plot:

    pip install torch diffusers transformers accelerate numpy matplotlib
    pip install pydantic PyYAML ml_dtypes grpcio grpcio-status protobuf googleapis-common-protos

and the stubs in kandinsky/v1, which `make protos` generates, or any installed kandinsky-serve.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_size import plan as plans
from benchmarks.full_size import report
from benchmarks.full_size.accelerator import accelerator
from benchmarks.full_size.measure import Measured, Measurement
from benchmarks.full_size.plan import RUNTIMES, SETTINGS, Plan
from benchmarks.report import cell, draw

LEGEND = """\
(a) diffusers as it comes, (b) with a documented setting or in batches, (c) this engine. {rounds}
interleaved rounds, medians; uint8 images on the host on every side, guidance {guidance:g}.

A step of the engine
{steps}
Outside: the share of a step in which its network does not compute. Operations on the device outside
the network, and reads of it, are counted on fake tensors. Launches and waits are of all threads, a
step of all jobs, on a GPU alone; a captured graph is one launch, and one wait for an event paces
the loop. Warm after: three short rounds with all that is compiled and captured. Apart: levels of
255, at most and in the mean, between the engine's image of seed 0 and the bare eager pipeline's."""


def main(words: list[str] | None = None) -> int:
    """Measures and reports; the figures of every point are on disk as soon as it is done."""
    options = _options(words)
    plan = _plan(options)
    options.out.mkdir(parents=True, exist_ok=True)
    about = accelerator(plan.device, plan.dtype)
    heading = f"{plan.size.name}, {about.name}, {about.dtype}, {plan.steps} steps"
    print(f"{heading}; {', '.join(f'{name} {number}' for name, number in about.versions.items())}")
    print(
        f"measured matrix rate {about.matrix_rate / 1e12:.3g} TFLOP/s "
        f"(square products: {', '.join(map(str, about.matrix_rates))}); {about.cores} CPU cores"
    )
    parameters = plan.size.parameters()
    counts = ", ".join(f"{name} {count / 1e6:.4g} M" for name, count in parameters.items())
    print(f"random weights: {counts}")
    networks = plan.size.build(plan.device, plan.dtype)
    alone = list(report.forwards(plan, networks, about.matrix_rate))
    print("\nEach network alone, eager\n" + _text(alone) + "\n")
    sides: list[Measured] = []
    found: list[dict[str, Any]] = []
    for event in Measurement(plan, networks).run():
        if isinstance(event, str):
            print(event, file=sys.stderr, flush=True)
            continue
        sides += event
        flops = plan.size.image_flops(event[0].pixels, plan.steps)
        found += report.images(event, flops, about.matrix_rate)
        content = {
            "plan": asdict(plan) | {"dtype": about.dtype},
            "machine": asdict(about) | {"matrix_rate": about.matrix_rate},
            "parameters": parameters,
            "forwards": alone,
            "rows": found,
            "sides": [asdict(one) for one in sides],
        }
        text = json.dumps(content, indent=2) + "\n"
        (options.out / "figures.json").write_text(text, encoding="utf-8")
    print(f"Images a second\n{_text(found)}")
    print(*(f"{one.side}: {one.failure}" for one in sides if one.failure), sep="\n")
    steps = _text(report.steps(sides))
    print(LEGEND.format(rounds=plan.rounds, guidance=plan.guidance, steps=steps))
    print(options.out / "figures.json")
    try:
        draw(report.plot(found), heading, options.out / "throughput.png")
    except ImportError as error:
        print(f"no plot: {error}")
    return 0


def _text(rows: Sequence[dict[str, Any]]) -> str:
    """Columns as wide as their widest."""
    table = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        (word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in table
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _plan(options: argparse.Namespace) -> Plan:
    cuda = torch.cuda.is_available()
    is_full = cuda and not options.reduced
    plan = plans.full() if is_full else plans.reduced("cuda" if cuda else "cpu")
    given = {k: v for k, v in vars(options).items() if v is not None and k in vars(plan)}
    if "dtype" in given:
        given["dtype"] = getattr(torch, given["dtype"])
    return replace(plan, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--reduced", action="store_true", help="few channels; always so without CUDA")
    add("--dtype", choices=("float16", "bfloat16", "float32"))
    add("--pixels", type=int, nargs="+", help="sides of square images")
    add("--concurrency", dest="concurrencies", type=int, nargs="+", help="jobs that are open")
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
