"""Adapter files as messages."""

from pydantic import ValidationError

from kandinsky.catalog.adapters import Adapter, AdapterFolder
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1 import adapters_pb2
from kandinsky.wire.errors import invalid

_KINDS = {
    adapters_pb2.ADAPTER_KIND_UNSPECIFIED: AdapterKind.LORA,
    adapters_pb2.ADAPTER_KIND_LORA: AdapterKind.LORA,
    adapters_pb2.ADAPTER_KIND_TEXTUAL_INVERSION: AdapterKind.TEXTUAL_INVERSION,
    adapters_pb2.ADAPTER_KIND_IP_ADAPTER: AdapterKind.IP_ADAPTER,
}


def to_message(adapter: Adapter) -> adapters_pb2.AdapterFile:
    """An adapter as the manifest declares it, as a message."""
    kind = f"ADAPTER_KIND_{adapter.kind.name}"
    return adapters_pb2.AdapterFile(kind=kind, file=adapter.file, token=adapter.token)


def pinned(folder: AdapterFolder, adapter: Adapter) -> adapters_pb2.PinnedAdapter:
    """An adapter with the content that its file has now.

    Raises:
        AdapterError: there is no such file.
    """
    version = folder.version(adapter)
    return adapters_pb2.PinnedAdapter(adapter=to_message(adapter), version=version)


def from_message(message: adapters_pb2.AdapterFile, path: str) -> Adapter:
    """The same the other way.

    Args:
        message: as sent.
        path: of the message in the request.

    Raises:
        KandinskyError: INVALID_FIELD for what no manifest may declare.
    """
    token = message.token if message.HasField("token") else None
    try:
        return Adapter(kind=_KINDS[message.kind], file=message.file, token=token)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([path, *map(str, first["loc"])])
        raise invalid(where, first["msg"].removeprefix("Value error, ")) from error
