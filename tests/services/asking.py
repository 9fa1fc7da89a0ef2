"""Requests to the tiny decoder with conditioning of their own, and its answers as arrays."""

import numpy as np
import torch

from kandinsky.v1 import decoder_pb2, prior_pb2, tensor_pb2
from kandinsky.wire import tensors
from tests.tiny import POSITIONS, WIDTH

SIZE = 64


def random_tensor(*shape: int, seed: int, scale: float = 1.0) -> tensor_pb2.Tensor:
    """Seeded floats of a normal distribution."""
    return tensors.encode(
        (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
    )


def sent_image(seed: int = 3) -> tensor_pb2.Tensor:
    """uint8 [64, 64, 3]."""
    values = np.random.default_rng(seed).integers(0, 256, (SIZE // 8, SIZE // 8, 3), np.uint8)
    return tensors.encode(values.repeat(8, 0).repeat(8, 1))


def mask(seed: int = 0) -> tensor_pb2.Tensor:
    """uint8 [64, 64]: two rectangles."""
    rng = np.random.default_rng(seed)
    values = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(2):
        top, left = rng.integers(0, 40, 2)
        values[top : top + 17, left : left + 22] = 255
    return tensors.encode(values)


def decode_request(start: str, seed: int = 4, steps: int = 5) -> decoder_pb2.DecodeRequest:
    """A decode that starts from `noise`, an `image` or a `masked_image`."""
    request = decoder_pb2.DecodeRequest()
    request.conditioning.image_embed.CopyFrom(random_tensor(WIDTH, seed=1))
    request.conditioning.negative_image_embed.CopyFrom(random_tensor(WIDTH, seed=2))
    request.sampling.steps, request.sampling.seed = steps, seed
    request.start.height = request.start.width = SIZE
    latents = getattr(request.start, start)
    latents.SetInParent()
    if start != "noise":
        latents.pixels.CopyFrom(sent_image())
    if start == "inpaint":
        latents.mask.CopyFrom(mask())
    return request


def prior_request(steps: int = 6) -> prior_pb2.SampleEmbeddingRequest:
    """A guided prior run."""
    request = prior_pb2.SampleEmbeddingRequest()
    for number, side in enumerate(("", "negative_")):
        parts = {
            "text_embed": random_tensor(WIDTH, seed=5 + number),
            "text_states": random_tensor(POSITIONS, WIDTH, seed=7 + number),
            "text_mask": tensors.encode(np.arange(POSITIONS) < 5 + number),
        }
        for part, value in parts.items():
            getattr(request.conditioning, side + part).CopyFrom(value)
    request.sampling.steps, request.sampling.seed = steps, 9
    return request


def drawn(events: list[decoder_pb2.DecodeEvent]) -> np.ndarray:
    """The result, as signed numbers."""
    value = tensors.decode(events[-1].image.tensor, "image")
    return value.astype(int) if value.dtype == np.uint8 else value


def row(tensor: tensor_pb2.Tensor) -> torch.Tensor:
    """A tensor as the pipelines take it: one row."""
    return tensors.to_torch(tensor, "tensor")[None]
