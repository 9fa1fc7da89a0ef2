"""A catalog folder's lock: the commit of each hub revision that its entries name."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from kandinsky.catalog.entry import CatalogEntry, CatalogError, HubCheckpoint, StageCheckpoints
from kandinsky.catalog.hub import COMMIT, is_pinned

NAME = "hub.lock"
"""Of the file, beside the entries."""
HEAD = "# Written by `kandinsky lock`: the commit of each name@revision on the hub.\n"

Commits = Mapping[str, str]
"""By `name@revision`."""


def read(folder: Path) -> Commits:
    """The commits that a folder's lock holds; none where there is no lock.

    Raises:
        CatalogError: it is no mapping of names to commits.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        commits = TypeAdapter(dict[str, str]).validate_python(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        why = "cannot be read; run `kandinsky lock` again"
        raise CatalogError(f"{path} {why}") from error
    for name, commit in commits.items():
        if COMMIT.fullmatch(commit) is None:
            raise CatalogError(
                f"{path}: {name}: {commit!r} is no commit; run `kandinsky lock` again"
            )
    return commits


def write(folder: Path, commits: Commits) -> Path:
    """Write a folder's lock; returns its path."""
    path = folder / NAME
    text = yaml.safe_dump(dict(sorted(commits.items())), sort_keys=True)
    path.write_text(HEAD + text, encoding="utf-8")
    return path


def moving(entry: CatalogEntry) -> list[HubCheckpoint]:
    """An entry's checkpoints whose revision is no commit, each name and revision once."""
    found = {
        checkpoint.at: checkpoint
        for home in entry.stages.values()
        if isinstance(home, StageCheckpoints)
        for checkpoint in home.checkpoints.values()
        if isinstance(checkpoint, HubCheckpoint) and not is_pinned(checkpoint.revision)
    }
    return list(found.values())


def locked(entry: CatalogEntry, commits: Commits) -> CatalogEntry:
    """The entry at the commits of a lock."""
    stages = {}
    for stage, home in entry.stages.items():
        if isinstance(home, StageCheckpoints):
            at = {
                role: checkpoint.model_copy(
                    update={"revision": commits.get(checkpoint.at, checkpoint.revision)}
                )
                if isinstance(checkpoint, HubCheckpoint)
                else checkpoint
                for role, checkpoint in home.checkpoints.items()
            }
            home = home.model_copy(update={"checkpoints": at})
        stages[stage] = home
    return entry.model_copy(update={"stages": stages})
