"""What an attacker sends: requests that ask for little and cost much, and snapshots that lie."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import grpc.aio
import numpy as np
from PIL import Image

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc, encoders_pb2, encoders_pb2_grpc
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1.sampling_pb2 import Checkpoint
from kandinsky.wire import tensors

SIDE = 4096
"""Pixels of the largest images that are decoded, both sides."""
PROMPTS = 2_000_000
MESSAGE_BYTES = 63 * 2**20
SMALL: Mapping[str, int] = {"height": 128, "width": 128, "steps": 2}
"""Settings with which the stages have little to do, so that the gateway's own cost shows."""


def masks(model: str) -> bytes:
    """An Inpaint request of 64 masks, each a file of a few kB and 16.8 million pixels."""
    file = _png(Image.new("L", (SIDE, SIDE), 255))
    request = generation.InpaintRequest(model=model, prompts=["a"], masks=[{"encoded": file}] * 64)
    request.image.encoded = _png(Image.new("RGB", (128, 128), "red"))
    return request.SerializeToString()


def variation(model: str) -> bytes:
    """A Variation request of one image: a file of some 70 kB and 16.8 million pixels."""
    image = generation.InputImage(encoded=_png(Image.new("RGB", (SIDE, SIDE), "red")))
    return generation.VariationRequest(model=model, image=image, settings=SMALL).SerializeToString()


def prompts(model: str) -> bytes:
    """A TextToImage request of two million prompts."""
    return generation.TextToImageRequest(model=model, prompts=["a"] * PROMPTS).SerializeToString()


def message(model: str) -> bytes:
    """A TextToImage request of 63 MiB."""
    latents = tensors.encode(np.zeros(MESSAGE_BYTES // 4, np.float32))
    return generation.TextToImageRequest(
        model=model, prompts=["a"], latents=latents
    ).SerializeToString()


def unread(model: str) -> bytes:
    """A TextToImage request whose answer, 192 KiB of floats, waits for its reader."""
    settings = generation.GenerationSettings(
        **{**SMALL, "steps": 1}, prior_steps=2, output_format="OUTPUT_FORMAT_FLOAT_PIXELS"
    )
    return generation.TextToImageRequest(
        model=model, prompts=["a"], settings=settings
    ).SerializeToString()


async def lying_snapshots(channel: grpc.aio.Channel, entry: CatalogEntry) -> list[bytes]:
    """Decode requests that resume from snapshots which no job can have left.

    Args:
        channel: to the stages' proxy.
        entry: the model; its encoders and decoder are asked once, for an honest snapshot.
    """
    encoders: Any = encoders_pb2_grpc.EncoderServiceStub(channel)  # type: ignore[no-untyped-call]
    decoder: Any = decoder_pb2_grpc.DecoderServiceStub(channel)  # type: ignore[no-untyped-call]
    encoded = await encoders.EncodeText(
        encoders_pb2.EncodeTextRequest(texts=["a"]),
        metadata=(("application", entry.application(Stage.ENCODERS)),),
    )
    request = decoder_pb2.DecodeRequest()
    request.conditioning.image_embed.CopyFrom(encoded.zero_image_embed)
    request.sampling.MergeFrom(
        type(request.sampling)(steps=50, guidance_scale=1, seed=1, scheduler="dpm-solver++")
    )
    request.canvas.height = request.canvas.width = 128
    request.canvas.noise.SetInParent()
    metadata = (("application", entry.application(Stage.DECODER)),)
    async for event in decoder.Decode(request, metadata=metadata):
        if event.HasField("checkpoint"):
            request.resume_from.CopyFrom(event.checkpoint)
    lies = []
    for lie in _LIES:
        lying = decoder_pb2.DecodeRequest()
        lying.CopyFrom(request)
        lie(lying.resume_from)
        lies.append(lying.SerializeToString())
    return lies


def _step_out_of_range(snapshot: Checkpoint) -> None:
    snapshot.step = 2**31 - 1


def _phase_out_of_range(snapshot: Checkpoint) -> None:
    snapshot.phase = 7


def _latents_of_another_shape(snapshot: Checkpoint) -> None:
    snapshot.latents.CopyFrom(tensors.encode(np.zeros((4, 3, 5), np.float32)))


def _generator_of_noise(snapshot: Checkpoint) -> None:
    snapshot.generator_state.data = bytes(len(snapshot.generator_state.data))


def _scheduler_state_of_another_shape(snapshot: Checkpoint) -> None:
    for entry in snapshot.scheduler_state:
        entry.tensor.CopyFrom(tensors.encode(np.zeros((2, 2), np.float32)))


def _scheduler_state_with_endless_index(snapshot: Checkpoint) -> None:
    snapshot.scheduler_state.add(name="model_outputs." + "9" * 5000)


_LIES: tuple[Callable[[Checkpoint], None], ...] = (
    _step_out_of_range,
    _phase_out_of_range,
    _latents_of_another_shape,
    _generator_of_noise,
    _scheduler_state_of_another_shape,
    _scheduler_state_with_endless_index,
)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9)
    return file.getvalue()
