"""Serve's choice of a replica: calls that could share forwards go together."""

import random
from collections.abc import Hashable

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

from services.transport.homes import Homes


class SharingRouter(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Serve's have no types
    """Sends calls that name a kind to its home, and others to the less loaded of two replicas.

    A call names its kind in Serve's metadata key `multiplexed_model_id`, the one of those that
    come through its proxy which a router can read. Loads are those that Serve keeps of each
    replica: from its answers, and from what went there since.
    """

    def initialize_state(self) -> None:
        self._homes = Homes()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Replicas in ranks: of the first that has one with room, the least loaded is taken."""
        kind = ""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # where none of them has room
            kind = pending_request.metadata.multiplexed_model_id
        if not candidate_replicas:
            return []
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        loads: dict[Hashable, int | None] = {
            replica.replica_id: self.replica_queue_len_cache.get(replica.replica_id)
            for replica in candidate_replicas
        }
        known = {replica: load for replica, load in loads.items() if load is not None}
        if not kind or len(known) < len(loads):
            return [two]  # Serve asks those of unknown load
        chosen = self._homes.choose(kind, known)
        return [[each for each in candidate_replicas if each.replica_id == chosen], two]
