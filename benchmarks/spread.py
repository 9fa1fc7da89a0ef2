"""What a second decoder gives to one request: a list of prompts, images and masks."""

import time
from collections.abc import Sequence
from statistics import median

from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from benchmarks.workload import inpaintings
from kandinsky import Client
from services.local.child import serving

IMAGES, STEPS = 16, 25
REPLICAS = (1, 2)


def measure(setup: Setup, say: Say) -> Report:
    """One request of many inpaintings, with one decoder and with two."""
    seconds: dict[int, list[float]] = {count: [] for count in REPLICAS}
    rounds = 1 if setup.quick else 2
    for number in range(rounds):  # each with servers of its own, in turns
        for count in REPLICAS:
            say(f"round {number + 1} of {rounds}: {count} decoder(s)")
            options = ["--replicas-decoder", str(count), *setup.server_options]
            with serving(setup.entry.name, options) as address:
                seconds[count] += _seconds(setup, address, 2 if setup.quick else 4)
    alone = median(seconds[1])
    rows = [
        {
            "decoders": count,
            "seconds": median(taken),
            "images/s": IMAGES / median(taken),
            "times one decoder": alone / median(taken),
        }
        for count, taken in seconds.items()
    ]
    return Report(
        title="One request over replicas",
        rows=rows,
        note=(
            f"One request of {IMAGES} prompts, each with an image and a mask of its own, "
            f"{setup.entry.size.height} pixels, {STEPS} steps, the model {setup.entry.name}; each "
            "replica has one thread. Seconds from the request to the last image, median over all "
            "of two rounds of servers that take turns; each server's first request is not counted."
        ),
        plot=bars(rows, "decoders", "images/s"),
        raw={str(count): taken for count, taken in seconds.items()},
    )


def _seconds(setup: Setup, address: str, times: int) -> Sequence[float]:
    prompts, images, masks = inpaintings(setup.entry, IMAGES)
    size, taken = setup.entry.size, []
    options = {"seed": 1, "steps": STEPS, "height": size.height, "width": size.width}
    with Client(address, timeout=600) as client:
        for _ in range(times + 1):
            begun = time.perf_counter()
            client.inpaint(images, masks, prompts, model=setup.entry.name, **options)
            taken.append(time.perf_counter() - begun)
    return taken[1:]
