"""What is saved of the work: presets and their two settings, on their way to the stages."""

import pytest

from kandinsky.catalog.presets import PRESETS
from kandinsky.v1 import decoder_pb2, prior_pb2, sampling_pb2, settings_pb2
from kandinsky.wire.errors import Reason
from tests.gateway import messages
from tests.gateway.errors import failure

BALANCED, FAST = settings_pb2.PRESET_BALANCED, settings_pb2.PRESET_FAST


def interval(low: float, high: float) -> sampling_pb2.GuidanceInterval:
    return sampling_pb2.GuidanceInterval(low=low, high=high)


def asked(stages, method: str = "Decode") -> decoder_pb2.DecodeRequest:
    [found] = [call.request for call in stages.calls if call.method == method]
    return found


@pytest.mark.parametrize("preset", [0, settings_pb2.PRESET_EXACT])
async def test_exact_asks_for_nothing(api, stages, preset):
    await api.GenerateImages(messages.request(decoder={"preset": preset}))
    for method in ("Decode", "SampleEmbedding"):
        sampling = asked(stages, method).sampling
        assert not sampling.HasField("guidance_interval")
        assert not sampling.HasField("step_cache_interval")


@pytest.mark.parametrize(("preset", "name"), [(BALANCED, "balanced"), (FAST, "fast")])
async def test_a_preset_is_both_of_its_settings(api, stages, preset, name):
    await api.GenerateImages(messages.request(decoder={"preset": preset}))
    sampling = asked(stages).sampling
    assert sampling.guidance_interval == interval(*PRESETS[name].guidance_interval)
    assert sampling.step_cache_interval == PRESETS[name].step_cache_interval > 1
    assert not asked(stages, "SampleEmbedding").sampling.HasField("guidance_interval")


async def test_a_setting_that_is_named_goes_before_the_preset(api, stages):
    own = {"guidance_interval": interval(0.1, 0.5), "step_cache_interval": 1, "preset": FAST}
    await api.GenerateImages(messages.request(decoder=own))
    sampling = asked(stages).sampling
    assert sampling.guidance_interval == interval(0.1, 0.5)
    assert not sampling.HasField("step_cache_interval")


async def test_the_prior_has_an_interval_of_its_own(api, stages):
    await api.GenerateImages(messages.request(prior={"guidance_interval": interval(0.2, 1)}))
    run: prior_pb2.SampleEmbeddingRequest = asked(stages, "SampleEmbedding")
    assert run.sampling.guidance_interval == interval(0.2, 1)
    assert not asked(stages).sampling.HasField("guidance_interval")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"decoder": {"preset": 9}}, "decoder.preset"),
        ({"decoder": {"step_cache_interval": 0}}, "decoder.step_cache_interval"),
        ({"decoder": {"step_cache_interval": 11}}, "decoder.step_cache_interval"),
        ({"decoder": {"guidance_interval": interval(0.7, 0.2)}}, "decoder.guidance_interval.low"),
        ({"decoder": {"guidance_interval": interval(0, 1.1)}}, "decoder.guidance_interval.high"),
        ({"prior": {"guidance_interval": interval(-0.1, 1)}}, "prior.guidance_interval.low"),
        ({"model": "priorless", "decoder": {"preset": FAST}}, "decoder.preset"),
        (
            {"model": "priorless", "decoder": {"step_cache_interval": 2}},
            "decoder.step_cache_interval",
        ),
    ],
)
async def test_what_cannot_be_is_named(api, stages, settings, field):
    error = await failure(api.GenerateImages(messages.request(**settings)))
    assert error.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in error.violations] == [field]
    assert not stages.calls


async def test_any_family_has_an_interval_of_guidance(api, stages):
    settings = {"decoder": {"guidance_interval": interval(0.5, 1), "step_cache_interval": 1}}
    await api.GenerateImages(messages.request(model="priorless", **settings))
    assert asked(stages).sampling.guidance_interval == interval(0.5, 1)
