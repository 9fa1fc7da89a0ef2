"""Which sides take part, and the reasons of those that cannot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

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


def attempt(work: Callable[[], T | Failure]) -> T | Failure:
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
        """The sides of an image size; the baseline is first."""
        return [
            *(self._bare(key, batch) for batch in (1, self._plan.batch) for key in self._pipelines),
            *(
                self._engine(key, pixels, concurrency)
                for key in self._decoders
                for concurrency in self._concurrencies(key)
            ),
        ]

    def _concurrencies(self, runtime: str) -> tuple[int, ...]:
        """All for the last runtime; the others are there to compare with a batch."""
        is_last = runtime == self._plan.runtimes[-1]
        return self._plan.concurrencies if is_last else (self._plan.batch,)

    def _bare(self, key: str, batch: int) -> Entry:
        name = f"bare, {key}, " + ("in sequence" if batch == 1 else f"batch of {batch}")
        group = "a" if name == BASELINE else "b"
        images = self._plan.sequence_images if batch == 1 else batch * self._plan.turns
        found = self._pipelines[key]
        if isinstance(found, Failure):
            return Entry(name, group, found, batch, images)
        side = BareSide(found, self._embeds, self._plan.guidance, batch)
        return Entry(name, group, side, batch, images)

    def _engine(self, key: str, pixels: int, concurrency: int) -> Entry:
        def start() -> Side | Failure:
            found = self._decoders[key]
            if isinstance(found, Failure):
                return found
            from benchmarks.full_size.engine_side import EngineSide

            return EngineSide(found, self._embeds, self._plan.guidance, concurrency, pixels)

        name = f"engine, {key}, {concurrency} open"
        images = concurrency * max(self._plan.turns, 2 if concurrency == 1 else 1)
        return Entry(name, "c", attempt(start), concurrency, images)


def _decoder(networks: Networks, options: Mapping[str, bool]) -> Any:
    from benchmarks.full_size.engine_side import decoder

    return decoder(networks, options)
