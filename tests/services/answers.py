"""What the stages of a tiny model answer under given runtime options."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch

from kandinsky.catalog.family import Stage
from kandinsky.v1 import encoders_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from services.transport.settings import StageSettings
from tests.services.asking import decode_request, drawn, prior_request, sent_image
from tests.services.conftest import StageStubs
from tests.stagehost import host_stages

Options = Mapping[str, Any]
STARTS = ("noise", "image", "inpaint")
"""Between them they pass the UNet, the inpainting UNet, and MoVQ both ways."""


@asynccontextmanager
async def running(
    folder: Path, stage: Stage, options: Options, model: str = "tiny"
) -> AsyncIterator[StageStubs]:
    async with (
        host_stages(model, folder, runtime={stage: options}) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host, model)


async def decoded_images(folder: Path, options: Options, model: str = "tiny") -> np.ndarray:
    """int [3, 64, 64, 3], one for each of STARTS."""
    async with running(folder, Stage.DECODER, options, model) as stages:
        return np.stack([drawn(await stages.decode(decode_request(start))) for start in STARTS])


async def embedding(folder: Path, options: Options, model: str = "tiny") -> torch.Tensor:
    async with running(folder, Stage.PRIOR, options, model) as stages:
        events = await stages.sample_embedding(prior_request())
    return tensors.to_torch(events[-1].embedding.image_embed, "image_embed")


async def encodings(folder: Path, options: Options, model: str = "tiny") -> list[torch.Tensor]:
    """Of a text and of a image."""
    text = encoders_pb2.EncodeTextRequest(texts=["a red cat"])
    image = encoders_pb2.EncodeImageRequest(pixels=sent_image())
    async with running(folder, Stage.ENCODERS, options, model) as stages:
        prior = (await stages.encoders("EncodeText", text)).encodings[0].prior
        embed = (await stages.encoders("EncodeImage", image)).image_embed
    found = {"text_embed": prior.text_embed, "states": prior.text_states, "image": embed}
    return [tensors.to_torch(value, name).float() for name, value in found.items()]


def settings(folder: Path, **runtime: Any) -> StageSettings:
    return StageSettings.parse({"model": "tiny", "catalog": [str(folder)], "runtime": runtime})
