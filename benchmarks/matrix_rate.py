"""The share of the machine's matrix rate that a decoder's step reaches, on one thread."""

from functools import partial
from typing import Any

import torch

from benchmarks.full_size.accelerator import MATRIX_SIDES, matrix_rate
from benchmarks.full_size.engine_side import EngineSide
from benchmarks.full_size.networks import Networks, flops
from benchmarks.full_size.side import Embeds
from benchmarks.full_size.steps import step
from benchmarks.report import Report, lines
from benchmarks.setup import Say, Setup
from kandinsky.catalog.family import Stage
from services.decoder.families import FAMILIES
from services.loading import families
from services.transport.replica import keep_compiled
from services.transport.settings import StageSettings

JOBS = (1, 4, 8, 16)


def measure(setup: Setup, say: Say) -> Report:
    """Steps of guided jobs at the model's own size, as it comes and compiled."""
    torch.set_num_threads(1)
    keep_compiled()
    entry, pixels = setup.entry, setup.entry.size.height
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: torch.dtype = getattr(torch, entry.dtype)
    rates = []
    rows: list[dict[str, Any]] = []
    for compiled in (False, True):
        settings = StageSettings.model_validate(
            {"model": entry.name, "catalog": setup.folders, "runtime": {"compile": compiled}}
        )
        decoder = families.load(FAMILIES, entry.family)(settings.loaders(Stage.DECODER), entry)
        unet = decoder.denoiser.network.unet
        networks = Networks(unet, decoder.autoencoder._decode.movq, None)
        a_row = flops(partial(unet, **networks.unet_inputs(1, pixels)))
        embeds = Embeds.random(unet.config.encoder_hid_dim, networks.latents(1, pixels))
        for jobs in JOBS:
            say(f"{jobs} jobs, {'compiled' if compiled else 'as it comes'}")
            side = EngineSide(decoder, embeds, 4.0, jobs, pixels)
            one = step(networks, side, jobs, pixels)
            side.close()
            rates += [matrix_rate(device, dtype, each) for each in MATRIX_SIDES[device]]
            work = 2 * jobs * a_row
            rows.append(
                {
                    "network": "compiled" if compiled else "as it comes",
                    "jobs": jobs,
                    "step, ms": one.seconds * 1e3,
                    "network, ms": one.network_seconds * 1e3,
                    "outside": f"{one.outside:.1%}",
                    "GFLOP/s": work / one.seconds / 1e9,
                }
            )
    rate = max(rates)
    for row in rows:
        row["% of matrix rate"] = 1e11 * row["GFLOP/s"] / rate
    return Report(
        title="Share of the matrix rate that a step reaches",
        rows=rows,
        note=(
            f"On one thread the best square product, tried beside each row, has {rate / 1e9:.0f} "
            f"GFLOP/s. A guided job has two rows of {a_row / 1e9:.2f} GFLOP each, by "
            "torch.utils.flop_counter. A step is the difference of a short and a long denoising "
            "loop in one engine, by their steps; network is a forward of as many rows alone; both "
            "the best of some runs. Outside: the share of a step that is not the network's."
        ),
        plot=lines(rows, "network", "jobs", "% of matrix rate"),
        raw={"matrix_rate": rate, "flops_of_a_row": a_row},
    )
