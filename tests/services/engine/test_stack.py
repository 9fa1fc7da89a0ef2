"""What jobs carry is stacked, and each finds its own again."""

import torch

from services.engine.job import Job
from services.engine.stack import Stack
from tests.services.engine.toys import ToyNetwork, toy_job

NETWORK = ToyNetwork()


def jobs(*rows: int) -> list[Job]:
    found = [toy_job(NETWORK, 5, seed, rows=count) for seed, count in enumerate(rows)]
    for job in found:
        job.begin(0.0)
    return found


def test_each_job_finds_its_own_state_and_rows() -> None:
    members = jobs(1, 2, 1)
    states = [job.state for job in members]
    stack = Stack(members, states)
    for place, state in enumerate(states):
        assert stack.state_of(place)["latent"].equal(state["latent"])
    rows = stack.rows(stack.latent)
    assert rows.equal(torch.cat([states[place]["latent"] for place in (0, 1, 1, 2)]))
    assert stack.conditional(rows).equal(stack.latent)
    output = torch.arange(4.0)[:, None]
    assert stack.conditional(output)[:, 0].tolist() == [0, 2, 3]
    assert stack.unconditional(output)[:, 0].tolist() == [0, 1, 3]


def test_what_is_kept_of_the_deep_part_is_found_by_place() -> None:
    members = jobs(1, 2, 2)
    first, second = torch.full((2, 3), 1.0), torch.full((2, 3), 2.0)
    stack = Stack(members, [job.state for job in members], [None, first, second])
    assert stack.deep_of(0) is None
    assert stack.deep_of(1) is first
    assert stack.deep_of(2) is second
    stack.keep_deep(torch.arange(5.0)[:, None])
    assert [stack.deep_of(place)[:, 0].tolist() for place in range(3)] == [[0], [1, 2], [3, 4]]


def test_of_rows_that_became_less_the_last_are_used() -> None:
    members = jobs(2, 2)
    stack = Stack(members, [job.state for job in members])
    stack.keep_deep(torch.arange(4.0)[:, None])
    members[0].phase.rows = 1
    assert stack.deep()[:, 0].tolist() == [1, 2, 3]
