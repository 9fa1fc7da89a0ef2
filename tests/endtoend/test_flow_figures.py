"""The figures of the model card's second table come out of a served system."""

from tests.endtoend.conftest import System
from training.shapes.flows import FLOWS, evaluate


def test_every_flow_is_measured(system: System) -> None:
    figures = evaluate(system.gateway, 2)
    assert set(figures) == set(FLOWS)
    for flow, right in figures.items():
        assert right["count"] == 2
        assert right["background"] >= 0.5, (flow, right)
        assert right["shape"] >= 0.5, (flow, right)
    assert figures["control"]["overlap"] > 0.5
