"""How far a job has come, across the replicas that it was on."""

from __future__ import annotations

from typing import Any

from kandinsky.v1 import sampling_pb2


class ResumeState:
    """Follows one job's events, and knows how another replica goes on with it.

    Args:
        request: what the job is asked for with; its events name steps of its phases.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        """What a replica is asked with next: from the latest checkpoint on, if there is one."""
        self.resumes = 0
        self.steps_redone = 0
        """Steps that were told of and were then taken again."""
        self.most_steps_redone = 0
        """The most of those after one break."""
        self._redone = 0
        """Those after the latest break."""
        self._phases: dict[str, int] = {}
        """Steps of each phase that told of one, in their order: each tells of its last."""
        self._phase = 0
        self._kept = 0
        """Steps, of all phases, up to the latest checkpoint; so are the next ones."""
        self._now = 0
        self._told = self._previewed = 0
        """Latest steps of which there was news, and a preview."""
        self._furthest = self._furthest_before = 0
        """Latest steps known to be done: of all replicas, and of those before the one at work."""
        self._is_at_work = False
        """Whether the replica has let the job in, or would do so next."""

    @property
    def furthest(self) -> int:
        """Steps, of all phases, that any replica has taken."""
        return self._furthest

    @property
    def untried(self) -> int | None:
        """Steps before the next forward, if it is a phase's first and no replica has done it yet.

        None for any other forward, and while the replica may not have let the job in.
        """
        is_first = self._now == self._furthest == self._start(len(self._phases))
        return self._now if is_first and self._is_at_work else None

    def note(self, event: Any) -> bool:
        """Takes an event in; whether it tells the job's caller anything new."""
        kind = event.WhichOneof("event")
        if kind == "checkpoint":
            self._keep(event.checkpoint)
            return False
        if kind == "queued":
            self._is_at_work = event.queued.position == 0
        if kind == "progress":
            return self._walk(event.progress)
        if kind == "preview":
            place = self._start(self._phase) + event.preview.step
            is_new = place > self._previewed
            self._previewed = max(place, self._previewed)
            return bool(is_new)
        return kind is not None

    def broke(self) -> bool:
        """Goes back to the checkpoint; whether the replica had come further than those before."""
        has_gained = self._furthest > self._furthest_before
        self._furthest_before = self._furthest
        self.resumes += 1
        self._redone, self._is_at_work = 0, False
        self._redo(max(0, self._now - self._kept))
        self._now = self._kept
        return has_gained

    def write(self, stats: sampling_pb2.SamplingStats) -> None:
        """Writes into a result's stats how often the job moved, and what that cost."""
        stats.resumes = self.resumes
        stats.steps_redone = self.steps_redone
        stats.most_steps_redone = self.most_steps_redone

    def _redo(self, steps: int) -> None:
        self.steps_redone += steps
        self._redone += steps
        self.most_steps_redone = max(self._redone, self.most_steps_redone)

    def _keep(self, checkpoint: sampling_pb2.Checkpoint) -> None:
        self.request = _resuming(self.request, checkpoint)
        self._kept = self._start(checkpoint.phase) + checkpoint.step
        self._furthest = max(self._furthest, self._kept)

    def _walk(self, progress: sampling_pb2.Progress) -> bool:
        self._is_at_work = True
        self._phases.setdefault(progress.phase, progress.steps)
        self._phase = list(self._phases).index(progress.phase)
        self._now = self._start(self._phase) + progress.step
        if self._now <= self._kept:  # a pass before the checkpoint's phase, which needs its result
            self._redo(1)
        is_new = self._now > self._told
        self._told = max(self._told, self._now)
        self._furthest = max(self._furthest, self._now)
        return is_new

    def _start(self, phase: int) -> int:
        return sum(list(self._phases.values())[:phase])


def _resuming(request: Any, checkpoint: sampling_pb2.Checkpoint) -> Any:
    resuming = type(request)()
    resuming.CopyFrom(request)
    resuming.resume_from.CopyFrom(checkpoint)
    return resuming
