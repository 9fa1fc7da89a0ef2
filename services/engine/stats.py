"""What a job cost, and with which others it shared forwards."""

from dataclasses import dataclass


@dataclass
class JobStats:
    """One job's figures, complete when it has ended."""

    queued: float = 0.0
    """Seconds from arrival to admission."""
    running: float = 0.0
    """Seconds from admission to the result."""
    forwards: int = 0
    shared_forwards: int = 0
    """Forwards in which another job had rows as well."""
    first_shared_forward: int | None = None
    """Index within `forwards`; None if no forward was shared."""
    last_shared_forward: int | None = None
    peak_rows: int = 0
    """Most rows in a forward that the job took part in."""

    def record_forward(self, rows: int, shared: bool) -> None:
        """Count a forward that the job took part in.

        Args:
            rows: of all jobs in it.
            shared: whether another job had rows in it.
        """
        if shared:
            self.shared_forwards += 1
            self.last_shared_forward = self.forwards
            if self.first_shared_forward is None:
                self.first_shared_forward = self.forwards
        self.forwards += 1
        self.peak_rows = max(self.peak_rows, rows)
