"""Previews: the predicted clean image on the way to the image itself."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import VQModel
from PIL import Image

from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.wire import tensors
from services.diffusion.denoising import Denoise
from services.diffusion.guidance import Guidance
from services.diffusion.previews import LinearPreview
from services.engine.job import Job
from services.samplers.samplers import new_sampler
from services.samplers.schedulers import CLASSES, new_scheduler
from tests.services.asking import decode_request
from tests.services.conftest import StageStubs
from tests.services.stepping import take_job_step

SHAPES = Path(__file__).parents[2] / "checkpoints" / "shapes" / "decoder"


def previewing(steps: int, every: int, mode: int) -> decoder_pb2.DecodeRequest:
    request = decode_request("noise", steps=steps)
    request.preview_mode = mode
    if every:
        request.preview_every = every
    return request


async def previews(stages: StageStubs, request: decoder_pb2.DecodeRequest):
    stages.host.decoder.waits_for_readers = True
    events = await stages.decode(request)
    found = [event.preview for event in events if event.HasField("preview")]
    return found, tensors.decode(events[-1].image.tensor, "image")


@pytest.mark.parametrize("mode", [sampling_pb2.PREVIEW_MODE_LINEAR, 0])
async def test_a_linear_preview_has_a_pixel_for_each_latent_pixel(stages, mode) -> None:
    found, final = await previews(stages, previewing(9, 2, mode))
    assert [preview.step for preview in found] == [2, 4, 6, 8]
    side = final.shape[0] // 8
    for preview in found:
        assert list(preview.pixels.shape) == [side, side, 3]
        assert preview.cost.ToNanoseconds() > 0


async def test_a_decoded_preview_of_the_last_step_is_nearly_the_image(stages) -> None:
    """DDPM adds a last bit of noise where its last timestep is not 0."""
    mode = sampling_pb2.PREVIEW_MODE_DECODE
    found, final = await previews(stages, previewing(6, 3, mode))
    assert [preview.step for preview in found] == [3, 6]
    last = tensors.decode(found[-1].pixels, "preview").astype(int)
    first = tensors.decode(found[0].pixels, "preview").astype(int)
    assert np.abs(last - final).mean() < 3 < np.abs(first - final).mean()


async def test_previews_change_no_image(stages) -> None:
    _, watched = await previews(stages, previewing(6, 1, sampling_pb2.PREVIEW_MODE_DECODE))
    found, unwatched = await previews(stages, previewing(6, 0, 0))
    assert not found
    np.testing.assert_array_equal(watched, unwatched)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("step", [0, 2])
def test_a_preview_shows_the_clean_latent_of_the_guided_prediction(name, kind, step) -> None:
    """Neither the noisy latent nor what one row alone foresees."""
    generator = torch.Generator().manual_seed(1)
    clean, noise, off = torch.randn(3, 1, 4, 3, 3, generator=generator, dtype=torch.float64)
    scale, seen = 3.0, []

    def show(latents: torch.Tensor) -> torch.Tensor:
        seen.append(latents)
        return latents

    base = diffusers.DDPMScheduler(beta_schedule="linear")
    scheduler = new_scheduler(base, name)
    scheduler.register_to_config(prediction_type=kind)
    sampler = new_sampler(scheduler, 5)
    embeds = torch.zeros(2, 4, dtype=torch.float64)
    guidance = Guidance(scale)
    phase = Denoise(None, sampler, guidance, (4, 3, 3), {"embed": embeds}, previewer=show)
    job = Job("seen", [phase], generator)
    job.begin(0.0)
    latent = sampler.add_noise(clean, noise)
    for _ in range(step):
        take_job_step(job, torch.zeros(2, 8, 3, 3, dtype=torch.float64))
        latent = sampler.rows.noise_after(job.stack.at, clean, noise)
    stack, stepper = job.stack, phase.stepper
    stack.state = {**stack.state, "latent": latent}
    stepper.inputs(stack)
    truth = noise
    if kind == "v_prediction":  # arXiv 2202.00512, appendix D
        by_sigma = float(scheduler.init_noise_sigma) > 1
        if by_sigma:
            signal = 1 / (1 + (latent - clean).div(noise).mean() ** 2)
        else:
            signal = scheduler.alphas_cumprod[sampler.timesteps[step].long()].double()
        truth = signal**0.5 * noise - (1 - signal) ** 0.5 * clean
    guided = torch.cat([truth + off, truth + off - off / scale])  # u + scale * (c - u) is the truth
    output = torch.cat([guided, torch.zeros_like(guided)], dim=1)
    stepper.preview(stack, stepper.predict(stack, output), [0])
    torch.testing.assert_close(seen[0], clean, rtol=1e-3, atol=1e-3)


def test_the_linear_map_shows_what_the_trained_autoencoder_holds() -> None:
    movq = VQModel.from_pretrained(SHAPES / "movq").eval().requires_grad_(False)
    factor = 2 ** (len(movq.config.block_out_channels) - 1)
    preview = LinearPreview(lambda x: movq.encode(x).latents, factor, torch.empty(0))
    drawn = Image.new("RGB", (128, 128), (20, 40, 200))
    drawn.paste((220, 30, 30), (32, 32, 96, 96))
    pixels = torch.tensor(np.asarray(drawn), dtype=torch.float32).permute(2, 0, 1)[None]
    seen = preview(movq.encode(pixels / 127.5 - 1).latents)[0].int()
    small = torch.tensor(np.asarray(drawn.resize((128 // factor,) * 2, Image.BOX))).int()
    assert (seen - small).abs().float().mean() < 25
    corner, middle = seen[1, 1], seen[8 // 1, 8 // 1]
    assert middle[0] > middle[2] + 80
    assert corner[2] > corner[0] + 80
