"""What an attacker sends: requests that ask for little and cost much, and snapshots that lie."""

import io
from collections.abc import Callable
from typing import Any

import grpc.aio
import numpy as np
from PIL import Image

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc, encoders_pb2, encoders_pb2_grpc
from kandinsky.v1.generation_pb2 import GenerateRequest
from kandinsky.v1.sampling_pb2 import Snapshot
from kandinsky.wire import tensors

SIDE = 4096
"""Pixels of the largest images that are decoded, both sides."""
PROMPTS = 2_000_000
MESSAGE_BYTES = 63 * 2**20
SMALL: dict[str, int] = {"height": 128, "width": 128, "steps": 2}
"""Decoder settings with which the stages have little to do, so that the gateway's cost shows."""


def masks(model: str) -> bytes:
    """A request to inpaint under 64 masks, each a file of a few kB and 16.8 million pixels."""
    image = {"encoded": _png(Image.new("RGB", (128, 128), "red"))}
    mask = {"encoded": _png(Image.new("L", (SIDE, SIDE), 255))}
    return _request(model, canvas={"inpaint": {"images": [image], "masks": [mask] * 64}})


def variation(model: str) -> bytes:
    """A request to vary one image: a file of some 70 kB and 16.8 million pixels."""
    image = {"encoded": _png(Image.new("RGB", (SIDE, SIDE), "red"))}
    return _request(model, guide={"image": {"images": [image]}}, decoder=SMALL)


def prompts(model: str) -> bytes:
    """A request of two million prompts."""
    return _request(model, guide={"text": {"prompts": ["a"] * PROMPTS}})


def message(model: str) -> bytes:
    """A request of 63 MiB."""
    latents = tensors.encode(np.zeros(MESSAGE_BYTES // 4, np.float32))
    return _request(model, decoder={"latents": latents})


def unread(model: str) -> bytes:
    """A request whose answer, 192 KiB of floats, waits for its reader."""
    output = {"format": "OUTPUT_FORMAT_FLOAT_PIXELS"}
    return _request(model, prior={"steps": 2}, decoder={**SMALL, "steps": 1}, output=output)


def _request(model: str, **parts: Any) -> bytes:
    parts = {"guide": {"text": {"prompts": ["a"]}}, **parts}
    return GenerateRequest(model=model, **parts).SerializeToString()


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9)
    return file.getvalue()


async def lying_snapshots(channel: grpc.aio.Channel, entry: CatalogEntry) -> list[bytes]:
    """Decode requests that resume from snapshots which no job can have left.

    Args:
        channel: to the stages' proxy.
        entry: the model; its encoders and decoder are asked once, for an honest snapshot.
    """
    encoders: Any = encoders_pb2_grpc.EncoderServiceStub(channel)
    decoder: Any = decoder_pb2_grpc.DecoderServiceStub(channel)
    encoded = await encoders.EncodeText(
        encoders_pb2.EncodeTextRequest(texts=["a"]),
        metadata=(("application", entry.application(Stage.ENCODERS)),),
    )
    settings = {"steps": 50, "guidance_scale": 1, "seed": 1, "scheduler": "dpm-solver++"}
    request = decoder_pb2.DecodeRequest(
        conditioning={"image_embed": encoded.zero_image_embed},
        sampling=settings,
        start={"height": 128, "width": 128, "noise": {}},
    )
    metadata = (("application", entry.application(Stage.DECODER)),)
    async for event in decoder.Decode(request, metadata=metadata):
        if event.HasField("snapshot"):
            request.resume_from.CopyFrom(event.snapshot)
    return [_lying(request, lie) for lie in LIES]


def _lying(request: decoder_pb2.DecodeRequest, lie: Callable[[Snapshot], object]) -> bytes:
    lying = decoder_pb2.DecodeRequest()
    lying.CopyFrom(request)
    lie(lying.resume_from)
    return lying.SerializeToString()


def _sampler_state_of_another_shape(snapshot: Snapshot) -> None:
    for entry in snapshot.sampler_state:
        entry.tensor.CopyFrom(_zeros(2, 2))


def _zeros(*shape: int) -> Any:
    return tensors.encode(np.zeros(shape, np.float32))


LIES: tuple[Callable[[Snapshot], object], ...] = (
    lambda snapshot: setattr(snapshot, "step", 2**31 - 1),
    lambda snapshot: setattr(snapshot, "phase", 7),
    lambda snapshot: snapshot.latents.CopyFrom(_zeros(4, 3, 5)),
    lambda snapshot: setattr(
        snapshot.generator_state, "data", bytes(len(snapshot.generator_state.data))
    ),
    _sampler_state_of_another_shape,
    lambda snapshot: snapshot.sampler_state.add(name="model_outputs." + "9" * 5000),
)
"""Each changes an honest snapshot."""
