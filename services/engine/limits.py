"""How much the engine takes on at once."""

from pydantic import BaseModel, ConfigDict, Field


class EngineLimits(BaseModel):
    """Bounds of one replica's engine, set by the Serve configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_rows: int = Field(default=32, ge=2)
    """Rows of all running jobs; a guided image has two."""
    max_batch_pixels: int = Field(default=32 * 128 * 128, ge=1)
    """Latent pixels of all running rows; 32 rows of a 1024-pixel picture by default."""
    max_queue: int = Field(default=256, ge=1)
    """Jobs that may wait; one more is refused."""
