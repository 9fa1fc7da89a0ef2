"""Jobs that take their steps together, their states stacked."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from services.device.copies import to_device

if TYPE_CHECKING:
    from services.engine.job import Job

State = Mapping[str, torch.Tensor]
"""What a job carries from step to step, [1, ...] each: the tensor LATENT, and a sampler's own."""
LATENT = "latent"


class Stack:
    """Jobs whose phases have equal steppers, at any steps.

    Nothing is dispatched per job while the same jobs go on: tensors that depend on who is there
    are made once.

    Args:
        members: the jobs.
        states: of each of them in turn.
        deep: what the network's deep part gave for each, [rows, ...], where it is kept.
    """

    def __init__(
        self,
        members: Sequence["Job"],
        states: Sequence[State],
        deep: Sequence[torch.Tensor | None] = (),
    ) -> None:
        self.members = members
        self._deep_parts = list(deep)
        self._deep: torch.Tensor | None = None
        self.state = _stacked(states)
        self.at: Any = None
        """What the stepper knows of the step at work."""
        self._kept: dict[str, torch.Tensor] = {}
        self._counts: tuple[int, ...] = ()
        self._conditioning: dict[str, torch.Tensor] = {}
        self._deep_counts: tuple[int, ...] = ()

    @property
    def latent(self) -> torch.Tensor:
        """[J, ...] of J jobs."""
        return self.state[LATENT]

    @property
    def phases(self) -> list[Any]:
        """Of each job, at work."""
        return [member.phase for member in self.members]

    @property
    def steps(self) -> list[int]:
        """Steps done by each job."""
        return [member.step for member in self.members]

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each job in the next forward."""
        return tuple(member.phase.rows_at(member.step) for member in self.members)

    def state_of(self, place: int) -> State:
        """One job's own."""
        if len(self.members) == 1:
            return self.state
        return {name: tensor.narrow(0, place, 1) for name, tensor in self.state.items()}

    def keep_deep(self, deep: torch.Tensor) -> None:
        """Note what the network's deep part gave for the rows of the stack, [R, ...]."""
        self._deep, self._deep_counts = deep, self.counts

    def deep_of(self, place: int) -> torch.Tensor | None:
        """What it gave for one job's rows; None where nothing is kept."""
        if self._deep is None:
            return self._deep_parts[place] if self._deep_parts else None
        first = sum(self._deep_counts[:place])
        return self._deep.narrow(0, first, self._deep_counts[place])

    def deep(self) -> torch.Tensor:
        """What it gave for the rows of the next forward; where they became less, for the last."""
        if self._deep is not None and self.counts == self._deep_counts:
            return self._deep
        parts = [self.deep_of(place) for place in range(len(self.members))]
        rows = [
            _last(part, count)
            for part, count in zip(parts, self.counts, strict=True)
            if part is not None
        ]
        joined = rows[0] if len(rows) == 1 else torch.cat(rows)
        self.keep_deep(joined)
        return joined

    def kept(self, name: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """A tensor that stays the same while these jobs go on.

        Args:
            name: of it.
            make: is called the first time.
        """
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def rows(self, inputs: torch.Tensor) -> torch.Tensor:
        """What each row's network sees [R, ...], of what each job's does [J, ...]."""
        counts = self._arrange()
        if max(counts) == 1:
            return inputs
        return inputs.index_select(0, self._kept["job of row"])

    def conditional(self, output: torch.Tensor) -> torch.Tensor:
        """The last row of each job [J, ...], of the network's output [R, ...]."""
        if max(self._arrange()) == 1:
            return output
        return output.index_select(0, self._kept["last row"])

    def unconditional(self, output: torch.Tensor) -> torch.Tensor:
        """The first row of each job, likewise; of a job with one row, that."""
        self._arrange()
        return output.index_select(0, self._kept["first row"])

    def has_several(self) -> torch.Tensor:
        """Whether each job has more than one row [J]."""
        self._arrange()
        return self._kept["has several"]

    def conditioning(self) -> dict[str, torch.Tensor]:
        """Named tensors [R, ...]."""
        counts = self._arrange()
        if not self._conditioning:
            parts = [
                {name: _last(tensor, count) for name, tensor in phase.conditioning.items()}
                for phase, count in zip(self.phases, counts, strict=True)
            ]
            self._conditioning = dict(_stacked(parts))
        return self._conditioning

    def _arrange(self) -> tuple[int, ...]:
        """Forgets what was made for other numbers of rows."""
        counts = self.counts
        if counts != self._counts:
            self._counts, self._conditioning = counts, {}
            job_of_row = [job for job, count in enumerate(counts) for _ in range(count)]
            last = [sum(counts[: job + 1]) - 1 for job in range(len(counts))]
            first = [row - count + 1 for row, count in zip(last, counts, strict=True)]
            for name, values in (
                ("job of row", job_of_row),
                ("first row", first),
                ("last row", last),
                ("has several", [count > 1 for count in counts]),
            ):
                self._kept[name] = to_device(torch.tensor(values), self.latent)
        return counts


def _last(rows: torch.Tensor, count: int) -> torch.Tensor:
    return rows if count == len(rows) else rows.narrow(0, len(rows) - count, count)


def _stacked(parts: Sequence[Mapping[str, torch.Tensor]]) -> State:
    if len(parts) == 1:
        return parts[0]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
