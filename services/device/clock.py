"""Moments on the device: when the work that it was given before them has ended."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch


class Moment(ABC):
    """A point in the order of a device's work."""

    @abstractmethod
    def wait(self) -> None:
        """Returns once the device has come to it."""

    @abstractmethod
    def seconds_since(self, earlier: "Moment") -> float:
        """Of the device, from an earlier moment of the same device to this one; both are past."""


@dataclass(frozen=True)
class Span:
    """From one moment to a later one."""

    begins: Moment
    ends: Moment

    @property
    def seconds(self) -> float:
        """Of the device; the end has come."""
        return self.ends.seconds_since(self.begins)


class DeviceClock(ABC):
    """Marks moments in a device's work."""

    steps_ahead: int
    """That the host may give the device while it works on another."""

    @abstractmethod
    def mark(self) -> Moment:
        """The moment at which all work given so far has ended."""


class HostMoment(Moment):
    """Of a device whose work ends before the call that gives it: the CPU."""

    def __init__(self, at: float) -> None:
        self._at = at

    def wait(self) -> None:
        pass

    def seconds_since(self, earlier: Moment) -> float:
        if not isinstance(earlier, HostMoment):
            raise TypeError("moments of two devices have no time between them")
        return self._at - earlier._at


class HostClock(DeviceClock):
    """The CPU's.

    Args:
        clock: seconds.
    """

    steps_ahead = 0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def mark(self) -> HostMoment:
        return HostMoment(self._clock())


class CudaMoment(Moment):
    """An event on the stream of the thread that made it."""

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True, blocking=True)
        self._event.record()

    def wait(self) -> None:
        self._event.synchronize()

    def seconds_since(self, earlier: Moment) -> float:
        if not isinstance(earlier, CudaMoment):
            raise TypeError("moments of two devices have no time between them")
        milliseconds: float = earlier._event.elapsed_time(self._event)
        return milliseconds / 1e3


class CudaClock(DeviceClock):
    """A CUDA device's, at which the host is one step ahead."""

    steps_ahead = 1

    def mark(self) -> CudaMoment:
        return CudaMoment()


def clock_of(device: torch.device, clock: Callable[[], float] = time.monotonic) -> DeviceClock:
    """The clock of a device.

    Args:
        device: where the networks are.
        clock: seconds of the host.
    """
    return CudaClock() if device.type == "cuda" else HostClock(clock)
