"""A gateway that records requests and answers with prepared events."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from google.protobuf import duration_pb2
from grpc_status import rpc_status

from kandinsky.v1 import (
    generation_pb2,
    generation_pb2_grpc,
    models_pb2,
    sampling_pb2,
    settings_pb2,
)
from kandinsky.wire import images, tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError, to_status

RED = np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)


class RecordingGateway(generation_pb2_grpc.GenerationServiceServicer):
    """Answers every request with `events`, or with `error` where one is set."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.time_left: list[float | None] = []
        self.events: Sequence[generation_pb2.GenerateEvent] = [image(0, seed=7)]
        self.error: KandinskyError | None = None
        self.asked = threading.Event()
        """Set once a request has come."""
        self.silent = False
        """Whether it answers nothing before the caller has gone."""
        self.models = [
            models_pb2.Model(
                name="shapes",
                description="Draws shapes.",
                family="kandinsky-2-2",
                guides=[models_pb2.GUIDE_KIND_TEXT, models_pb2.GUIDE_KIND_TEXT_DIFF],
                canvases=[models_pb2.CANVAS_KIND_NOISE, models_pb2.CANVAS_KIND_INPAINT],
                control=models_pb2.CONTROL_SUPPORT_NONE,
                height=128,
                width=128,
                samplers=[models_pb2.Sampler(group="decoder", steps=25)],
            )
        ]
        self.address = ""

    def Generate(
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[generation_pb2.GenerateEvent]:
        self._record(request, context)
        yield from self.events
        self._fail(context)

    def GenerateImages(
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> generation_pb2.GenerateResponse:
        self._record(request, context)
        self._fail(context)
        return generation_pb2.GenerateResponse(estimate=estimate())

    def _record(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.time_left.append(context.time_remaining())
        self.asked.set()
        self._wait(context)

    def _fail(self, context: grpc.ServicerContext) -> None:
        if self.error is not None:
            context.abort_with_status(rpc_status.to_status(to_status(self.error)))

    def ListModels(
        self, request: models_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> models_pb2.ListModelsResponse:
        self._wait(context)
        return models_pb2.ListModelsResponse(models=self.models)

    def _wait(self, context: grpc.ServicerContext) -> None:
        gone = threading.Event()
        if self.silent and context.add_callback(gone.set):
            gone.wait()


@contextmanager
def serving() -> Iterator[RecordingGateway]:
    gateway = RecordingGateway()
    server = grpc.server(ThreadPoolExecutor(2), options=OPTIONS)
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(gateway, server)
    gateway.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield gateway
    finally:
        server.stop(None).wait()


def queued(index: int, position: int) -> generation_pb2.GenerateEvent:
    return generation_pb2.GenerateEvent(
        image_index=index,
        queued=sampling_pb2.Queued(position=position, wait=duration_pb2.Duration(seconds=2)),
    )


def preview(index: int, step: int) -> generation_pb2.GenerateEvent:
    """Pixels of a red image, which took 2 ms."""
    preview = sampling_pb2.Preview(step=step, pixels=tensors.encode(RED))
    preview.cost.FromMilliseconds(2)
    return generation_pb2.GenerateEvent(image_index=index, preview=preview)


def progress(index: int, phase: str, step: int, steps: int) -> generation_pb2.GenerateEvent:
    progress = sampling_pb2.Progress(phase=phase, step=step, steps=steps)
    progress.remaining.FromMilliseconds(1500)
    return generation_pb2.GenerateEvent(image_index=index, progress=progress)


def image(index: int, seed: int) -> generation_pb2.GenerateEvent:
    """A red PNG of 6 by 4 pixels."""
    image = generation_pb2.GeneratedImage(
        index=index,
        seed=seed,
        format=settings_pb2.OUTPUT_FORMAT_PNG,
        encoded=images.encode(RED, "png"),
        decoder_stats=sampling_pb2.SamplingStats(
            forwards=25, shared_forwards=5, peak_rows=4, resumes=2, steps_redone=7
        ),
    )
    image.elapsed.FromMilliseconds(2500)
    image.decoder_stats.running.FromMilliseconds(500)
    return generation_pb2.GenerateEvent(image_index=index, image=image)


def estimate() -> generation_pb2.CostEstimate:
    """Of one image, whose decoder was never measured."""
    cost = generation_pb2.CostEstimate(
        images=1,
        stages=[
            generation_pb2.StageCost(stage="prior", denoise_cost=50),
            generation_pb2.StageCost(stage="decoder", denoise_cost=12_800),
        ],
    )
    cost.least.FromMilliseconds(2500)
    cost.stages[0].running.FromMilliseconds(500)
    cost.stages[0].queued.FromMilliseconds(0)
    return cost


def estimated() -> generation_pb2.GenerateEvent:
    """The event of `estimate`."""
    return generation_pb2.GenerateEvent(estimate=estimate())


def tensor(index: int, format: settings_pb2.OutputFormat, array: tensors.Array) -> Any:
    image = generation_pb2.GeneratedImage(index=index, format=format, tensor=tensors.encode(array))
    return generation_pb2.GenerateEvent(image_index=index, image=image)
