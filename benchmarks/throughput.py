"""Images a second and latency beside both baselines: uniform load, mixed load, one at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.contest import BARE, Side, Sides, Turn, play, sides, standings
from benchmarks.report import Report, bars, cell, lines
from benchmarks.setup import Say, Setup
from benchmarks.workload import MIXED_GUIDANCE, MIXED_SIZES, MIXED_STEPS, ImageTask, mixed, plain

TASKS = 180
"""In the list that every side takes its images from, again and again."""


def uniform(setup: Setup, say: Say) -> Report:
    """Requests that differ in prompt and seed alone."""
    tasks = plain(setup.entry, TASKS)
    steps = f"{tasks[0].size} pixels, {tasks[0].steps} steps, guidance {tasks[0].guidance_scale:g}"
    return _measured(setup, say, tasks, setup.concurrencies, f"Uniform requests: {steps}.")


def mixed_load(setup: Setup, say: Say) -> Report:
    """Requests of three canvases, two sizes, 10 to 50 steps and three guidance scales."""
    tasks = mixed(TASKS)
    flows = ", ".join(f"{count} {flow}" for flow, count in Counter(t.flow for t in tasks).items())
    sizes, guidance = (" or ".join(f"{x:g}" for x in xs) for xs in (MIXED_SIZES, MIXED_GUIDANCE))
    about = (
        f"Mixed requests: {flows} of {TASKS}; {sizes} pixels, {MIXED_STEPS[0]} to "
        f"{MIXED_STEPS[-1]} steps, guidance {guidance}. Request batching calls the prior once for "
        "a batch and the decoder once for each group of equal parameters; inpainted images go "
        "alone, since the reference blends a batch of them with its first."
    )
    return _measured(setup, say, tasks, setup.concurrencies, about)


def overhead(setup: Setup, say: Say) -> Report:
    """One request at a time."""
    return _measured(setup, say, plain(setup.entry, TASKS), (1,), "One uniform request at a time.")


def _measured(
    setup: Setup, say: Say, tasks: Sequence[ImageTask], concurrencies: Sequence[int], about: str
) -> Report:
    with sides(setup, tasks, concurrencies, say) as found:
        say("warming up")
        for side in found.all:
            for open_ in (side.processes,) if side.kind is BARE else concurrencies:
                side.images(tasks[: max(6, open_)])
        differs = found.difference(tasks[:6])
        turns = [turn for side in found.all for turn in _turns(setup, side, tasks, concurrencies)]
        turns.sort(key=lambda turn: turn.open)
        rounds = play(turns, 1 if setup.quick else 2 + (len(concurrencies) == 1), say)
    rows = standings(found.all, rounds)
    is_one = tuple(concurrencies) == (1,)
    drawn = [row for row in rows if not row["side"].startswith(BARE)]
    return Report(
        title="Latency, one request at a time" if is_one else "Throughput",
        rows=rows,
        note=f"{about} {_note(setup, found, differs)}",
        plot=bars(rows, "side", "p50, s") if is_one else lines(drawn, "side", "open", "images/s"),
        raw=[
            {"side": name, "open": open_, "rounds": [asdict(one) for one in own]}
            for (name, open_), own in rounds.items()
        ],
    )


def _turns(
    setup: Setup, side: Side, tasks: Sequence[ImageTask], concurrencies: Sequence[int]
) -> list[Turn]:
    """Larger concurrencies take longer until images come evenly."""
    scale = 0.3 if setup.quick else 1.0
    if side.kind is BARE:
        counts = [side.processes] if side.processes == 1 or max(concurrencies) > 1 else []
        return [Turn(side, open_, tasks, 8 * scale) for open_ in counts]
    return [Turn(side, open_, tasks, (8 + open_ / 4) * scale) for open_ in concurrencies]


def _note(setup: Setup, found: Sides, differs: dict[str, int]) -> str:
    kept = "; ".join(f"{open_} open: {setting}" for open_, setting in found.kept.items())
    options = [f"{stage} {how or 'as it comes'}" for stage, how in found.runtime.items()]
    tuned = f"with the runtime options {', '.join(options)}" if options else "as it comes"
    compiling = (
        "nobody compiles"
        if setup.eager
        else "all may compile, the bare pipelines under uniform load alone"
    )
    levels = ", ".join(f"{name} {cell(most)}" for name, most in differs.items())
    return (
        "Same weights, dtype, PNG, allocator setting and autoencoder layout on every side; "
        f"{compiling}. So many requests are open at any time; a window begins once as many images "
        "have come, and an image counts by the part of its time in it. Throughput and ratios are "
        "medians over interleaved rounds. Times bare: over the fastest bare side with no more "
        "processes than requests are open. Times batching: over the same pipelines behind the same "
        "Ray Serve proxy with @serve.batch, as many replicas as decoders, one thread each, each "
        f"time at the setting that was the fastest in a trial: {kept}. This system ran {tuned}. "
        "Exact and balanced are its presets: exact saves no work, balanced does at a loss that "
        "docs/quality.md states. Peak rows: the most rows in one decoder forward, mean over the "
        f"images; a guided image has two. Levels of 255 from the bare images, at most: {levels}."
    )
