"""Learning at once that Serve is stopping this replica, rather than when it has waited for it.

On scale-down Serve first waits until a replica's calls have ended, and has no hook that tells the
replica so. The flag that it sets then is private to Ray; the pinned version of Ray has it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from ray._private.worker import global_worker

LOOK_SECONDS = 0.05
FLAG = "_shutting_down"


def when_stopped(action: Callable[[], None]) -> None:
    """Calls `action`, on a thread of its own, once Serve has begun to stop this replica.

    Raises:
        RuntimeError: this process is no replica of the Serve that is known here.
    """
    actors = list(global_worker.actors.values())
    replica = getattr(actors[0], "_replica_impl", None) if len(actors) == 1 else None
    if not hasattr(replica, FLAG):
        raise RuntimeError("this version of Ray Serve does not tell when a replica is stopped")
    threading.Thread(target=_watch, args=(replica, action), name="draining", daemon=True).start()


def _watch(replica: Any, action: Callable[[], None]) -> None:
    while not getattr(replica, FLAG):
        time.sleep(LOOK_SECONDS)
    action()
