"""The errors that end a job, or refuse it."""

from kandinsky.wire.errors import KandinskyError, Reason
from services.engine.forward_sizes import is_out_of_memory

LEAST_RETRY = 0.1
"""Seconds."""


def overloaded(message: str, retry_after: float) -> KandinskyError:
    """The error for a job that would wait too long.

    Args:
        message: one sentence.
        retry_after: seconds; no less than LEAST_RETRY is named.
    """
    return KandinskyError(Reason.OVERLOADED, message, retry_after=max(LEAST_RETRY, retry_after))


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
