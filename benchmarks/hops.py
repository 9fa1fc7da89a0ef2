"""What a hop costs by payload: Ray Serve's gRPC proxy beside a plain gRPC server."""

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from rich.table import Table

from benchmarks.child import child
from benchmarks.figures import marginal, paired_medians
from benchmarks.report import columns
from benchmarks.serve_apps import serving_apps
from benchmarks.setup import Say, Setup
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc, encoders_pb2, encoders_pb2_grpc, tensor_pb2
from kandinsky.v1 import sampling_pb2 as sampling
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNARY = "unary call"
STREAM = "stream event"
METADATA = (("application", "echo"),)


@dataclass(frozen=True)
class Hop:
    """What is sent."""

    kind: str
    payload: int
    """Bytes: of request and answer each, or of each event."""

    @property
    def name(self) -> str:
        """For table and plot."""
        return f"{self.kind}, {self.payload / 1000:g} kB"


HOPS = (
    Hop(UNARY, 100),
    Hop(UNARY, 80_000),
    Hop(UNARY, 2_000_000),
    Hop(STREAM, 10_000),
    Hop(STREAM, 150_000),
)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    calls: int
    """Unary calls a round."""
    events: int
    """Events of the one stream of a round."""


FULL = Effort(rounds=9, calls=100, events=200)
QUICK = Effort(rounds=3, calls=20, events=50)


def measure(setup: Setup, say: Say) -> "Hops":
    """One call at a time; the two servers take turns."""
    effort = QUICK if setup.quick else FULL
    say("starting an echo behind Ray Serve, and a plain one")
    with (
        serving_apps("benchmarks.echo:build", {"echo": {}}) as served,
        child("benchmarks.echo") as plain,
    ):
        return Hops(asyncio.run(_measured(served, plain, effort, say)), effort)


async def _measured(served: str, plain: str, effort: Effort, say: Say) -> list["Row"]:
    taken: dict[Hop, tuple[list[list[float]], list[list[float]]]] = {hop: ([], []) for hop in HOPS}
    async with (
        grpc.aio.insecure_channel(served, options=OPTIONS) as through_serve,
        grpc.aio.insecure_channel(plain, options=OPTIONS) as directly,
    ):
        for number in range(effort.rounds + 1):
            say(f"round {number} of {effort.rounds}" if number else "warming up")
            for hop, sides in taken.items():
                for channel, rounds in zip((through_serve, directly), sides, strict=True):
                    seconds = await _round(channel, hop, effort)
                    if number:
                        rounds.append(seconds)
    return [_row(hop, *sides) for hop, sides in taken.items()]


async def _round(channel: grpc.aio.Channel, hop: Hop, effort: Effort) -> list[float]:
    """Seconds of each call, or of each further event of a stream."""
    tensor = tensors.encode(np.zeros(hop.payload, np.uint8))
    if hop.kind == UNARY:
        encoders: Any = encoders_pb2_grpc.EncoderServiceStub(channel)
        return [
            await _timed(encoders.EncodeImage, encoders_pb2.EncodeImageRequest(pixels=tensor))
            for _ in range(effort.calls)
        ]
    one, all_ = [await _streamed(channel, tensor, events) for events in (1, effort.events)]
    return [marginal(all_, one, effort.events)]


async def _streamed(channel: grpc.aio.Channel, tensor: tensor_pb2.Tensor, events: int) -> float:
    decoder: Any = decoder_pb2_grpc.DecoderServiceStub(channel)
    asked = decoder_pb2.DecodeRequest(
        sampling=sampling.Sampling(steps=events), generator_state=tensor
    )
    began = time.perf_counter()
    async for _ in decoder.Decode(asked, metadata=METADATA):
        pass
    return time.perf_counter() - began


async def _timed(method: Any, request: Any) -> float:
    began = time.perf_counter()
    await method(request, metadata=METADATA)
    return time.perf_counter() - began


@dataclass(frozen=True)
class Row:
    """A hop's cost on both sides, medians."""

    hop: Hop
    serve_ms: float
    plain_ms: float
    ratio: float
    rounds_serve_ms: list[float]
    """Median of each round."""
    rounds_plain_ms: list[float]


def _row(hop: Hop, served: list[list[float]], plain: list[list[float]]) -> Row:
    paired = paired_medians(served, plain)
    return Row(
        hop=hop,
        serve_ms=paired.value * 1000,
        plain_ms=paired.baseline * 1000,
        ratio=paired.ratio,
        rounds_serve_ms=[value * 1000 for value in paired.values],
        rounds_plain_ms=[value * 1000 for value in paired.baselines],
    )


@dataclass(frozen=True)
class Hops:
    """Cost of a hop by kind and payload."""

    rows: list[Row]
    effort: Effort

    def table(self) -> Table:
        """A row a kind and payload."""
        names = ("hop", "through Serve's proxy, ms", "plain gRPC, ms", "times the plain one")
        table = columns("Cost of a hop", names)
        for row in self.rows:
            figures = f"{row.serve_ms:.2f}", f"{row.plain_ms:.2f}", f"{row.ratio:.1f}"
            table.add_row(row.hop.name, *figures)
        return table

    def note(self) -> str:
        """How it was measured."""
        return (
            "One call at a time to a servicer that computes nothing, behind Ray Serve's gRPC proxy "
            "and behind a grpc.aio server in a process of its own. A unary call carries its "
            f"payload both ways. A stream sends {self.effort.events} events as fast as it can, "
            "without pauses between them; an event's cost is what each one after the first adds. "
            f"Medians over {self.effort.rounds} interleaved rounds."
        )

    def content(self) -> dict[str, Any]:
        """The rows, with each round's median."""
        return {"rows": [asdict(row) for row in self.rows]}

    def plot(self, axes: "Axes") -> None:
        """Two bars a hop."""
        places = np.arange(len(self.rows))
        for shift, label, values in (
            (-0.2, "through Ray Serve's proxy", [row.serve_ms for row in self.rows]),
            (0.2, "plain gRPC", [row.plain_ms for row in self.rows]),
        ):
            bars = axes.bar(places + shift, values, 0.4, label=label)
            axes.bar_label(bars, fmt="%.2f", fontsize="small")
        axes.set_xticks(places, [row.hop.name.replace(", ", "\n") for row in self.rows])
        axes.set(ylabel="milliseconds, median", title="Cost of a hop", yscale="log")
        axes.legend()
