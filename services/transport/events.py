"""Engine events as messages."""

from typing import Any

from kandinsky.v1 import sampling_pb2
from kandinsky.wire import tensors
from services.engine import events
from services.engine.snapshot import Snapshot
from services.engine.stats import JobStats
from services.transport.resuming import snapshot_message


def event_fields(
    event: events.Queued | events.Progress | events.Preview | events.Alive | Snapshot,
) -> dict[str, Any]:
    """The keyword argument of the stage's event message for an engine event under way."""
    if isinstance(event, events.Alive):
        return {}
    if isinstance(event, Snapshot):
        return {"snapshot": snapshot_message(event)}
    if isinstance(event, events.Queued):
        queued = sampling_pb2.Queued(position=event.position)
        if event.wait is not None:
            queued.wait.FromNanoseconds(round(event.wait * 1e9))
        return {"queued": queued}
    if isinstance(event, events.Preview):
        preview = sampling_pb2.Preview(pixels=tensors.from_torch(event.pixels), step=event.step)
        preview.cost.FromNanoseconds(round(event.seconds * 1e9))
        return {"preview": preview}
    progress = sampling_pb2.Progress(phase=event.phase, step=event.step, steps=event.steps)
    progress.remaining.FromNanoseconds(round(event.remaining * 1e9))
    return {"progress": progress}


def stats_message(stats: JobStats) -> sampling_pb2.SamplingStats:
    """A job's statistics for the wire."""
    message = sampling_pb2.SamplingStats(
        forwards=stats.forwards,
        shared_forwards=stats.shared_forwards,
        first_shared_forward=stats.first_shared_forward,
        last_shared_forward=stats.last_shared_forward,
        peak_rows=stats.peak_rows,
    )
    message.queued.FromNanoseconds(round(stats.queued * 1e9))
    message.running.FromNanoseconds(round(stats.running * 1e9))
    return message
