"""The quota of images in flight: what tenants leave to each other, and when to come back."""

from contextlib import ExitStack, suppress

import pytest

from gateway.server.in_flight_quota import InFlightQuota
from kandinsky.wire.errors import KandinskyError, Reason


def test_a_tenant_leaves_room_for_the_others():
    quota = InFlightQuota(8)
    with quota.lease("a") as lease:
        lease.grow(6)
        with pytest.raises(KandinskyError) as refusal, quota.lease("a"):
            pass
        assert refusal.value.reason is Reason.OVERLOADED
        with quota.lease("b"), quota.lease("c"):
            assert quota.held == 8
            with pytest.raises(KandinskyError), quota.lease("d"):
                pass
        with quota.lease("d"):
            pass
    assert quota.held == 0


@pytest.mark.parametrize("tenants", [1, 2, 8])
def test_many_tenants_that_take_all_they_can_leave_some(tenants):
    quota = InFlightQuota(128)
    with ExitStack() as held:
        for number in range(1000):
            with suppress(KandinskyError):
                held.enter_context(quota.lease(f"invented {number % tenants}"))
        assert quota.held >= 128 * 3 // 4
        with quota.lease("another"):
            pass


def test_a_request_of_more_images_than_the_quota_leases_all_it_can_get():
    quota = InFlightQuota(4)
    with quota.lease("") as lease:
        lease.grow(100)
        assert lease.amount == 3


def test_a_refused_request_holds_nothing():
    quota = InFlightQuota(4)
    with quota.lease("a") as first, pytest.raises(KandinskyError), quota.lease("b") as second:
        first.grow(3)
        second.grow(2)
    assert quota.held == 0


def test_the_time_to_come_back_follows_the_measured_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("gateway.server.in_flight_quota.time.monotonic", lambda: now[0])
    quota = InFlightQuota(40)
    with quota.lease("a") as lease:
        lease.grow(30)
        for _ in range(11):  # two images every second
            now[0] += 1
            with quota.lease("b") as done:
                done.grow(2)
                done.note_ended()
        with pytest.raises(KandinskyError) as refusal, quota.lease("a"):
            pass
    assert refusal.value.retry_after == pytest.approx(30 / 2 / 2)
