"""Which sides take part, and the reasons of those that cannot."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from benchmarks.full_size.bare_side import BareSide, pipeline
from benchmarks.full_size.networks import Networks
from benchmarks.full_size.plan import EAGER, RUNTIMES, SETTINGS, Plan
from benchmarks.full_size.side import Embeds, Side

BASELINE = "bare, eager, in sequence"
T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """What did not work, in a sentence."""

    reason: str


def attempt(work: Callable[[], T]) -> T | Failure:
    """What the work gives, or its Failure: what others' code raises is one of the figures."""
    try:
        return work()
    except ImportError as error:
        return Failure(f"not measured: {error}")
    except Exception as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        sentence = " ".join(str(error).split())
        return Failure(f"failed: {type(error).__name__}: {sentence[:160]}")


@dataclass(frozen=True)
class Entry:
    """One side, or why there is none."""

    name: str
    group: str
    """(a) the bare pipeline as it comes, (b) with settings or in batches, (c) the engine."""
    side: Side | Failure
    at_once: int
    """Images in a batch, or jobs that are open."""
    images: int
    """A round."""


class Contestants:
    """The pipelines and the engine's decoders, each made once for all sizes."""

    def __init__(self, plan: Plan, networks: Networks) -> None:
        self._plan = plan
        width = networks.unet.config.encoder_hid_dim
        self._embeds = Embeds.random(width, networks.latents(1, min(plan.pixels)))
        settings = {"eager": EAGER} | {name: SETTINGS[name] for name in plan.settings}
        self._pipelines = {
            name: attempt(partial(pipeline, networks, setting))
            for name, setting in settings.items()
        }
        self._decoders = {
            name: attempt(partial(_decoder, networks, RUNTIMES[name])) for name in plan.runtimes
        }

    def entries(self, pixels: int) -> list[Entry]:
        """The sides of an image size; the baseline is first.

        The last runtime takes part at every concurrency, the others beside a batch.
        """
        plan = self._plan
        found = []
        for batch in (1, plan.batch):
            images = plan.sequence_images if batch == 1 else batch * plan.turns
            for key, made in self._pipelines.items():
                name = f"bare, {key}, " + ("in sequence" if batch == 1 else f"batch of {batch}")
                side = self._or_failure(made, lambda made, batch=batch: self._bare(made, batch))
                found.append(Entry(name, "a" if name == BASELINE else "b", side, batch, images))
        for key, made in self._decoders.items():
            is_last = key == plan.runtimes[-1]
            for open_ in plan.concurrencies if is_last else (plan.batch,):
                side = self._or_failure(made, partial(self._engine, open_, pixels))
                images = open_ * max(plan.turns, 2 if open_ == 1 else 1)
                found.append(Entry(f"engine, {key}, {open_} open", "c", side, open_, images))
        return found

    def _or_failure(self, made: T | Failure, start: Callable[[T], Side]) -> Side | Failure:
        return made if isinstance(made, Failure) else attempt(partial(start, made))

    def _bare(self, made: object, batch: int) -> Side:
        return BareSide(made, self._embeds, self._plan.guidance, batch)

    def _engine(self, open_: int, pixels: int, made: object) -> Side:
        from benchmarks.full_size.engine_side import EngineSide

        return EngineSide(made, self._embeds, self._plan.guidance, open_, pixels)


def _decoder(networks: Networks, options: dict[str, bool]) -> object:
    from benchmarks.full_size.engine_side import decoder

    return decoder(networks, options)
