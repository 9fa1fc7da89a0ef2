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
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.v1.sampling_pb2 import Snapshot
from kandinsky.v1.settings_pb2 import DecoderSettings, OutputSettings, PriorSettings
from kandinsky.wire import tensors

SIDE = 4096
"""Pixels of the largest images that are decoded, both sides."""
PROMPTS = 2_000_000
MESSAGE_BYTES = 63 * 2**20
SMALL: Mapping[str, int] = {"height": 128, "width": 128, "steps": 2}
"""Decoder settings with which the stages have little to do, so that the gateway's cost shows."""
TEXT: Any = {"text": {"prompts": ["a"]}}


def masks(model: str) -> bytes:
    """A request to inpaint under 64 masks, each a file of a few kB and 16.8 million pixels."""
    image = {"encoded": _png(Image.new("RGB", (128, 128), "red"))}
    mask = {"encoded": _png(Image.new("L", (SIDE, SIDE), 255))}
    canvas: Any = {"inpaint": {"images": [image], "masks": [mask] * 64}}
    return GenerateRequest(model=model, guide=TEXT, canvas=canvas).SerializeToString()


def variation(model: str) -> bytes:
    """A request to vary one image: a file of some 70 kB and 16.8 million pixels."""
    image = {"encoded": _png(Image.new("RGB", (SIDE, SIDE), "red"))}
    guide: Any = {"image": {"images": [image]}}
    return GenerateRequest(
        model=model, guide=guide, decoder=DecoderSettings(**SMALL)
    ).SerializeToString()


def prompts(model: str) -> bytes:
    """A request of two million prompts."""
    guide: Any = {"text": {"prompts": ["a"] * PROMPTS}}
    return GenerateRequest(model=model, guide=guide).SerializeToString()


def message(model: str) -> bytes:
    """A request of 63 MiB."""
    latents = tensors.encode(np.zeros(MESSAGE_BYTES // 4, np.float32))
    return GenerateRequest(
        model=model, guide=TEXT, decoder=DecoderSettings(latents=latents)
    ).SerializeToString()


def unread(model: str) -> bytes:
    """A request whose answer, 192 KiB of floats, waits for its reader."""
    return GenerateRequest(
        model=model,
        guide=TEXT,
        prior=PriorSettings(steps=2),
        decoder=DecoderSettings(height=128, width=128, steps=1),
        output=OutputSettings(format="OUTPUT_FORMAT_FLOAT_PIXELS"),
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
    request.start.height = request.start.width = 128
    request.start.noise.SetInParent()
    metadata = (("application", entry.application(Stage.DECODER)),)
    async for event in decoder.Decode(request, metadata=metadata):
        if event.HasField("snapshot"):
            request.resume_from.CopyFrom(event.snapshot)
    lies = []
    for lie in _LIES:
        lying = decoder_pb2.DecodeRequest()
        lying.CopyFrom(request)
        lie(lying.resume_from)
        lies.append(lying.SerializeToString())
    return lies


def _step_out_of_range(snapshot: Snapshot) -> None:
    snapshot.step = 2**31 - 1


def _phase_out_of_range(snapshot: Snapshot) -> None:
    snapshot.phase = 7


def _latents_of_another_shape(snapshot: Snapshot) -> None:
    snapshot.latents.CopyFrom(tensors.encode(np.zeros((4, 3, 5), np.float32)))


def _generator_of_noise(snapshot: Snapshot) -> None:
    snapshot.generator_state.data = bytes(len(snapshot.generator_state.data))


def _sampler_state_of_another_shape(snapshot: Snapshot) -> None:
    for entry in snapshot.sampler_state:
        entry.tensor.CopyFrom(tensors.encode(np.zeros((2, 2), np.float32)))


def _sampler_state_with_endless_index(snapshot: Snapshot) -> None:
    snapshot.sampler_state.add(name="model_outputs." + "9" * 5000)


_LIES: tuple[Callable[[Snapshot], None], ...] = (
    _step_out_of_range,
    _phase_out_of_range,
    _latents_of_another_shape,
    _generator_of_noise,
    _sampler_state_of_another_shape,
    _sampler_state_with_endless_index,
)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9)
    return file.getvalue()
