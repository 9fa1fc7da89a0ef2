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
    """One side of a point, or why there is none."""

    name: str
    group: str
    """(a) the bare pipeline as it comes, (b) with settings or in batches, (c) the engine."""
    side: Side | Failure
    images: int
    """Images a round."""


class Contestants:
    """The pipelines and the engine's decoder, each made once for all points."""

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
            name: attempt(partial(_decoder, networks, options))
            for name, options in RUNTIMES.items()
        }

    def entries(self, pixels: int, concurrency: int) -> list[Entry]:
        """The sides of a point; the baseline is first."""
        several = concurrency * self._plan.turns
        return [
            self._bare(BASELINE, "a", "eager", 1, self._plan.sequence_images),
            *(
                self._bare(f"bare, {key}, batch of {concurrency}", "b", key, concurrency, several)
                for key in self._pipelines
                if (key, concurrency) != ("eager", 1)  # that is the baseline
            ),
            *(
                Entry(
                    f"engine, {key}, {concurrency} open",
                    "c",
                    attempt(partial(self._engine, key, pixels, concurrency)),
                    several,
                )
                for key in self._decoders
            ),
        ]

    def _bare(self, name: str, group: str, key: str, batch: int, images: int) -> Entry:
        found = self._pipelines[key]
        if isinstance(found, Failure):
            return Entry(name, group, found, images)
        side = BareSide(found, self._embeds, self._plan.guidance, batch)
        return Entry(name, group, side, images)

    def _engine(self, key: str, pixels: int, concurrency: int) -> Side | Failure:
        found = self._decoders[key]
        if isinstance(found, Failure):
            return found
        from benchmarks.full_size.engine_side import EngineSide

        return EngineSide(found, self._embeds, self._plan.guidance, concurrency, pixels)


def _decoder(networks: Networks, options: Mapping[str, bool]) -> Any:
    from benchmarks.full_size.engine_side import decoder

    return decoder(networks, options)
