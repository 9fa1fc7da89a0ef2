"""Who is let in next."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.engine.fair_queue import MOST_ROUNDS, FairQueue
from services.engine.job import Job
from services.engine.snapshot import Snapshot
from tests.services.engine.toys import ToyNetwork, ToyPhase

NETWORK = ToyNetwork()


def job(tenant: str = "", steps: int = 10, priority: int = 0, name: str = "", **others) -> Job:
    phases = [ToyPhase(NETWORK, steps)]
    generator = torch.Generator()
    return Job(name, phases, generator, tenant=tenant, priority=priority, **others)


def names(queue: FairQueue) -> list[str]:
    return [queue.pop().id for _ in range(len(queue))]


def test_first_come_first_served_within_a_priority():
    queue = FairQueue()
    for name, priority in (("a", 0), ("b", 1), ("c", 0), ("d", -1), ("e", 1)):
        queue.push(job(name=name, priority=priority))
    assert names(queue) == ["b", "e", "a", "c", "d"]


def test_a_job_that_was_at_work_elsewhere_goes_first_in_its_priority():
    queue = FairQueue()
    kept = Snapshot(0, 3, torch.zeros(1), torch.Generator().get_state(), {})
    for name, priority, resumes in (("a", 0, None), ("b", 0, kept), ("c", 1, None)):
        queue.push(job(name=name, priority=priority, resume_from=resumes))
    assert names(queue) == ["c", "b", "a"]


def test_a_paused_job_goes_first_in_its_priority_and_of_those_the_first_that_came():
    queue = FairQueue()
    kept = Snapshot(0, 3, torch.zeros(1), torch.Generator().get_state(), {})
    recipes = (
        *(("new", 0, 1, {}), ("moved", 0, 2, {"resume_from": kept}), ("higher", 1, 5, {})),
        *(("later", 0, 4, {"paused_at": 9}), ("earlier", 0, 3, {"paused_at": 9})),
    )
    for name, priority, arrived, others in recipes:
        queue.push(job(name=name, priority=priority, arrived=arrived, **others))
    assert names(queue) == ["higher", "earlier", "later", "moved", "new"]


def exchanged(*others: str) -> FairQueue:
    """Tenant `a` has a job of 30 let in for one that it has paused with 10 to go."""
    queue = FairQueue()
    running, high = job("a", steps=20), job("a", steps=30, priority=1)
    queue.push(running)
    queue.pop()
    queue.push(high)
    for tenant in others:
        queue.push(job(tenant, steps=10))
    running.step = 10
    running.pause(0.0)
    queue.exchange(high, [running])
    return queue


def test_a_job_let_in_before_its_turn_is_paid_for_and_the_rest_of_the_paused_paid_back():
    queue = exchanged(*"bbbbbb")
    assert len(queue) == 7
    assert queue.cost == 70
    assert [queue.pop().tenant for _ in range(7)] == list("bbbbabb")  # it owed 20


def test_a_tenant_that_owes_goes_before_its_turn_only_while_nobody_else_waits():
    assert not exchanged("b").may_exchange("a")
    alone = exchanged()
    assert alone.may_exchange("a")
    alone.push(job("b"))
    assert alone.may_exchange("a"), "it owes for what nobody else was there to have"
    charged = FairQueue()
    charged.push(job("a"))
    charged.charge({"a": 100})
    assert charged.may_exchange("a")
    charged.push(job("b"))
    assert not charged.may_exchange("a")


def test_no_paused_job_is_turned_away():
    queue = FairQueue()
    queue.push(job("a", name="paused", priority=-1, paused_at=0.0))
    queue.push(job("a", name="waiting"))
    last = queue.pop_last("a")
    assert last is not None
    assert last.id == "waiting"
    assert queue.pop_last("a") is None
    assert names(queue) == ["paused"]


def test_a_tenant_that_has_not_waited_goes_before_those_with_a_backlog():
    queue = FairQueue()
    for _ in range(64):
        queue.push(job("flood", name="flood"))
    for _ in range(3):
        queue.pop()
    queue.push(job("quiet", name="quiet"))
    assert queue.pop().id == "quiet"


def test_a_tenant_that_sends_one_job_at_a_time_is_not_new_each_time():
    queue = FairQueue()
    for _ in range(40):
        queue.push(job("flood"))
    served = []
    for _ in range(20):
        queue.push(job("dripping"))
        served += [queue.pop().tenant, queue.pop().tenant]
    assert served.count("flood") >= 15


def test_a_tenant_waits_for_what_it_is_charged():
    queue = FairQueue()
    for _ in range(6):
        queue.push(job("charged"))
        queue.push(job("other"))
    queue.charge({"charged": 30})  # three jobs' cost
    assert [queue.pop().tenant for _ in range(12)].count("charged") == 6
    for _ in range(6):
        queue.push(job("charged"))
        queue.push(job("other"))
    queue.charge({"charged": 30})
    first = [queue.pop().tenant for _ in range(6)]
    assert first.count("other") >= 4


def test_a_tenant_that_is_charged_while_it_does_not_wait_does_not_come_as_a_new_one():
    queue = FairQueue()
    for _ in range(6):
        queue.push(job("other"))
    queue.charge({"charged": 20})
    queue.push(job("charged"))
    assert [queue.pop().tenant for _ in range(3)] == ["other"] * 3
    assert "charged" in [queue.pop().tenant for _ in range(4)]


def test_a_charge_beyond_all_measure_is_waited_for_in_bounded_time():
    queue = FairQueue()
    queue.charge({"charged": 10**18, "gone": 10**18})
    queue.push(job("charged", name="charged"))
    for _ in range(2 * MOST_ROUNDS):
        queue.push(job("other"))
    served = [queue.pop().tenant for _ in range(len(queue))]
    assert MOST_ROUNDS // 2 <= served.index("charged") <= MOST_ROUNDS + 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40)), min_size=1, max_size=60))
def test_tenants_with_a_backlog_get_equal_shares_of_the_work(jobs):
    queue = FairQueue()
    for tenant, steps in jobs:
        queue.push(job(tenant, steps))
    left = {tenant: sum(s for t, s in jobs if t == tenant) for tenant in "abc"}
    served = dict.fromkeys("abc", 0)
    most = max(steps for _, steps in jobs)
    while queue:
        backlogged = [tenant for tenant in "abc" if left[tenant] > served[tenant]]
        shares = [served[tenant] for tenant in backlogged]
        if all(served[t] == 0 or left[t] > served[t] for t in "abc"):
            assert max(shares) - min(shares) <= 2 * most + most
        one = queue.pop()
        served[one.tenant] += one.cost
    assert served == left
    with pytest.raises(LookupError):
        queue.pop()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.booleans()), max_size=40),
    st.integers(0, 40),
)
def test_nobody_is_lost_and_positions_add_up(jobs, pops):
    queue, waiting = FairQueue(), []
    for number, (tenant, priority, wanted) in enumerate(jobs):
        one = job(tenant, priority=priority, name=f"{number} {wanted}")
        queue.push(one)
        waiting.append(one)
    for _ in range(min(pops, len(jobs))):
        waiting.remove(queue.pop())
    assert sorted(one.id for one in queue) == sorted(one.id for one in waiting)
    assert queue.cost == sum(one.cost for one in waiting)
    for one in waiting:
        assert 0 <= queue.position(one) < len(queue)
    if waiting:
        longest = queue.longest()
        last = queue.pop_last(longest)
        waiting.remove(last)
        assert last.priority == min(j.priority for j in [*waiting, last] if j.tenant == longest)
    queue.keep_only(lambda one: one.id.endswith("True"))
    waiting = [one for one in waiting if one.id.endswith("True")]
    assert len(queue) == len(waiting)
    assert {one.id for one in queue.pop_all()} == {one.id for one in waiting}
    assert not queue
