"""Stages that record their calls and answer small well-formed tensors."""

import asyncio
import itertools
from collections import defaultdict, deque
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
from grpc_status import rpc_status

from kandinsky.v1 import (
    decoder_pb2,
    decoder_pb2_grpc,
    encoders_pb2,
    encoders_pb2_grpc,
    prior_pb2,
    prior_pb2_grpc,
    sampling_pb2,
    tensor_pb2,
)
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, invalid, to_status


@dataclass
class StageCall:
    """One call as it arrived."""

    method: str
    request: object
    metadata: dict[str, str]


@dataclass
class Hold:
    """A method that does not answer: notes when it was called and when its call was cancelled."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Wait:
    """A method whose jobs wait: it reports so many seconds, and nothing more until admitted."""

    seconds: float
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    admitted: asyncio.Event = field(default_factory=asyncio.Event)

    def queued(self):
        queued = sampling_pb2.Queued(position=1)
        queued.wait.FromNanoseconds(round(self.seconds * 1e9))
        return queued


class FakeStages(
    encoders_pb2_grpc.EncoderServiceServicer,
    prior_pb2_grpc.PriorServiceServicer,
    decoder_pb2_grpc.DecoderServiceServicer,
):
    """All three stages behind one port, as behind Serve's proxy.

    Every tensor that it makes has bytes of its own, by which `name` finds where it came from.
    """

    def __init__(self, address="127.0.0.1:0"):
        self.calls: list[StageCall] = []
        self.failures: dict[str, deque[KandinskyError | grpc.StatusCode]] = defaultdict(deque)
        self.dies_at_work: dict[str, deque[grpc.StatusCode]] = defaultdict(deque)
        self.breaks_midway: dict[str, int] = {}
        self.ends_midway: dict[str, int] = {}
        self.breaks_at_the_end: set[str] = set()
        self.holds: dict[str, Hold] = {}
        self.waits: dict[str, Wait] = {}
        self.stats: dict[str, sampling_pb2.SamplingStats] = {}
        """The stats of jobs, by method."""
        self._arrivals = asyncio.Condition()
        self.readers = ("prior",)
        self.previews = 0
        self.made: dict[str, tensor_pb2.Tensor] = {}
        """The latest tensor of each name."""
        self._names: dict[bytes, str] = {}
        self._numbers = itertools.count(1)
        self._server = grpc.aio.server(options=OPTIONS)
        encoders_pb2_grpc.add_EncoderServiceServicer_to_server(self, self._server)
        prior_pb2_grpc.add_PriorServiceServicer_to_server(self, self._server)
        decoder_pb2_grpc.add_DecoderServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"

    async def __aenter__(self):
        await self._server.start()
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def stop(self):
        """Disappear, as a proxy does that is killed."""
        await self._server.stop(None)

    async def called(self, method, times):
        """Return the calls of a method, once there are so many."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self._called(method)) >= times)
        return self._called(method)

    def _called(self, method):
        return [call for call in self.calls if call.method == method]

    def name(self, conditioning, part):
        """Where a part of a conditioning came from; None where it is absent."""
        if not conditioning.HasField(part):
            return None
        return self._names.get(getattr(conditioning, part).data, "a blend")

    def named(self, name, shape=(4,)):
        """A tensor that `name` knows."""
        values = np.random.default_rng(next(self._numbers)).standard_normal(shape)
        tensor = tensors.encode(values.astype(np.float32))
        self._names[tensor.data] = name
        self.made[name] = tensor
        return tensor

    async def EncodeText(self, request, context):
        if not request.texts:  # the health probe
            await _refuse(context, invalid("texts", "is empty"))
        await self._arrive("EncodeText", request, context)
        response = encoders_pb2.EncodeTextResponse(zero_image_embed=self.named("zero"))
        for text in request.texts:
            encoding = response.encodings.add()
            for reader in self.readers:
                part, name = getattr(encoding, reader), f"text {text!r}"
                part.text_states.CopyFrom(self.named(name, (2, 4)))
                part.text_mask.CopyFrom(tensors.encode(np.array([True, bool(text)])))
                part.text_embed.CopyFrom(self.named(name))
        return response

    async def EncodeImage(self, request, context):
        await self._arrive("EncodeImage", request, context)
        level = request.pixels.data[0]
        return encoders_pb2.EncodeImageResponse(
            image_embed=self.named(f"image {level}"),
            zero_image_embed=self.named("zero"),
            image_states=self.named(f"states of image {level}"),
            blank_image_states=self.named("blank"),
        )

    async def SampleEmbedding(self, request, context):
        if not request.HasField("sampling"):
            await _refuse(context, invalid("sampling", "is missing"))
        await self._arrive("SampleEmbedding", request, context)
        yield prior_pb2.SampleEmbeddingEvent(queued=sampling_pb2.Queued(position=0))
        if wait := self.waits.get("SampleEmbedding"):
            yield prior_pb2.SampleEmbeddingEvent(queued=wait.queued())
            wait.reported.set()
            await wait.admitted.wait()
        await self._die_at_work("SampleEmbedding", request, context)
        yield prior_pb2.SampleEmbeddingEvent(
            progress=sampling_pb2.Progress(phase="prior", step=1, steps=request.sampling.steps)
        )
        if await self._break_midway("SampleEmbedding", context):
            return
        text = self.name(request.conditioning, "text_embed")
        yield prior_pb2.SampleEmbeddingEvent(
            embedding=prior_pb2.SampledEmbedding(
                image_embed=self.named(f"image of {text}"),
                stats=self._stats("SampleEmbedding", request),
            )
        )
        await self._break_at_the_end("SampleEmbedding", context)

    async def Decode(self, request, context):
        if not request.HasField("sampling"):
            await _refuse(context, invalid("sampling", "is missing"))
        await self._arrive("Decode", request, context)
        if wait := self.waits.get("Decode"):
            yield decoder_pb2.DecodeEvent(queued=wait.queued())
            wait.reported.set()
            await wait.admitted.wait()
        yield decoder_pb2.DecodeEvent(queued=sampling_pb2.Queued(position=0))
        await self._die_at_work("Decode", request, context)
        if not request.HasField("resume_from"):
            steps = request.sampling.steps
            yield decoder_pb2.DecodeEvent(
                progress=sampling_pb2.Progress(phase="denoise", step=1, steps=steps)
            )
        for step in range(1, self.previews + 1):
            yield decoder_pb2.DecodeEvent(preview=sampling_pb2.Preview(step=step))
        yield decoder_pb2.DecodeEvent(snapshot=sampling_pb2.Snapshot(step=1))
        if await self._break_midway("Decode", context):
            return
        shape = (request.start.height, request.start.width, 3)
        dtype = np.uint8
        if request.output == decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS:
            dtype = np.float32
        elif request.output == decoder_pb2.DECODE_OUTPUT_LATENTS:
            shape, dtype = (4, 8, 8), np.float32
        pixels = np.full(shape, request.sampling.seed % 251, dtype)
        yield decoder_pb2.DecodeEvent(
            image=decoder_pb2.DecodedImage(
                tensor=tensors.encode(pixels),
                stats=self._stats("Decode", request),
            )
        )
        await self._break_at_the_end("Decode", context)

    def _stats(self, method, request):
        usual = sampling_pb2.SamplingStats(forwards=request.sampling.steps)
        return self.stats.get(method, usual)

    async def _arrive(self, method, request, context):
        self.calls.append(StageCall(method, request, dict(context.invocation_metadata())))
        async with self._arrivals:
            self._arrivals.notify_all()
        if self.failures[method]:
            failure = self.failures[method].popleft()
            if isinstance(failure, KandinskyError):
                await _refuse(context, failure)
            await context.abort(failure, "Traceback: the actor died unexpectedly")
        if hold := self.holds.get(method):
            hold.asked.set()
            try:
                await hold.released.wait()
            except asyncio.CancelledError:
                hold.cancelled.set()
                raise

    async def _die_at_work(self, method, request, context):
        if self.dies_at_work[method]:
            await context.abort(self.dies_at_work[method].popleft(), "The actor died unexpectedly")

    async def _break_midway(self, method, context):
        if self.breaks_midway.get(method, 0):
            self.breaks_midway[method] -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "The actor died unexpectedly")
        if self.ends_midway.get(method, 0):
            self.ends_midway[method] -= 1
            return True
        return False

    async def _break_at_the_end(self, method, context):
        if method in self.breaks_at_the_end:
            await context.abort(grpc.StatusCode.INTERNAL, "The actor died unexpectedly")


async def _refuse(context, error):
    await context.abort_with_status(rpc_status.to_status(to_status(error)))
