"""The adapters that a request names, and the files that the names stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

from kandinsky.catalog.adapters import MOST, Adapter, AdapterError, AdapterFolder
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1 import adapters_pb2
from kandinsky.wire.adapter_files import from_message, pinned
from kandinsky.wire.errors import KandinskyError, invalid

PATH = "adapters"


@dataclass(frozen=True)
class Named:
    """An adapter that a request names."""

    field: str
    """Of the request."""
    scale: float
    adapter: Adapter
    folder: AdapterFolder
    version: str
    """Of its file, when the request was admitted."""
    image_prompt: adapters_pb2.ImagePrompt
    """What an IP-Adapter shows."""

    def check_version(self) -> None:
        """Look whether the file is still the one that was named.

        Raises:
            AdapterError: it is gone, or has changed.
        """
        if self.folder.version(self.adapter) != self.version:
            raise AdapterError(f"{self.adapter.file} has changed since the request began")

    def refused(self, error: AdapterError) -> KandinskyError:
        """An error of this adapter, as the request's."""
        return invalid(f"{self.field}.name", str(error))


def pin(folder: AdapterFolder | None, adapters: Sequence[adapters_pb2.Adapter]) -> None:
    """Write into each message what its name stands for, where the caller did not; reads files.

    Args:
        folder: of the model's adapters; None for a model without any.
        adapters: of a request.

    Raises:
        KandinskyError: INVALID_FIELD for a model without adapters, too many, or a name that it has
            not.
    """
    if folder is None:
        refuse(adapters)
        return
    if len(adapters) > MOST:
        raise invalid(PATH, f"there are {len(adapters)}; the most is {MOST}")
    for i, message in enumerate(adapters):
        if message.HasField("pinned"):
            continue
        try:
            message.pinned.CopyFrom(pinned(folder, folder.named(message.name)))
        except AdapterError as error:
            raise invalid(f"{PATH}[{i}].name", str(error)) from error


def named(
    folder: AdapterFolder | None, adapters: Sequence[adapters_pb2.Adapter], kind: AdapterKind
) -> list[Named]:
    """The adapters of one kind; none of a model without any.

    Args:
        folder: as of `pin`.
        adapters: pinned.
        kind: of those that are returned.

    Raises:
        KandinskyError: INVALID_FIELD for a file outside the folder, or of another kind.
    """
    if folder is None:
        return []
    found = [_named(folder, message, f"{PATH}[{i}]") for i, message in enumerate(adapters)]
    return [each for each in found if each.adapter.kind is kind]


def refuse(adapters: Sequence[adapters_pb2.Adapter]) -> None:
    """Refuse adapters of a model that has none.

    Raises:
        KandinskyError: INVALID_FIELD.
    """
    if adapters:
        raise invalid(PATH, "this model takes none")


def _named(folder: AdapterFolder, message: adapters_pb2.Adapter, field: str) -> Named:
    return Named(
        field,
        message.scale if message.HasField("scale") else 1.0,
        from_message(message.pinned.adapter, f"{field}.pinned.adapter"),
        folder,
        message.pinned.version,
        message.image_prompt,
    )
