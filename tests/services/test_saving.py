"""Guidance at some noise levels alone, and deep blocks that are computed now and then."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason
from services.diffusion.denoising import Denoise
from services.diffusion.split_unet import SHALLOW_COST, splits
from services.diffusion.unet_network import UNetNetwork
from services.loading.runtime_options import RuntimeOptions
from services.transport.settings import StageSettings
from tests import tiny_2_1
from tests.services.asking import decode_request, drawn, prior_request
from tests.services.conftest import StageStubs, fields
from tests.services.test_resume import both, latents_of_every_resume  # noqa: F401 - a fixture
from tests.stagehost import load_family

STEPS = 12


def saving(
    interval: tuple[float, float] = (0.0, 1.0), cache: int = 1, steps: int = STEPS, seed: int = 4
) -> decoder_pb2.DecodeRequest:
    request = decode_request("noise", seed=seed, steps=steps)
    request.output = decoder_pb2.DECODE_OUTPUT_LATENTS
    low, high = interval
    request.sampling.guidance_interval.CopyFrom(sampling_pb2.GuidanceInterval(low=low, high=high))
    request.sampling.step_cache_interval = cache
    return request


@pytest.fixture(scope="module")
def loop_of(tiny_checkpoint: Path):
    decoder = load_family(
        StageSettings.parse({"model": "tiny", "catalog": [str(tiny_checkpoint)]}), Stage.DECODER
    )

    def made(request: decoder_pb2.DecodeRequest) -> Denoise:
        return decoder.phases(request)[0]

    return made


def by_hand(phase: Denoise, interval: tuple[float, float], cache: int, seed: int = 4):
    """The loop, with diffusers' own scheduler, and how many rows each pass had."""
    network: UNetNetwork = phase.network
    scheduler = diffusers.DDPMScheduler.from_config(phase.sampler.scheduler.config)
    scheduler.set_timesteps(len(phase.timesteps))
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn((1, *phase.shape), generator=generator)
    passes, deep, guided_before = [], None, None
    for step, timestep in enumerate(scheduler.timesteps):
        guided = interval[0] <= float(timestep) / 1000 <= interval[1]
        rows = 2 if guided else 1
        embeds = {name: value[-rows:] for name, value in phase.conditioning.items()}
        inputs, times = latent.expand(rows, *phase.shape), timestep.expand(rows)
        whole = step % cache == 0 or (guided and not guided_before)
        if whole:
            output, deep = network.keeping(inputs, times, embeds)
        else:
            output = network.shallow(inputs, times, embeds, deep[-rows:])
        passes.append((rows, whole))
        guided_before = guided
        noise = output[:, : phase.shape[0]]
        if guided:
            noise = noise[:1] + 4.0 * (noise[1:] - noise[:1])
        latent = scheduler.step(noise, timestep, latent, generator=generator).prev_sample
    return latent[0].numpy(), passes


@pytest.mark.parametrize("cache", [1, 2, 3])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 1.0), (0.0, 0.6), (0.25, 0.7)])
async def test_the_loop_is_what_it_is_by_hand(
    stages: StageStubs, loop_of, interval: tuple[float, float], cache: int
) -> None:
    request = saving(interval, cache)
    with torch.inference_mode():
        expected, passes = by_hand(loop_of(request), interval, cache)
    events = await stages.decode(request)
    np.testing.assert_allclose(drawn(events), expected, atol=2e-4)
    trace = stages.host.decoder.counters.trace
    assert [(each.rows, each.network == "unet") for each in trace] == passes
    assert (
        interval == (0.0, 1.0) or {rows for rows, _ in passes} == {1, 2} or interval == (0.5,) * 2
    )
    phase = loop_of(request)
    cost = sum(rows * (1 if whole else SHALLOW_COST) for rows, whole in passes) * phase.latent_area
    assert sum(phase.cost_at(step) for step in range(STEPS)) == pytest.approx(cost)
    whole = sum(whole for _, whole in passes)
    assert {kind: count for kind, count in phase.passes().items() if count} == {
        kind: count for kind, count in ((False, whole), (True, STEPS - whole)) if count
    }


async def test_saving_changes_the_image_and_exact_does_not(stages: StageStubs) -> None:
    exact = drawn(await stages.decode(saving()))
    plain = decode_request("noise", steps=STEPS)
    plain.output = decoder_pb2.DECODE_OUTPUT_LATENTS
    np.testing.assert_array_equal(drawn(await stages.decode(plain)), exact)
    for request in (saving(cache=3), saving((0.4, 1.0))):
        assert np.abs(drawn(await stages.decode(request)) - exact).max() > 1e-3


