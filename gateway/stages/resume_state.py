"""The resume state: how far a job has come, over all replicas that it ran on."""

from __future__ import annotations

from typing import Any

from kandinsky.v1 import sampling_pb2


class ResumeState:
    """Follows one job's events, and holds the request with which another replica goes on.

    Steps are counted over all phases of the job.

    Args:
        request: the job's; its events name steps of its phases.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        """What the next replica is sent: it goes on from the latest snapshot, if there is one."""
        self.resumes = 0
        self.steps_redone = 0
        """Steps that were reported and then taken again."""
        self.most_steps_redone = 0
        """The most of those after one break."""
        self._redone = 0
        """Those after the latest break."""
        self._phases: dict[str, int] = {}
        """Steps of each phase that reported one, in their order: each phase reports its last."""
        self._phase = 0
        self._kept = 0
        """The step of the latest snapshot."""
        self._now = 0
        """The latest step of the replica at work."""
        self._reported = self._previewed = 0
        """Latest steps that were passed on to the job's caller, and whose preview was."""
        self._furthest = self._furthest_before = 0
        """Latest steps known to be done: by all replicas, and by those before the one at work."""
        self._is_at_work = False
        """Whether the replica has admitted the job, or would do so next."""

    @property
    def furthest(self) -> int:
        """The latest step that any replica has taken."""
        return self._furthest

    @property
    def untried(self) -> int | None:
        """Steps before the next forward, if it is a phase's first and no replica has done it yet.

        None for any other forward, and while the replica may not have admitted the job.
        """
        is_first = self._now == self._furthest == self._start(len(self._phases))
        return self._now if is_first and self._is_at_work else None

    def note(self, event: Any) -> bool:
        """Take in an event; return whether the job's caller has not seen its like yet."""
        kind = event.WhichOneof("event")
        if kind == "snapshot":
            self._keep(event.snapshot)
            return False
        if kind == "queued":
            self._is_at_work = event.queued.position == 0
        if kind == "progress":
            return self._note_progress(event.progress)
        if kind == "preview":
            step = self._start(self._phase) + event.preview.step
            is_new = step > self._previewed
            self._previewed = max(step, self._previewed)
            return bool(is_new)
        return kind is not None

    def note_break(self) -> bool:
        """Go back to the snapshot; return whether the replica had come further than all before."""
        has_gained = self._furthest > self._furthest_before
        self._furthest_before = self._furthest
        self.resumes += 1
        self._redone, self._is_at_work = 0, False
        self._redo(max(0, self._now - self._kept))
        self._now = self._kept
        return has_gained

    def write(self, stats: sampling_pb2.SamplingStats) -> None:
        """Write into a result's stats how often the job was resumed, and what that cost."""
        stats.resumes = self.resumes
        stats.steps_redone = self.steps_redone
        stats.most_steps_redone = self.most_steps_redone

    def _redo(self, steps: int) -> None:
        self.steps_redone += steps
        self._redone += steps
        self.most_steps_redone = max(self._redone, self.most_steps_redone)

    def _keep(self, snapshot: sampling_pb2.Snapshot) -> None:
        self.request = _resuming(self.request, snapshot)
        self._kept = self._start(snapshot.phase) + snapshot.step
        self._furthest = max(self._furthest, self._kept)

    def _note_progress(self, progress: sampling_pb2.Progress) -> bool:
        self._is_at_work = True
        self._phases.setdefault(progress.phase, progress.steps)
        self._phase = list(self._phases).index(progress.phase)
        self._now = self._start(self._phase) + progress.step
        if self._now <= self._kept:  # a pass before the snapshot's phase, which needs its result
            self._redo(1)
        is_new = self._now > self._reported
        self._reported = max(self._reported, self._now)
        self._furthest = max(self._furthest, self._now)
        return is_new

    def _start(self, phase: int) -> int:
        return sum(list(self._phases.values())[:phase])


def _resuming(request: Any, snapshot: sampling_pb2.Snapshot) -> Any:
    resuming = type(request)()
    resuming.CopyFrom(request)
    resuming.resume_from.CopyFrom(snapshot)
    return resuming
