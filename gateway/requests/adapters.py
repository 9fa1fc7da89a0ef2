"""The adapters of a request, each with the file that its name stands for now."""

from __future__ import annotations

from gateway.requests.value_reader import ValueReader
from gateway.requests.violations import Violations
from kandinsky.catalog.adapters import MOST, Adapter, AdapterError, AdapterFolder
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1 import adapters_pb2, generation_pb2
from kandinsky.wire.adapter_files import to_message


def adapters(
    request: generation_pb2.GenerateRequest, reader: ValueReader
) -> tuple[adapters_pb2.Adapter, ...]:
    """The adapters that a request names, pinned: what comes later changes no request at work."""
    folder, violations = reader.entry.adapter_folder, reader.violations
    if not request.adapters:
        return ()
    if folder is None:
        violations.add("adapters", "this model takes none")
        return ()
    if len(request.adapters) > MOST:
        violations.add("adapters", f"there are {len(request.adapters)}; the most is {MOST}")
        return ()
    names = [adapter.name for adapter in request.adapters]
    found = []
    for i, message in enumerate(request.adapters):
        path = f"adapters[{i}]"
        if message.HasField("pinned"):
            violations.narrow(f"{path}.pinned", "is the gateway's to set")
        elif message.name in names[:i]:
            violations.add(f"{path}.name", "is named before")
        elif not violations.within(path):
            pinned = _pinned(message, folder, path, violations)
            found.extend([] if pinned is None else [pinned])
    return tuple(found)


def _pinned(
    message: adapters_pb2.Adapter, folder: AdapterFolder, path: str, violations: Violations
) -> adapters_pb2.Adapter | None:
    try:
        adapter = folder.named(message.name)
        version = folder.version(adapter)
    except AdapterError as error:
        violations.add(f"{path}.name", str(error))
        return None
    _check(message, adapter, path, violations)
    pinned = adapters_pb2.PinnedAdapter(adapter=to_message(adapter), version=version)
    found = adapters_pb2.Adapter()
    found.CopyFrom(message)
    found.pinned.CopyFrom(pinned)
    return found


def _check(
    message: adapters_pb2.Adapter, adapter: Adapter, path: str, violations: Violations
) -> None:
    if adapter.kind is AdapterKind.TEXTUAL_INVERSION and message.HasField("scale"):
        violations.add(f"{path}.scale", "is a LoRA's; a textual inversion is there or not")
