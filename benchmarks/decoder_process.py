"""A decoder in a process of its own, which makes some images and says how much memory it took."""

import asyncio
import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from benchmarks.child import wait_for_the_end
from benchmarks.full_size.engine_side import as_uint8
from benchmarks.machine import cores
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2
from kandinsky.wire import tensors
from services.decoder.families.stable_diffusion_inpainting import TEXT_POSITIONS, decoder
from services.device.clock import clock_of
from services.engine.batcher import Batcher
from services.engine.job import Finished, Job
from services.engine.limits import EngineLimits
from services.loading.runtime_options import RuntimeOptions
from services.transport.replica import prepare_process
from services.transport.settings import StageSettings

IMAGES, SIDE, TILE, STEPS, WIDTH = 8, 512, 256, 1, 768
ENTRY = """\
name: half-width
description: Stable Diffusion's inpainting at half its widths, with random weights.
family: stable-diffusion-inpainting
stages: {encoders: {weights: {folder: .}}, decoder: {weights: {folder: .}}}
size: {height: 512, width: 512, min: 64, max: 1024}
"""


def write_checkpoint(folder: Path) -> Mapping[str, torch.nn.Module]:
    """Saves a decoder's checkpoint and its catalog entry; gives the networks, by part."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=9,
        block_out_channels=(160, 320, 640, 640),
        cross_attention_dim=WIDTH,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(64, 128, 256, 256),
        layers_per_block=2,
        sample_size=TILE,
    )
    for part, saved in {"unet": unet, "vae": vae, "scheduler": DDIMScheduler()}.items():
        saved.save_pretrained(folder / part)
    (folder / "half-width.yaml").write_text(ENTRY, encoding="utf-8")
    return {"unet": unet, "vae": vae}


def request() -> decoder_pb2.DecodeRequest:
    """Inpaints the middle of an image of noise."""
    draw = np.random.default_rng(0)
    states = draw.standard_normal((TEXT_POSITIONS, WIDTH)).astype(np.float32)
    pixels = draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = 255
    made = decoder_pb2.DecodeRequest()
    made.conditioning.text_states.CopyFrom(tensors.encode(states))
    made.sampling.guidance_scale, made.sampling.steps = 1, STEPS
    made.start.height = made.start.width = SIDE
    made.start.inpaint.pixels.CopyFrom(tensors.encode(pixels))
    made.start.inpaint.mask.CopyFrom(tensors.encode(mask))
    return made


async def images(folder: Path, runtime: RuntimeOptions) -> np.ndarray:
    """uint8 [1 + IMAGES, H, W, 3] by the checkpoint in a folder.

    The first begins alone; the others come while it is at work, and are made together.
    """
    arguments = {"model": "half-width", "catalog": [str(folder)], "threads": cores()}
    settings = StageSettings.parse(arguments)
    prepare_process(settings)
    # Of the loaders, so that nothing is refused: a CPU shows that offloading changes no image.
    loaders = {
        role: replace(loader, runtime=runtime)
        for role, loader in settings.loaders(Stage.DECODER).items()
    }
    family = decoder(loaders, settings.entry)
    limits = EngineLimits(max_batch_rows=2 * IMAGES, max_batch_latent_area=IMAGES * SIDE**2)
    batcher = Batcher(limits, device=clock_of(settings.device))

    async def draw(seed: int) -> np.ndarray:
        generator = torch.Generator("cpu").manual_seed(seed)
        async for event in batcher.run(Job(str(seed), family.phases(request()), generator)):
            if isinstance(event, Finished):
                return as_uint8(event.outputs["image"])
        raise RuntimeError("the engine ended a job without a result")

    made = np.stack(await asyncio.gather(*map(draw, range(1 + IMAGES))))
    batcher.close()
    return made


def main(folder: Path, file: Path, options: Mapping[str, Any]) -> None:
    """Writes the images into a file, prints the most bytes that they took, and waits."""
    np.save(file, asyncio.run(images(folder, RuntimeOptions(**options))))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident, flush=True)
    wait_for_the_end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
