"""Schedulers by name: as the pipelines where those are right, else as a plain loop."""

import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path

import diffusers
import grpc
import numpy as np
import pytest
import torch
from diffusers import KandinskyV22InpaintPipeline, KandinskyV22Pipeline
from PIL import Image

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import SamplerSpec, Stage
from kandinsky.catalog.schedulers import SCHEDULERS
from kandinsky.v1 import decoder_pb2
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import KandinskyError
from services.samplers.samplers import new_sampler
from services.samplers.scheduler_sampler import SchedulerSampler
from services.samplers.schedulers import CLASSES, new_scheduler
from tests import tiny
from tests.services.asking import SIZE, decode_request, drawn, row
from tests.services.conftest import StageStubs, fields
from tests.services.stepping import take_step
from tests.stagehost import host_stages

AS_THE_PIPELINE = ("ddpm", "ddim", "dpm-solver++")


def options(request: decoder_pb2.DecodeRequest) -> dict:
    return {
        "image_embeds": row(request.conditioning.image_embed),
        "negative_image_embeds": row(request.conditioning.negative_image_embed),
        "height": SIZE,
        "width": SIZE,
        "num_inference_steps": request.sampling.steps,
        "generator": torch.Generator().manual_seed(request.sampling.seed),
        "output_type": "np",
    }


def with_scheduler(cls, folder: Path, name: str):
    pipeline = cls.from_pretrained(folder)
    scheduler = getattr(diffusers, CLASSES[name])
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_contract_names_them_all() -> None:
    assert set(CLASSES) == set(SCHEDULERS)


@pytest.mark.parametrize("name", AS_THE_PIPELINE)
async def test_noise_equals_the_pipeline(
    stages: StageStubs, tiny_checkpoint: Path, name: str
) -> None:
    request = decode_request("noise")
    request.sampling.scheduler = name
    pipeline = with_scheduler(KandinskyV22Pipeline, tiny_checkpoint / "decoder", name)
    expected = (pipeline(**options(request)).images[0] * 255).round().astype(int)
    assert expected.std() > 3
    assert np.abs(drawn(await stages.decode(request)) - expected).max() <= 1


@pytest.mark.parametrize("name", AS_THE_PIPELINE)
async def test_a_mask_equals_the_pipeline(
    stages: StageStubs, tiny_checkpoint: Path, name: str
) -> None:
    request = decode_request("inpaint")
    request.sampling.scheduler = name
    start = request.start.inpaint
    pipeline = with_scheduler(
        KandinskyV22InpaintPipeline, tiny_checkpoint / "decoder-inpaint", name
    )
    images = pipeline(
        image=Image.fromarray(tensors.decode(start.pixels, "pixels")),
        mask_image=Image.fromarray(tensors.decode(start.mask, "mask")),
        **options(request),
    ).images
    expected = (images[0] * 255).round().astype(int)
    assert np.abs(drawn(await stages.decode(request)) - expected).max() <= 1


