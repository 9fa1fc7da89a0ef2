"""How much the engine takes on at once."""

from pydantic import BaseModel, ConfigDict, Field

UNMEASURED_ROWS = 32
UNMEASURED_LATENT_AREA = 32 * 128 * 128
"""32 rows of a 1024-pixel image."""
MOST_STEPS_BETWEEN_SNAPSHOTS = 10


class EngineLimits(BaseModel):
    """Bounds of one replica's engine, set by the Serve configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_rows: int | None = Field(default=None, ge=2)
    """Rows of all running jobs; a guided image has two. None: measured at start-up."""
    max_batch_latent_area: int | None = Field(default=None, ge=1)
    """Latent area of all running rows. None: measured at start-up."""
    max_queue: int = Field(default=256, ge=1)
    """Jobs that may wait; one more is refused."""
    snapshot_every: int = Field(default=10, ge=1, le=MOST_STEPS_BETWEEN_SNAPSHOTS)
    """Steps of a job between two snapshots: what is done again at most when a replica is lost."""
    alive_seconds: float = Field(default=15, gt=0)
    """Longest silence towards a job's caller, which treats a longer one as a lost replica."""

    @property
    def rows(self) -> int:
        """Most rows of all running jobs."""
        return self.max_batch_rows or UNMEASURED_ROWS

    @property
    def latent_area(self) -> int:
        """The most latent area of all running rows."""
        return self.max_batch_latent_area or UNMEASURED_LATENT_AREA

    def measured(self, rows: int, latent_area: int) -> "EngineLimits":
        """The same, with what the configuration left open as calibration measured it."""
        return self.model_copy(
            update={
                "max_batch_rows": self.max_batch_rows or max(rows, 2),
                "max_batch_latent_area": self.max_batch_latent_area or max(latent_area, 1),
            }
        )
