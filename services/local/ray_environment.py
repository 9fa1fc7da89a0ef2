"""Ray's settings in the environment, which its modules and processes read as they start.

Without them everything works, only slower: these are Ray's own documented choices between isolation
and speed.
"""

import os
from collections.abc import Mapping

from kandinsky.wire.channels import MESSAGE_BYTES

ENVELOPE_BYTES = 2**20
"""What Serve may add to a message."""

ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Replicas of a local cluster reserve no GPU; they must see it all the same.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The proxy speaks gRPC with replicas; through Ray's objects an event costs twice as much.
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MESSAGE_BYTES + ENVELOPE_BYTES),
    # Handlers leave long work to other threads, so that they can share Serve's loop; each event
    # then changes threads less often, and the engine waits less for the interpreter.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # A dead proxy, through which all calls go, is replaced after three checks: 30 s otherwise.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # Of each log file in Ray's session folder, half a gigabyte otherwise; four older ones are kept.
    "RAY_ROTATION_MAX_BYTES": str(10 * 2**20),
    "RAY_ROTATION_BACKUP_COUNT": "4",
    # Ten times a second otherwise, in every process, and when nothing happens too.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
}


def apply() -> None:
    """Set what this process's environment leaves unset; call it before ray is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
