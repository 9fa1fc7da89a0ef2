"""Limits that are measured at start-up."""

import time

import pytest
import torch

from services.engine.calibration import LEAST_ROWS, MOST_ROWS, calibrated_limits
from services.engine.limits import EngineLimits
from services.engine.step_times import StepTimeEstimator
from tests.services.engine.toys import ToyNetwork, ToyPhase


class Device(ToyNetwork):
    """A clock that forwards move on: so much each, and so much a row up to some rows."""

    def __init__(self, each: float, a_row: float, until: int = 10**6) -> None:
        super().__init__()
        self.each, self.a_row, self.until = each, a_row, until
        self.now = 0.0
        self.rows: list[int] = []

    def __call__(self, inputs, timesteps, conditioning):
        rows = len(inputs)
        self.rows.append(rows)
        crowded = max(0, rows - self.until)
        self.now += self.each + self.a_row * rows + 3 * self.a_row * crowded
        return super().__call__(inputs, timesteps, conditioning)


def limits(monkeypatch: pytest.MonkeyPatch, device: Device, **given: int) -> EngineLimits:
    monkeypatch.setattr(time, "perf_counter", lambda: device.now)
    return calibrated_limits(
        EngineLimits(**given), ToyPhase(device, 1, rows=2, latent_area=64), StepTimeEstimator()
    )


@pytest.mark.parametrize(
    ("device", "rows"),
    [
        (Device(each=1e-3, a_row=1e-6), MOST_ROWS),  # rows cost nothing: a GPU far from full
        (Device(each=1e-6, a_row=1e-3), LEAST_ROWS),  # they bring nothing
        (Device(each=2e-2, a_row=1e-3, until=64), 64),  # they bring something up to there
        (Device(each=1e-3, a_row=0.1), 8),  # steps would take too long
    ],
)
def test_the_least_batch_that_is_nearly_the_fastest(monkeypatch, device, rows):
    found = limits(monkeypatch, device)
    assert found.rows == rows
    assert found.latent_area == rows * 64


def test_what_is_configured_is_kept(monkeypatch):
    found = limits(monkeypatch, Device(1e-3, 1e-6), max_batch_rows=6)
    assert (found.rows, found.latent_area) == (6, MOST_ROWS * 64)
    device = Device(1e-3, 1e-6)
    found = limits(monkeypatch, device, max_batch_rows=6, max_batch_latent_area=100)
    assert (found.rows, found.latent_area) == (6, 100)
    assert device.rows == []


def test_what_the_first_forward_of_a_size_compiles_does_not_count(monkeypatch):
    class Compiled(Device):
        def __call__(self, inputs, timesteps, conditioning):
            if len(inputs) not in self.rows:
                self.now += 20.0
            return super().__call__(inputs, timesteps, conditioning)

    assert limits(monkeypatch, Compiled(each=1e-3, a_row=1e-6)).rows == MOST_ROWS


def test_a_device_that_is_full_bounds_the_batch(monkeypatch):
    class Small(Device):
        def __call__(self, inputs, timesteps, conditioning):
            if len(inputs) > 32:
                raise torch.cuda.OutOfMemoryError("full")
            return super().__call__(inputs, timesteps, conditioning)

    assert limits(monkeypatch, Small(each=1e-3, a_row=1e-6)).rows == 32
