"""The tables, each a module with a function `measure(setup, say)` that returns a Report."""

from collections.abc import Mapping

TABLES: Mapping[str, str] = {
    "overhead": "benchmarks.overhead",
    "throughput": "benchmarks.throughput",
    "mixed": "benchmarks.mixed",
    "hops": "benchmarks.hops",
    "snapshots": "benchmarks.snapshots",
    "cancel": "benchmarks.cancel",
    "recovery": "benchmarks.recovery",
    "fairness": "benchmarks.fairness",
    "flood": "benchmarks.flood",
    "attacks": "benchmarks.attacks",
}
