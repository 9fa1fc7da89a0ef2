"""Jobs of equal settings share a table; what is one job's alone stays its own."""

import diffusers
import pytest

from services.samplers.samplers import sampler_of
from services.samplers.schedulers import Schedulers, SettingRefused


@pytest.fixture
def schedulers() -> Schedulers:
    return Schedulers(diffusers.DDPMScheduler())


def test_equal_settings_have_one_table(schedulers: Schedulers) -> None:
    first = sampler_of(schedulers, "ddim", 20, 0.5, 0.3)
    assert sampler_of(schedulers, "ddim", 20, 0.5, 0.3) is first


@pytest.mark.parametrize(
    "settings", [(None, 20, 0.5, None), ("ddim", 21, 0.5, 0.3), ("ddim", 20, 0.6, 0.3)]
)
def test_others_have_another(schedulers: Schedulers, settings: tuple[object, ...]) -> None:
    usual = sampler_of(schedulers, "ddim", 20, 0.5, 0.3)
    other = sampler_of(schedulers, *settings)  # type: ignore[arg-type]
    assert other is not usual
    assert other.table.tolist() != usual.table.tolist()


def test_checkpoints_share_none(schedulers: Schedulers) -> None:
    other = Schedulers(diffusers.DDPMScheduler(beta_end=0.03))
    mine, theirs = sampler_of(schedulers, None, 20), sampler_of(other, None, 20)
    assert mine.table.tolist() != theirs.table.tolist()


def test_a_scheduler_object_is_one_jobs_alone(schedulers: Schedulers) -> None:
    first, second = (sampler_of(schedulers, "unipc", 20) for _ in range(2))
    assert first.scheduler is not second.scheduler


def test_what_is_refused_is_refused_again(schedulers: Schedulers) -> None:
    for _ in range(2):
        with pytest.raises(SettingRefused, match="eta"):
            sampler_of(schedulers, None, 20, 1.0, 0.5)
