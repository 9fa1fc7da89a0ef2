"""What the engines of running stages say of themselves."""

import time
from collections.abc import Callable

import grpc

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2_grpc, prior_pb2_grpc, sampling_pb2
from kandinsky.wire.channels import OPTIONS
from kandinsky.wire.errors import carries_reason

STUBS = {
    Stage.PRIOR: prior_pb2_grpc.PriorServiceStub,
    Stage.DECODER: decoder_pb2_grpc.DecoderServiceStub,
}
LOOKS = 20
"""Calls that find every replica of a few: each goes to one of them by chance."""
PATIENCE = 60
"""Seconds."""

Stats = dict[str, sampling_pb2.EngineStats]
"""By replica."""


class Engines:
    """Asks the replicas of a model's stages for their stats.

    Args:
        address: of the stages' proxy.
        model: name in the catalog.
    """

    def __init__(self, address: str, model: str = "shapes") -> None:
        self._address = address
        self._entry = Catalog.load()[model]

    def stats(self, stage: Stage) -> Stats:
        """Of every replica of a stage."""
        metadata = [("application", self._entry.application(stage))]
        found: Stats = {}
        with grpc.insecure_channel(self._address, options=OPTIONS) as channel:
            stub = STUBS[stage](channel)
            for _ in range(LOOKS):
                try:
                    one = stub.GetEngineStats(
                        sampling_pb2.GetEngineStatsRequest(), metadata=metadata, timeout=PATIENCE
                    )
                except grpc.RpcError as error:
                    assert not carries_reason(error)  # a replica that has just gone
                    continue
                found[one.replica] = one
        return found

    def until(self, stage: Stage, holds: Callable[[Stats], bool]) -> Stats:
        """Asks again until something holds of the stats."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = self.stats(stage)
            if holds(found):
                return found
        raise AssertionError(f"after {PATIENCE} s still {found}")
