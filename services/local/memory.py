"""How much memory a model's stages take, and how much there is."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from kandinsky.catalog.entry import CatalogEntry, FolderCheckpoint
from kandinsky.catalog.family import Stage
from kandinsky.cli.checkpoint_files import weight_files, weights

ITEM_BYTES: Mapping[str, int] = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

REPLICA_BYTES = 400 * 2**20
"""What a replica takes before it loads any weight: Python, torch and Ray."""


def bytes_needed(
    stages: Iterable[tuple[CatalogEntry, Stage]], replicas: Mapping[Stage, int]
) -> int:
    """Bytes that replicas of these stages take; hub checkpoints count as nothing yet.

    Args:
        stages: each with the model that runs it, whose checkpoint folders have been checked.
        replicas: of each stage, 1 where not named.
    """
    return sum(
        (stage_bytes(entry, stage) + REPLICA_BYTES) * replicas.get(stage, 1)
        for entry, stage in stages
    )


def stage_bytes(entry: CatalogEntry, stage: Stage) -> int:
    """Bytes of the weights that one replica of a stage loads, in the entry's dtype."""
    item_bytes, checkpoints = ITEM_BYTES[entry.dtype], entry.checkpoints(stage)
    return sum(
        weights(file).count * item_bytes
        for role in entry.spec.stage_roles(stage)
        if isinstance(checkpoint := checkpoints.get(role.name), FolderCheckpoint)
        for part in role.parts
        for file in weight_files(checkpoint.folder / part, checkpoint.variant)
    )


def bytes_available(system: int, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The least of what the machine has left and what the control groups leave us.

    Args:
        system: bytes that the machine has available.
        cgroups: where the control groups are mounted.
    """
    return min([system, *_left_in_v2(cgroups), *_left_in_v1(cgroups / "memory")])


def _left_in_v2(root: Path) -> list[int]:
    own = root / _own_group("")
    groups = [group for group in (own, *own.parents) if group.is_relative_to(root)]
    return [
        left
        for group in groups
        if (left := _left(group, "memory.max", "memory.current", "inactive_file")) is not None
    ]


def _left_in_v1(root: Path) -> list[int]:
    groups = {root, root / _own_group("memory")}
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return [left for group in groups if (left := _left(group, *names)) is not None]


def _left(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Bytes left in one group, its reclaimable page cache counted as free; None if unlimited."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None  # no such controller here
    if not most.isdecimal():
        return None
    return max(0, int(most) - used + int(statistics.get(cache, 0)))


def _own_group(controller: str) -> str:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.strip("/")
    return ""
