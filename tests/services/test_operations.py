"""A step gives the device a bounded number of operations, and reads nothing back from it."""

from typing import Any

import pytest
import torch

from benchmarks.operations.counting import operations
from services.samplers.formula import StepFormula

MOST = 60
LEARNED: dict[str, Any] = {"variance_type": "learned_range"}
GROUPS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "ddpm": (["ddpm"], {}),
    "ddpm, learned variance": (["ddpm"], LEARNED),
    "ddpm, thresholding": (["ddpm"], {**LEARNED, "thresholding": True}),
    "ddim": (["ddim"], {}),
    "unclip": (["unclip"], {}),
    "dpm-solver++": (["dpm-solver++"], {}),
    "euler": (["euler"], {}),
    "euler-ancestral": (["euler-ancestral"], {}),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_step_is_as_many_operations_at_16_jobs_as_at_8(group: str) -> None:
    one, eight, sixteen = (operations(jobs, *GROUPS[group]) for jobs in (1, 8, 16))
    assert 10 < eight.device.total() <= MOST
    assert one.device.total() <= MOST
    assert eight.device == sixteen.device
    for found in (one, eight, sixteen):
        assert not found.to_host
        assert sum(found.device[name] for name in found.device if "_to_copy" in name) <= 8


def test_samplers_of_one_formula_are_one_stack() -> None:
    """DDPM and DDIM in turn cost what DDPM does; another formula is as much again."""
    ddpm, mixed, three = (
        operations(16, names).device.total()
        for names in (["ddpm"], ["ddpm", "ddim"], ["ddpm", "ddim", "dpm-solver++"])
    )
    assert mixed == ddpm
    assert three <= 2 * ddpm + 10


def test_a_read_of_the_device_stops_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = StepFormula.original

    def reading(self: StepFormula, at: Any, latent: torch.Tensor, output: torch.Tensor) -> Any:
        float(latent.max())
        return clean(self, at, latent, output)

    monkeypatch.setattr(StepFormula, "original", reading)
    with pytest.raises(RuntimeError, match="the engine stopped"):
        operations(2, ["ddpm"])
