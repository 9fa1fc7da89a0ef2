"""What every replica of a stage does as it starts."""

import logging
import os
import tempfile
from pathlib import Path

import torch

from services.loading.memory import keep_freed_memory
from services.transport.settings import StageSettings

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def prepare_process(settings: StageSettings) -> None:
    """Set up this process: threads, logs, memory."""
    torch.set_num_threads(settings.threads)
    keep_compiled()
    log_through_serve()
    keep_freed_memory()


def keep_compiled() -> None:
    """Keep what torch.compile makes on disk, so that a restart does not pay for it again."""
    chosen = os.environ.get(CACHE_VARIABLE, "")
    if chosen and not chosen.startswith(f"{tempfile.gettempdir()}/torchinductor_"):
        return  # by whoever runs this; torch itself sets it to a temporary folder
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ[CACHE_VARIABLE] = str(cache / "kandinsky-serve" / "compiled")


def log_through_serve() -> None:
    """Pass this process's log lines to Serve's logger.

    Serve writes them to a file a replica, one JSON object a line, and rotates it; other loggers end
    as plain text on a worker's stderr.
    """
    logging.getLogger("services").parent = logging.getLogger("ray.serve")