def plain_loop(folder: Path, request: decoder_pb2.DecodeRequest, strength: float) -> np.ndarray:
    """The scheduler's own documented loop: scaled input, guidance, step; from noise or a latent."""
    pipeline = KandinskyV22Pipeline.from_pretrained(folder)
    scheduler = new_scheduler(pipeline.scheduler, request.sampling.scheduler)
    steps, order = request.sampling.steps, getattr(scheduler, "order", 1)
    scheduler.set_timesteps(steps)
    first = (steps - int(steps * strength)) * order
    generator = torch.Generator().manual_seed(request.sampling.seed)
    latent = torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=generator)
    if strength == 1:
        latent = latent * scheduler.init_noise_sigma
    else:
        clean = row(request.start.image.latents)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        latent = scheduler.add_noise(clean, latent, scheduler.timesteps[first : first + 1])
    given = request.conditioning
    embeds = torch.cat([row(given.negative_image_embed), row(given.image_embed)])
    with torch.inference_mode():
        for timestep in scheduler.timesteps[first:]:
            output = pipeline.unet(
                scheduler.scale_model_input(torch.cat([latent] * 2), timestep),
                timestep,
                encoder_hidden_states=None,
                added_cond_kwargs={"image_embeds": embeds},
            ).sample[:, :4]
            without, with_ = output.chunk(2)
            draws = "generator" in inspect.signature(scheduler.step).parameters
            extra = {"generator": generator} if draws else {}
            noise = without + 4.0 * (with_ - without)
            latent = scheduler.step(noise, timestep, latent, **extra).prev_sample
    return latent[0].numpy()


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        (name, strength)
        for name in sorted(set(SCHEDULERS) - {"ddpm"})
        for strength in (1.0, 0.5)
        if (name, strength) != ("pndm", 0.5)  # its own loop cannot begin in mid-schedule
    ],
)
async def test_it_equals_a_plain_loop(
    stages: StageStubs, tiny_checkpoint: Path, name: str, strength: float
) -> None:
    """The reference pipelines never scale the input, and pass a generator that not all steps take,
    so that they draw noise or fail with Euler, Heun and others."""
    request = decode_request("noise" if strength == 1 else "image", steps=6)
    request.sampling.scheduler = name
    request.output = decoder_pb2.DECODE_OUTPUT_LATENTS
    if strength < 1:
        request.start.image.ClearField("pixels")
        clean = np.random.default_rng(2).standard_normal((4, 8, 8)).astype(np.float32)
        request.start.image.latents.CopyFrom(tensors.encode(clean))
        request.start.image.strength = strength
    expected = plain_loop(tiny_checkpoint / "decoder", request, strength)
    actual = drawn(await stages.decode(request))
    np.testing.assert_allclose(actual, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_known_pixels_have_the_noise_of_the_next_step(tiny_checkpoint: Path, name: str) -> None:
    """Blending asks in mid loop for a clean latent as it would be before the step that comes."""
    base = KandinskyV22Pipeline.from_pretrained(tiny_checkpoint / "decoder").scheduler
    sampler = new_sampler(new_scheduler(base, name), 6)
    clean, noise = torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1)
    betas = torch.linspace(base.config.beta_start, base.config.beta_end, 1000)
    kept = torch.cumprod(1 - betas, 0)
    rows, state = sampler.rows, sampler.rows.begun(sampler.initial_latents(noise))
    for step in range(len(sampler.timesteps) - 1):
        at = rows.at([sampler], [step], [torch.Generator()], clean)
        rows.scale_input(at, state["latent"])
        state = rows.step(at, state, torch.zeros_like(clean), None)
        if name == "kdpm2" and step % 2 == 0:
            continue  # half-way through a step, diffusers' add_noise takes the level of its end
        actual = rows.noise_after(at, clean, noise)
        timestep = sampler.timesteps[step + 1]
        signal = np.interp(float(timestep), np.arange(1000), kept)
        if sampler.scheduler.init_noise_sigma > 1:  # these keep the signal and let the noise grow
            expected = clean + noise * ((1 - signal) / signal) ** 0.5
        else:
            expected = clean * signal**0.5 + noise * (1 - signal) ** 0.5
        torch.testing.assert_close(actual.double(), expected.double(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.2])