async def test_whole_passes_are_shared_with_exact_jobs_and_shallow_ones_with_their_like(
    stages: StageStubs,
) -> None:
    alone = [drawn(await stages.decode(saving(cache=cache))) for cache in (1, 2, 4)]
    stages.host.decoder.counters.trace.clear()
    requests = {f"cache {cache}": saving(cache=cache) for cache in (1, 2, 4)}
    together = await stages.decode_together(**requests)
    for events, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(drawn(events), expected, atol=1e-4)
    kinds = {"unet": set(), "unet, shallow": set()}
    for forward in stages.host.decoder.counters.trace:
        kinds[forward.network].add(frozenset(job for job, _ in forward.jobs))
    assert any({"cache 1", "cache 2"} <= jobs for jobs in kinds["unet"])
    assert frozenset({"cache 2", "cache 4"}) in kinds["unet, shallow"]
    assert all("cache 1" not in jobs for jobs in kinds["unet, shallow"])


@pytest.mark.parametrize(("interval", "cache"), [((0.0, 1.0), 3), ((0.25, 0.7), 2)])
async def test_a_job_goes_on_from_before_its_last_whole_pass(both, interval, cache) -> None:  # noqa: F811
    whole, resumed = await latents_of_every_resume(both, saving(interval, cache))
    assert len(resumed) >= 4
    for latents in resumed:
        np.testing.assert_array_equal(latents, whole)


def test_a_snapshot_is_never_more_than_the_interval_behind(loop_of) -> None:
    phase = loop_of(saving((0.25, 0.7), 3))
    last = 0
    for step in range(1, STEPS):
        last = last if phase.is_shallow(step) else step
        assert step - last < 3


async def test_what_cannot_be_saved_is_refused(stages: StageStubs) -> None:
    for asked, path in (
        (saving((0.7, 0.3)), "sampling.guidance_interval.low"),
        (saving((0.0, 1.5)), "sampling.guidance_interval.high"),
        (saving(cache=11), "sampling.step_cache_interval"),
        (saving(cache=0), "sampling.step_cache_interval"),
    ):
        with pytest.raises(KandinskyError) as error:
            await stages.decode(asked)
        assert fields(error.value) == [path]
    prior = prior_request()
    prior.sampling.step_cache_interval = 2
    with pytest.raises(KandinskyError) as error:
        await stages.sample_embedding(prior)
    assert (error.value.reason, fields(error.value)) == (
        Reason.INVALID_FIELD,
        ["sampling.step_cache_interval"],
    )
    assert stages.host.decoder.counters.forwards == 0


async def test_the_prior_is_guided_at_the_levels_that_are_named(stages: StageStubs) -> None:
    request = prior_request(steps=6)
    everywhere = (await stages.sample_embedding(request))[-1].embedding.image_embed
    request.sampling.guidance_interval.low = 0.5
    partly = (await stages.sample_embedding(request))[-1].embedding.image_embed
    rows = [forward.rows for forward in list(stages.host.prior.counters.trace)[6:]]
    assert rows == [2, 2, 2, 1, 1, 1]
    apart = tensors.decode(everywhere, "a") - tensors.decode(partly, "b")
    assert np.abs(apart).max() > 1e-3


def test_both_families_unets_are_their_own_in_two_parts(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tiny_2_1.build(tmp_path_factory.mktemp("split-2-1"))
    for catalog in (tiny_checkpoint, tiny_2_1.write_catalog(folder)):
        decoder = load_family(
            StageSettings.parse({"model": "tiny", "catalog": [str(catalog)]}), Stage.DECODER
        )
        for denoiser in filter(None, (decoder.denoiser, decoder.inpainter)):
            network = denoiser.network
            phase = decoder.calibration_phase(64, 64)
            channels = network.unet.config.in_channels
            inputs = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(1))
            arguments = (inputs, torch.tensor([7.0, 300.0]), phase.conditioning)
            with torch.inference_mode():
                expected = network(*arguments)
                output, deep = network.keeping(*arguments)
                again = network.shallow(*arguments, deep)
                other = network.shallow(inputs + 1, *arguments[1:], deep)
            assert output.equal(expected)
            assert again.equal(expected)
            assert not other.equal(expected)


def test_a_unet_that_attends_at_its_ends_or_is_offloaded_does_not_split(
    tiny_checkpoint: Path,
) -> None:
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny_checkpoint / "decoder" / "unet")
    assert splits(unet, RuntimeOptions())
    assert not splits(unet, RuntimeOptions(offload="model"))
    attending = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
    )
    assert not splits(attending, RuntimeOptions())
