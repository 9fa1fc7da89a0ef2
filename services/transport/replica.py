"""What every replica of a stage does as it starts."""

import logging
import os
from pathlib import Path

import torch

from services.loading.memory import keep_freed_memory
from services.transport.settings import StageSettings


def prepare_process(settings: StageSettings) -> None:
    """Set up this process: threads, logs, memory."""
    torch.set_num_threads(settings.threads)
    keep_compiled()
    log_through_serve()
    keep_freed_memory()


def keep_compiled() -> None:
    """Keep what torch.compile makes on disk, so that a restart does not pay for it again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "kandinsky-serve" / "compiled"))


def log_through_serve() -> None:
    """Pass this process's log lines to Serve's logger.

    Serve writes them to a file a replica, one JSON object a line, and rotates it; other loggers end
    as plain text on a worker's stderr.
    """
    logging.getLogger("services").parent = logging.getLogger("ray.serve")
