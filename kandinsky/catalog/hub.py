"""The Hugging Face hub: which commit a revision is, and what goes wrong there, in a sentence each.

The hub's library comes with the extra `serve`; it is imported where it is used.
"""

import errno
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kandinsky.catalog.entry import HubCheckpoint

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

COMMIT = re.compile(r"[0-9a-f]{40}")
GIB = 2**30
WEIGHTS = (".safetensors", ".bin", ".ckpt", ".msgpack", ".onnx", ".onnx_data", ".h5")


class HubError(RuntimeError):
    """What the hub has not given; the message is one sentence for the operator."""


def is_pinned(revision: str) -> bool:
    """Whether a revision is a commit, which stays what it is; a branch or a tag may move."""
    return COMMIT.fullmatch(revision) is not None


def moving(checkpoint: HubCheckpoint) -> str:
    """What to say of a checkpoint whose revision is none."""
    may = "is a branch or a tag, which may move"
    return f"{checkpoint.at} {may}; `kandinsky lock` writes its commit down"


@contextmanager
def asking(name: str, revision: str) -> Iterator[None]:
    """Whatever asks the hub, or loads from it, for the block.

    Raises:
        HubError: it is missing, gated, at another revision, or cannot be reached, or the disk is
            full.
    """
    try:
        yield
    except Exception as error:
        sentence = _sentence(name, revision, error)
        if sentence is None:
            raise
        raise HubError(sentence) from error


def commit(name: str, revision: str) -> str:
    """The commit that a revision is now.

    Raises:
        HubError: see `asking`.
    """
    if is_pinned(revision):
        return revision
    import huggingface_hub

    with asking(name, revision):
        found = huggingface_hub.HfApi().model_info(name, revision=revision).sha
    if not found:
        raise HubError(f"the hub names no commit of {name}@{revision}")
    return found


def check(wanted: Mapping[HubCheckpoint, Collection[str]]) -> None:
    """Check that parts of checkpoints can be had: from the cache, or from the hub.

    A repository is asked once, whatever number of checkpoints it holds.

    Args:
        wanted: subfolders that are loaded, by the checkpoint on the hub.

    Raises:
        HubError: see `asking`; or the disk has too little room for all of them.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    listed = {at: _listed(*at) for at in dict.fromkeys((c.hub, c.revision) for c in wanted)}
    missing: dict[str, dict[str, int]] = {}
    for checkpoint, parts in wanted.items():
        found = listed[checkpoint.hub, checkpoint.revision]
        if found is not None:
            sizes = _missing(found, parts, checkpoint.variant)
            missing.setdefault(checkpoint.hub, {}).update(sizes)
    missing = {name: sizes for name, sizes in missing.items() if sizes}
    total = sum(sum(sizes.values()) for sizes in missing.values())
    folder = Path(HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if total > free:
        verb = "takes" if len(missing) == 1 else "take"
        raise HubError(
            f"{', '.join(missing)} {verb} {total / GIB:.1f} GiB more in {HF_HUB_CACHE}, and "
            f"{free / GIB:.1f} GiB are free there; set HF_HOME to a larger disk"
        )


def _listed(name: str, revision: str) -> "ModelInfo | None":
    """What a revision holds; None where the hub cannot say, and the cache has it.

    Raises:
        HubError: see `asking`.
    """
    import huggingface_hub

    try:
        with asking(name, revision):
            return huggingface_hub.HfApi().model_info(name, revision=revision, files_metadata=True)
    except HubError:
        if _is_cached(name, revision):
            return None
        raise


def _missing(listed: "ModelInfo", parts: Collection[str], variant: str | None) -> dict[str, int]:
    """Bytes of each file of the parts that is not in the cache."""
    import huggingface_hub

    sizes = {file.rfilename: file.size or 0 for file in listed.siblings or []}
    needed = [file for part in parts for file in _files(part, sizes, variant)]
    cached = huggingface_hub.try_to_load_from_cache
    return {
        file: sizes[file]
        for file in needed
        if not isinstance(cached(listed.id, file, revision=listed.sha), str)
    }


def _files(part: str, sizes: dict[str, int], variant: str | None) -> list[str]:
    """What is loaded of a part: its small files, and one form of its weights."""
    own = [file for file in sizes if file.startswith(f"{part}/")]
    weights = [file for file in own if file.endswith(WEIGHTS)]
    small = [file for file in own if file not in weights]
    for suffix in (".safetensors", ".bin"):
        of_form = [file for file in weights if file.endswith(suffix)]
        named = [file for file in of_form if f".{variant}." in file] if variant else []
        if of_form:
            return [*small, *(named or of_form)]
    return small


def _is_cached(name: str, revision: str) -> bool:
    """Whether something of it was loaded before, at that revision."""
    import huggingface_hub

    found = (
        huggingface_hub.try_to_load_from_cache(name, file, revision=revision)
        for file in ("model_index.json", "config.json", "unet/config.json")
    )
    return any(isinstance(path, str) for path in found)


def _sentence(name: str, revision: str, error: BaseException | None) -> str | None:
    """What an error means, by the first of its causes that is known; None for another fault."""
    while error is not None:
        found = _of(name, revision, error)
        if found is not None:
            return found
        error = error.__cause__ or error.__context__
    return None


def _of(name: str, revision: str, error: BaseException) -> str | None:
    from huggingface_hub import errors

    # The root of the errors of the HTTP library, which differs between releases.
    roots = tuple(each for each in errors.HfHubHTTPError.__bases__ if each is not OSError)
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms on the hub, and set HF_TOKEN to a token of yours"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no repository {name}, or none that you may read without HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision}"
    if isinstance(error, errors.HFValidationError):
        return f"{name!r} is neither a folder nor a name on the hub"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return f"the hub cannot be reached for {name}@{revision}, which is not in the cache"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{name}@{revision} lacks a file: {_first_line(error)}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full; {name} is kept in the hub's cache, which HF_HOME moves"
    if isinstance(error, (ConnectionError, *roots)):
        return f"the hub cannot be asked for {name}@{revision}: {_first_line(error)}"
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
