"""Requests about a model's adapters, the same for both clients."""

from kandinsky.v1 import adapters_pb2
from kandinsky.wire.errors import invalid

_PREFIX = "ADAPTER_KIND_"
_KINDS = {
    name.removeprefix(_PREFIX).lower().replace("_", "-"): name
    for name, value in adapters_pb2.AdapterKind.items()
    if value
}


def load_request(
    model: str, name: str, file: str, kind: str, token: str | None
) -> adapters_pb2.LoadAdapterRequest:
    """What gives an adapter a name; arguments as of `Client.load_adapter`.

    Raises:
        KandinskyError: INVALID_FIELD for an unknown kind.
    """
    if kind not in _KINDS:
        raise invalid("adapter.kind", f"{kind!r} is none of {', '.join(_KINDS)}")
    adapter = adapters_pb2.AdapterFile(kind=_KINDS[kind], file=file, token=token)
    return adapters_pb2.LoadAdapterRequest(model=model, name=name, adapter=adapter)


def kind_name(adapter: adapters_pb2.AdapterFile) -> str:
    """Such as `lora`."""
    written = adapters_pb2.AdapterKind.Name(adapter.kind)
    return next(kind for kind, name in _KINDS.items() if name == written)
