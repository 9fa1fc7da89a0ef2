"""Where the processor time of an image goes: by process, beside what its networks need alone."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch

from benchmarks.contest import BARE, Side, sides
from benchmarks.machine import cores
from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from benchmarks.throughput import TASKS
from benchmarks.workload import ImageTask, plain
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2
from kandinsky.wire import tensors
from services.decoder.families import FAMILIES as DECODERS
from services.engine.calibration import forward_seconds
from services.loading import families
from services.prior.families import FAMILIES as PRIORS
from services.transport.replica import keep_compiled
from services.transport.settings import StageSettings

OPEN = 16
WARM_UP_SECONDS = 12.0
"""Of load before a side is measured: what it compiles, it compiles then."""
KINDS: Mapping[str, str] = {
    ":Decoder": "decoders",
    ":Prior": "prior",
    ":Encoders": "encoders",
    ":Batched": "pipelines",
    "ProxyActor": "proxy",
    "-m gateway": "gateway",
    "-m benchmarks": "client",
}
"""Columns, by a part of a process's command line; the first that fits."""
REST = "Ray and others"


def measure(setup: Setup, say: Say) -> Report:
    """Uniform load, as the throughput table has it."""
    tasks = plain(setup.entry, TASKS)
    seconds = 4.0 if setup.quick else 15.0
    with sides(setup, tasks, (OPEN,), say) as found:
        rows = []
        for side in found.all:
            if side.kind is not BARE:
                say(f"{side.name}, {OPEN} open")
                side.round(tasks, OPEN, WARM_UP_SECONDS)
                rows.append(_row(side, tasks, seconds))
        runtime = found.runtime
    say("the networks alone")
    alone = networks(setup, runtime, OPEN // setup.decoders)
    rows.append({**dict.fromkeys(rows[0]), "side": "networks alone", **alone})
    bound = cores() * 1e3 / sum(alone.values())
    rows[-1]["images/s"] = bound
    return Report(
        title=f"Processor time of an image, {OPEN} requests open",
        rows=rows,
        note=(
            "Milliseconds of processor time an image, by process, from what the operating system "
            f"counts of each within {seconds:.0f} seconds of uniform load. The client asks "
            f"and reads; {REST.lower()} is what else ran on the machine. Networks alone: prior, "
            f"UNet and MoVQ of this system's options on one thread, {2 * OPEN // setup.decoders} "
            "rows a forward (MoVQ one), with nothing beside them; its images a second are what "
            "the cores would make if they did nothing else and did not slow each other down."
        ),
        plot=bars(rows, "side", "images/s"),
    )


def _row(side: Side, tasks: Sequence[ImageTask], seconds: float) -> dict[str, Any]:
    """Of one side, sampled in the middle of a window."""
    found: dict[str, float] = {}

    def sample() -> None:
        time.sleep(seconds * 0.25)
        before, begun = _by_process(), time.perf_counter()
        time.sleep(seconds)
        taken = time.perf_counter() - begun
        for pid, (kind, used) in _by_process().items():
            spent = used - before.get(pid, (kind, used))[1]
            found[kind] = found.get(kind, 0.0) + spent / taken

    sampler = threading.Thread(target=sample)
    sampler.start()
    made = side.round(tasks, OPEN, seconds * 1.5)
    sampler.join()
    rate = made.images_a_second
    kinds = (*KINDS.values(), REST)
    used = {kind: 1e3 * found.get(kind, 0.0) / rate for kind in kinds}
    return {"side": side.name, "images/s": rate, **used, "all": sum(used.values())}


def _by_process() -> dict[int, tuple[str, float]]:
    """Kind and seconds of every process, by its number."""
    found = {}
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        words, times = " ".join(process.info["cmdline"] or ()), process.info["cpu_times"]
        if times is not None:
            kind = next((name for part, name in KINDS.items() if part in words), REST)
            found[process.pid] = kind, times.user + times.system
    return found


def networks(setup: Setup, runtime: Mapping[Any, Any], images: int) -> dict[str, float]:
    """Milliseconds of an image in each stage's networks, so many images together.

    Args:
        setup: names the model.
        runtime: options by stage.
        images: guided, so two rows each.
    """
    torch.set_num_threads(1)
    keep_compiled()
    entry, found = setup.entry, defaultdict[str, float](float)
    for stage, registry, name in (
        (Stage.PRIOR, PRIORS, "prior"),
        (Stage.DECODER, DECODERS, "decoders"),
    ):
        settings = StageSettings.model_validate(
            {"model": entry.name, "catalog": setup.folders, "runtime": runtime.get(stage, {})}
        )
        family = families.load(registry, entry.family)(settings.loaders(stage), entry)
        size = () if stage is Stage.PRIOR else (entry.size.height, entry.size.width)
        usual = family.calibration_phase(*size)
        forward = forward_seconds(usual, (2 * images,))[2 * images]
        found[name] += 1e3 * family.sampler.steps * forward / images
        if stage is Stage.DECODER:
            latent = tensors.from_torch(torch.zeros(usual.shape))
            request = decoder_pb2.DecodeLatentsRequest(latents=latent)
            [movq] = family.decode_latents(request)
            found[name] += 1e3 * forward_seconds(movq, (1,))[1]
    return dict(found)
