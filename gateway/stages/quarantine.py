"""The quarantine: finds the job that kills replicas, and keeps it from a third one.

A replica that dies takes all its jobs with it, and a cluster loses replicas for reasons of its own.
So a job is suspected only where its next forward was the first of a phase and no replica has done
it yet: later forwards of a phase are like those that succeeded. Suspects are tried one at a time,
so that of two that died together the innocent one clears itself. A suspect whose replica dies at
the same step while it is the only one tried is to blame.

Limits: suspects of other gateways are not known here. A job that breaks replicas in the middle of
a phase is not found, and ends with its patience or its deadline.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Quarantine:
    """The suspects of one gateway; each application has one trial at a time."""

    def __init__(self) -> None:
        self._trials: dict[str, asyncio.Lock] = {}

    def suspicion(self, application: str) -> Suspicion:
        """The suspicion of a job that begins at that application."""
        return Suspicion(self._trials.setdefault(application, asyncio.Lock()))


class Suspicion:
    """Whether one job is to blame; a context manager for as long as the job goes on.

    Args:
        trial: held by the suspect that is tried.
    """

    def __init__(self, trial: asyncio.Lock) -> None:
        self._trial = trial
        self._is_tried = False
        self._step: int | None = None
        """Where a replica died at work on it, if it is a suspect."""

    @property
    def is_suspect(self) -> bool:
        """Whether the next attempt has to be a trial."""
        return self._step is not None

    async def __aenter__(self) -> Suspicion:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clear()

    async def wait_for_trial(self) -> None:
        """Wait, if the job is a suspect, until no other one is tried."""
        if self.is_suspect and not self._is_tried:
            await self._trial.acquire()
            self._is_tried = True

    def note_step(self, step: int) -> None:
        """Note that the job has come to a step; one beyond where it was suspected clears it."""
        if self._step is not None and step > self._step:
            self._clear()

    def note_death(self, step: int) -> bool:
        """Note that a replica died before the job's first forward after `step`.

        Returns:
            Whether the job is to blame.
        """
        is_guilty = self._is_tried and step == self._step
        self._step = step
        return is_guilty

    def _clear(self) -> None:
        self._step = None
        if self._is_tried:
            self._is_tried = False
            self._trial.release()
