"""Where a replica's log lines go: to Serve's own logger.

Serve writes it to a file a replica, one JSON object a line, and rotates it; other loggers end as
plain text on a worker's stderr.
"""

import logging


def log_through_serve() -> None:
    """Hands what this process's stage logs to Serve's logger, whatever handlers that has."""
    logging.getLogger("services").parent = logging.getLogger("ray.serve")
