"""Which request-level batching is the baseline: some are tried, the fastest is kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.batched_app import Batching, arguments
from benchmarks.contest import Kind, Side, Turn, batched_side, fastest, play
from benchmarks.serve_apps import serving_apps
from benchmarks.setup import Say, Setup
from benchmarks.workload import Picture

BUILDER = "benchmarks.batched_app:build"
TRIAL_ROUNDS = 2
WARM_UP = 8


def candidates(setup: Setup, concurrency: int) -> list[Batching]:
    """What is tried; a batch that may be larger gets longer to fill."""
    most = setup.bare_threads[-1]
    if setup.quick:
        return [Batching(most, 8, 0.01), Batching(most, 16, 0.02)]
    tried = [
        Batching(most, 4, 0.01),
        Batching(most, 8, 0.01),
        Batching(most, 16, 0.01),
        Batching(most, 16, 0.05),
        Batching(most, 32, 0.05),
        Batching(1, 16, 0.05),
    ]
    return [one for one in tried if one.max_batch_size <= concurrency]


def best_batching(
    setup: Setup, pictures: Sequence[Picture], concurrency: int, say: Say
) -> Batching:
    """The fastest at a concurrency; the candidates stand side by side, and take turns."""
    tried = {f"batching-{i}": one for i, one in enumerate(candidates(setup, concurrency))}
    say(f"trying {len(tried)} settings of request-level batching")
    applications = {name: _arguments(setup, batching) for name, batching in tried.items()}
    with serving_apps(BUILDER, applications) as address:
        sides = [batched_side(name, address, name) for name in tried]
        for side in sides:
            side.round(pictures[:WARM_UP], WARM_UP)
        turn = Turn(concurrency, pictures)
        rounds = play(sides, [turn], TRIAL_ROUNDS, lambda _: None)
    best = tried[fastest(sides, Kind.BATCHED, rounds, concurrency).name]
    say(f"kept {best}")
    return best


@contextmanager
def batched(setup: Setup, batching: Batching) -> Iterator[Side]:
    """The baseline, standing."""
    with serving_apps(BUILDER, {"batched": _arguments(setup, batching)}) as address:
        yield batched_side(f"{Kind.BATCHED}, {batching.threads} thread(s)", address, "batched")


def _arguments(setup: Setup, batching: Batching) -> dict[str, object]:
    return arguments(setup.entry.name, [str(folder) for folder in setup.folders], batching)
