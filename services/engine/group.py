"""Groups: jobs that can share a forward."""

from dataclasses import dataclass

from services.engine.layout import RowLayout
from services.engine.phase import Network, Phase
from services.engine.stack import State


@dataclass(frozen=True)
class GroupKey:
    """Jobs with equal keys can share a forward."""

    network: Network
    inputs: RowLayout
    conditioning: tuple[tuple[str, RowLayout], ...] = ()
    adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, phase: Phase, step: int, state: State) -> "GroupKey":
        """The key of a job in a phase.

        Args:
            phase: at work.
            step: that comes next.
            state: of the job.
        """
        conditioning = sorted(phase.conditioning.items())
        return cls(
            phase.network_at(step),
            phase.layout(state),
            tuple((name, RowLayout.of(tensor)) for name, tensor in conditioning),
            phase.adapters,
        )
