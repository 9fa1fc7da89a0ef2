"""Log lines as JSON, one an event, on stderr or in a file that rotates."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

MOST_CHARACTERS = 200
"""Of a value in a log line: callers wrote much of what stands there."""
MOST_OF = {"event": 1000, "details": 2000, "exception": 8000}
"""What the system itself writes may be longer."""
OWN = "gateway"
"""The standard library's logger that the system's own lines go through."""
FILE_BYTES = 10 * 2**20
"""Size at which a log file is rotated."""
OLD_FILES = 4
"""Rotated files that are kept, `.1` the latest."""


def log_json(file: Path | None = None) -> None:
    """Send every log line of this process to stderr or a file, one JSON object a line.

    Records of the standard library's loggers and uncaught exceptions are lines as well.

    Args:
        file: where lines are appended; None for stderr.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        truncate,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: logging.getLogger(OWN),
        cache_logger_on_first_use=True,
    )
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if file is not None:
        handler = logging.handlers.RotatingFileHandler(
            file, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8"
        )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(),
            foreign_pre_chain=[*shared[:-1], _name_logger, truncate],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # The system's own lines, which structlog has filtered already.
    logging.getLogger(OWN).setLevel(logging.INFO)
    _catch_the_uncaught()


def truncate(_: Any, __: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    """A processor that cuts long values, and adds how long they were."""
    for key, value in line.items():
        if isinstance(value, bool | int | float | None) or key.startswith("_"):
            continue
        text, most = str(value), MOST_OF.get(key, MOST_CHARACTERS)
        if len(text) > most:
            kept = f"… {text[-most:]}" if key == "exception" else f"{text[:most]} …"
            line[key] = f"{kept} ({len(text)} characters)"
    return line


def _name_logger(logger: Any, _: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    line["logger"] = line["_record"].name
    return line


def _catch_the_uncaught() -> None:
    log = structlog.get_logger()

    def report(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
            log.critical("uncaught exception", exc_info=(kind, error, trace))

    sys.excepthook = report
    sys.unraisablehook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
    threading.excepthook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
