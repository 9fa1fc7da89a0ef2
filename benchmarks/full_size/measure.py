"""The measurement: every side in turn, round after round, at each size and concurrency."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.figures import Round
from benchmarks.full_size.accelerator import synchronize
from benchmarks.full_size.bare_side import BareSide, pipeline
from benchmarks.full_size.networks import Networks
from benchmarks.full_size.plan import EAGER, RUNTIMES, SETTINGS, Plan
from benchmarks.full_size.side import Embeds, Made, Side
from benchmarks.full_size.steps import Step, step

WARM_UPS = 3
"""A captured graph is compiled, recorded and replayed first; each takes a call."""
BASELINE = "bare, eager, in sequence"
T = TypeVar("T")


@dataclass
class Measured:
    """One side at one image size; round k of one stands beside round k of another."""

    pixels: int
    side: str
    group: str
    """(a) the bare pipeline as it comes, (b) with settings or in batches, (c) the engine."""
    at_once: int
    """Images in a batch, or jobs that are open."""
    images: int
    """A round."""
    rounds: list[Round] = field(default_factory=list)
    warm_up: float = 0.0
    """Seconds until it was warm: compiling, capturing, choosing kernels."""
    failure: str | None = None
    """Why there are no rounds, in a sentence: what others' code raises is one of the figures."""
    difference: tuple[int, float] | None = None
    """Levels, of 255, between the engine's image of seed 0 and the baseline's: most, and mean."""
    step: Step | None = None
    """Of the engine's sides."""

    def attempt(self, work: Callable[[], T]) -> T | None:
        """What the work gives; None where it fails, and from then on."""
        if self.failure:
            return None
        try:
            return work()
        except ImportError as error:
            self.failure = f"not measured: {error}"
        except Exception as error:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.failure = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
        self.rounds = []
        return None


class Measurement:
    """The pipelines and the engine's decoders, each made once for all sizes."""

    def __init__(self, plan: Plan, networks: Networks) -> None:
        self._plan, self._networks = plan, networks
        width = networks.unet.config.encoder_hid_dim
        self._embeds = Embeds.random(width, networks.latents(1, min(plan.pixels)))
        self._pipeline = cache(lambda key: pipeline(networks, SETTINGS.get(key, EAGER)))
        self._decoder = cache(self._made_decoder)

    def run(self) -> Iterator[str | list[Measured]]:
        """Sentences of progress, and the sides of each size once it is measured; baseline first.

        Raises:
            RuntimeError: the baseline failed; any other side's failure is one of its figures.
        """
        plan = self._plan
        for pixels in plan.pixels:
            torch.compiler.reset()  # lets go of the graphs of other sizes
            started = [(one, one.attempt(start)) for one, start in self._contestants(pixels)]
            sides = [(one, side) for one, side in started if side is not None]
            for one, side in sides:
                begun = time.perf_counter()
                for _ in range(WARM_UPS):
                    one.attempt(partial(side.make, one.images, pixels, plan.warm_up_steps))
                one.warm_up = time.perf_counter() - begun
                yield f"{one.side}: {one.failure or f'warm after {one.warm_up:.0f} s'}"
            baseline, bare = started[0]
            if baseline.failure or not isinstance(bare, BareSide):
                raise RuntimeError(f"the baseline {baseline.failure}")
            # With noise drawn as the engine draws it.
            reference = bare.image(0, pixels, plan.steps).astype(int)
            for number in range(plan.rounds):
                yield f"round {number + 1} of {plan.rounds}"
                for one, side in sides:
                    made = self._round(one, side)
                    if made is not None and one.group == "c":
                        apart = np.abs(made.images[0].astype(int) - reference)
                        one.difference = int(apart.max()), float(apart.mean())
            for one, side in sides:
                if one.group == "c" and not one.failure:
                    one.step = step(self._networks, side, one.at_once, pixels)
                side.close()
            yield [one for one, _ in started]

    def _round(self, one: Measured, side: Side) -> Made | None:
        synchronize()
        started = time.perf_counter()
        made = one.attempt(partial(side.make, one.images, one.pixels, self._plan.steps))
        synchronize()
        if made is not None:
            spans = tuple((0.0, each) for each in made.latencies)
            one.rounds.append(Round(time.perf_counter() - started, spans))
        return made

    def _contestants(self, pixels: int) -> Iterator[tuple[Measured, Callable[[], Side]]]:
        """The last runtime takes part at every concurrency, the others beside a batch."""
        plan = self._plan
        for batch in (1, plan.batch):
            images = plan.sequence_images if batch == 1 else batch * plan.turns
            for key in ("eager", *plan.settings):
                name = f"bare, {key}, " + ("in sequence" if batch == 1 else f"batch of {batch}")
                group = "a" if name == BASELINE else "b"
                yield Measured(pixels, name, group, batch, images), partial(self._bare, key, batch)
        for key in plan.runtimes:
            for open_ in plan.concurrencies if key == plan.runtimes[-1] else (plan.batch,):
                images = open_ * max(plan.turns, 2 if open_ == 1 else 1)
                one = Measured(pixels, f"engine, {key}, {open_} open", "c", open_, images)
                yield one, partial(self._engine, key, open_, pixels)

    def _bare(self, key: str, batch: int) -> Side:
        return BareSide(self._pipeline(key), self._embeds, self._plan.guidance, batch)

    def _engine(self, key: str, open_: int, pixels: int) -> Side:
        from benchmarks.full_size.engine_side import EngineSide

        return EngineSide(self._decoder(key), self._embeds, self._plan.guidance, open_, pixels)

    def _made_decoder(self, key: str) -> Any:
        from benchmarks.full_size.engine_side import decoder

        return decoder(self._networks, RUNTIMES[key])
