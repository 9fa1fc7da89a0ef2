"""The log lines with which requests end, as events that a test can wait for."""

import asyncio
from contextlib import contextmanager

from structlog.testing import capture_logs


class RequestLog:
    """The outcomes of requests, in the order in which they ended."""

    def __init__(self):
        self.outcomes = []
        self._added = asyncio.Event()

    def take(self, _logger, _method, line):
        """A processor of structlog."""
        if line["event"] == "request":
            self.outcomes.append(line["outcome"])
            self._added.set()
        return line

    async def ended(self, count):
        """Return the outcomes, once there are so many."""
        while len(self.outcomes) < count:
            self._added.clear()
            await self._added.wait()
        return self.outcomes


@contextmanager
def request_log():
    """Capture what is logged while the block runs."""
    log = RequestLog()
    with capture_logs([log.take]):
        yield log
