"""Admission: which jobs are refused, and with which error."""

import math

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.fair_queue import FairQueue
from services.engine.forward_sizes import is_out_of_memory
from services.engine.job import Job
from services.engine.step_times import StepTimeEstimator

LEAST_RETRY = 0.1
"""Seconds."""
UNMEASURED_RETRY = 1.0
"""Seconds, before anything was measured."""
DOUBT = 0.7
"""Share of the estimated wait that counts against a deadline: others may leave early."""


def check_deadline(job: Job, queue: FairQueue, step_times: StepTimeEstimator, now: float) -> None:
    """Refuses a job that cannot be done in time, rather than computing it in vain.

    Raises:
        KandinskyError: DEADLINE_EXCEEDED if there is no time even for the job alone; OVERLOADED,
            with a time to come back, if it is what waits before it that takes the time.
    """
    if job.deadline == math.inf:
        return
    left = job.deadline - now
    alone = _least(job, step_times)
    if alone > left:
        raise deadline_exceeded(f"this takes {alone:.2f} s at the least, and {left:.2f} s are left")
    wait = step_times.seconds(sum(other.cost for other in queue.ahead(job))) or 0.0
    if DOUBT * wait + alone > left:
        raise KandinskyError(
            Reason.OVERLOADED,
            f"about {wait:.1f} s of work wait before this, and {left:.1f} s are left",
            retry_after=max(LEAST_RETRY, wait),
        )


def cannot_meet_deadline(job: Job, step_times: StepTimeEstimator, now: float) -> bool:
    """Whether a job could not be done in time if it began now."""
    return job.deadline < math.inf and now + _least(job, step_times) > job.deadline


def overloaded(queue: FairQueue, step_times: StepTimeEstimator) -> KandinskyError:
    """The error for a full queue; by `retry_after`, half of it is done at the measured rate."""
    seconds = step_times.seconds(queue.cost / 2)
    return KandinskyError(
        Reason.OVERLOADED,
        f"{len(queue)} jobs wait already",
        retry_after=UNMEASURED_RETRY if seconds is None else max(LEAST_RETRY, seconds),
    )


def deadline_exceeded(message: str) -> KandinskyError:
    """The error for a job whose deadline has passed, or is bound to."""
    return KandinskyError(Reason.DEADLINE_EXCEEDED, message)


def draining() -> KandinskyError:
    """The error for jobs of an engine that shuts down; another replica takes them at once."""
    return KandinskyError(Reason.DRAINING, "this replica is shutting down", retry_after=LEAST_RETRY)


def failed(error: Exception) -> KandinskyError:
    """The error that a job's caller sees: a domain error itself, else one without detail."""
    if isinstance(error, KandinskyError):
        return error
    if is_out_of_memory(error):
        message = "the device's memory does not hold this request; a smaller image may fit"
        return KandinskyError(Reason.INTERNAL, message)
    return KandinskyError(Reason.INTERNAL, "the model failed on this request")


def _least(job: Job, step_times: StepTimeEstimator) -> float:
    if job.resume_from is None:
        return step_times.least(job.phases_left)
    return step_times.least(job.phases[job.resume_from.phase :], job.resume_from.step)
