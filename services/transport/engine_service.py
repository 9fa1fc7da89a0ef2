"""What the services of stages with an engine have in common."""

import os
import socket
from statistics import median

from kandinsky.v1 import sampling_pb2
from services.engine.batcher import Batcher
from services.transport.rpc import Context, unary

REPLICA = f"{socket.gethostname()}:{os.getpid()}"


class EngineService:
    """The RPC methods of a stage that are about its engine.

    Args:
        batcher: the engine.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def check_health(self) -> None:
        """Raise RuntimeError if the engine has died, so that Serve replaces this replica."""
        self._batcher.check()

    @unary(sampling_pb2.GetEngineStatsRequest, sampling_pb2.EngineStats)
    async def GetEngineStats(
        self, request: sampling_pb2.GetEngineStatsRequest, grpc_context: Context
    ) -> sampling_pb2.EngineStats:
        """What the engine has been doing."""
        return engine_stats(self._batcher)


def engine_stats(batcher: Batcher) -> sampling_pb2.EngineStats:
    """What an engine has been doing since it started."""
    counters, limits = batcher.counters, batcher.limits
    leaves = list(counters.leaves)
    stats = sampling_pb2.EngineStats(
        replica=REPLICA,
        max_batch_rows=limits.rows,
        max_batch_latent_area=limits.latent_area,
        max_queue=limits.max_queue,
        running=batcher.running,
        waiting=batcher.waiting,
        forwards=counters.forwards,
        rows=counters.rows,
        shared_forwards=counters.shared_forwards,
        admitted=counters.admitted,
        resumed=counters.resumed,
        finished=counters.finished,
        abandoned=counters.abandoned,
        expired=counters.expired,
        refused=counters.refused,
        failed=counters.failed,
        drained=counters.drained,
        snapshots=counters.snapshots,
        out_of_memory=counters.out_of_memory,
        previews=counters.previews,
        previews_left_out=counters.previews_left_out,
        preempted=counters.preempted,
        cancel_steps_max=max((leave.steps for leave in leaves), default=0),
    )
    if leaves:
        seconds = [leave.seconds for leave in leaves]
        stats.cancel_max.FromNanoseconds(round(max(seconds) * 1e9))
        stats.cancel_median.FromNanoseconds(round(median(seconds) * 1e9))
    return stats