def test_a_schedule_with_the_true_noise_ends_at_the_clean_latent(
    tiny_checkpoint: Path, name: str, strength: float
) -> None:
    """Whatever the scheduler, and wherever the sampler begins."""
    if name == "lms" and strength < 0.5:
        pytest.skip("in mid-schedule diffusers weights its first steps as if it knew four")
    base = KandinskyV22Pipeline.from_pretrained(tiny_checkpoint / "decoder").scheduler
    sampler = new_sampler(new_scheduler(base, name), 20, strength)
    clean = torch.linspace(-0.9, 0.9, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    latent = sampler.add_noise(clean, torch.randn(clean.shape, generator=generator).double())
    rows, state = sampler.rows, sampler.rows.begun(latent)
    betas = torch.linspace(base.config.beta_start, base.config.beta_end, 1000)
    kept = torch.cumprod(1 - betas.double(), 0)
    for step, timestep in enumerate(sampler.timesteps):
        signal = np.interp(float(timestep), np.arange(1000), kept)
        # At variance 1, whatever the scheduler's scale.
        at = rows.at([sampler], [step], [generator], latent)
        seen = rows.scale_input(at, state["latent"]).double()
        noise = (seen - clean * signal**0.5) / (1 - signal) ** 0.5
        state = take_step(sampler, state, noise, step, generator)
    torch.testing.assert_close(state["latent"].double(), clean, atol=0.1, rtol=0)


@pytest.mark.parametrize("name", [None, *SCHEDULERS])
async def test_more_steps_than_noise_levels_are_refused(
    stages: StageStubs, name: str | None
) -> None:
    request = decode_request("noise", steps=1000)  # the checkpoint's first level is 1, not 0
    if name is not None:
        request.sampling.scheduler = name
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == ["sampling.steps"]
    most = "50" if name == "lcm" else "99[89]"  # LCM: of those that it was distilled from
    assert re.search(rf"1000 are too many for \w+; the most is {most}$", error.value.message)
    assert stages.host.decoder.counters.forwards == 0


ENTRIES = Catalog.load()
BASES = {
    "kandinsky-2-2": diffusers.DDPMScheduler(steps_offset=1),
    "kandinsky-2-1": diffusers.DDIMScheduler(steps_offset=1, set_alpha_to_one=False),
    "shapes": diffusers.DDPMScheduler.from_pretrained(
        ENTRIES["shapes"].checkpoints(Stage.DECODER)["weights"].folder, subfolder="scheduler"
    ),
}


@pytest.mark.parametrize("model", BASES)
@pytest.mark.parametrize("name", [None, *sorted(set(SCHEDULERS) - {"lcm"})])
def test_every_scheduler_takes_the_most_steps_that_a_model_offers(
    model: str, name: str | None
) -> None:
    offered = {sampler.max_steps for sampler in ENTRIES[model].stage_samplers(Stage.DECODER)}
    for steps in offered | {SamplerSpec.max_steps}:
        sampler = new_sampler(new_scheduler(BASES[model], name), steps)
        assert len(sampler.timesteps) >= steps


async def test_eta_is_for_schedulers_that_have_it(
    stages: StageStubs, tiny_checkpoint: Path
) -> None:
    request = decode_request("noise")
    request.sampling.scheduler = "ddim"
    without = drawn(await stages.decode(request))
    request.sampling.eta = 1.0
    assert np.abs(drawn(await stages.decode(request)) - without).mean() > 1
    for eta in (-0.1, 1.1, float("nan")):
        request.sampling.eta = eta
        with pytest.raises(KandinskyError) as error:
            await stages.decode(request)
        assert fields(error.value) == ["sampling.eta"]
    request.sampling.eta, request.sampling.scheduler = 0.5, "euler"
    with pytest.raises(KandinskyError) as error:
        await stages.decode(request)
    assert fields(error.value) == ["sampling.eta"]


@pytest.fixture
async def double_stages(tiny_checkpoint: Path) -> AsyncIterator[StageStubs]:
    """In float64: on random weights DDIM makes a rounding grow tenfold every two or three steps."""
    tiny.write_catalog(tiny_checkpoint, "double", "float64")
    async with (
        host_stages("double", tiny_checkpoint) as host,
        grpc.aio.insecure_channel(host.address, options=OPTIONS) as channel,
    ):
        yield StageStubs(channel, host, "double")


async def test_jobs_with_different_schedulers_share_forwards(double_stages: StageStubs) -> None:
    stages = double_stages
    names = ("ddpm", "ddim", "dpm-solver++")
    requests = [decode_request("noise", steps=steps) for steps in (14, 15, 16)]
    for request, name in zip(requests, names, strict=True):
        request.sampling.scheduler = name
    alone = [drawn(await stages.decode(request)) for request in requests]
    together = await stages.decode_together(**dict(zip(names, requests, strict=True)))
    assert max(forward.rows for forward in stages.host.decoder.counters.trace) >= 4
    for events, expected in zip(together, alone, strict=True):
        assert np.abs(drawn(events) - expected).max() <= 1


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [1, 2, 4, 5]), (9, [1, 5])]
)
async def test_progress_comes_as_often_as_asked(stages: StageStubs, every, expected) -> None:
    request = decode_request("noise")
    request.sampling.progress_every = every
    stages.host.decoder.waits_for_readers = True
    events = await stages.decode(request)
    reported = [e.progress.step for e in events if e.progress.phase == "denoise"]
    assert reported == expected


def test_a_scheduler_that_takes_the_next_timestep_is_given_it() -> None:
    """UnCLIP takes t - 1 for it where it is not given, which is wrong for all but 1,000 steps."""
    scheduler = diffusers.UnCLIPScheduler(prediction_type="sample", variance_type="fixed_small_log")
    sampler = SchedulerSampler(scheduler, 5)
    plain = diffusers.UnCLIPScheduler.from_config(scheduler.config)
    plain.set_timesteps(5)
    draw = torch.Generator().manual_seed(1)
    output, start = torch.randn(2, 1, 8, generator=draw)
    latent = expected = start
    unaware, apart = start, []
    generators = [torch.Generator().manual_seed(2) for _ in range(3)]
    for step, timestep in enumerate(plain.timesteps):
        later = plain.timesteps[step + 1] if step < 4 else None
        latent = take_step(sampler, {"latent": latent}, output, step, generators[0])["latent"]
        expected = plain.step(
            output, timestep, expected, prev_timestep=later, generator=generators[1]
        ).prev_sample
        unaware = plain.step(output, timestep, unaware, generator=generators[2]).prev_sample
        torch.testing.assert_close(latent, expected, rtol=0, atol=0)
        apart.append((unaware - expected).abs().max())
    assert max(apart) > 0.1
