"""The adapters of a request, each with the file that its name stands for now."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.requests.input_images import InputImage
from gateway.requests.undecoded import Undecoded
from gateway.requests.value_reader import ValueReader
from kandinsky.catalog.adapters import (
    MOST,
    MOST_IMAGES,
    MOST_IMAGES_IN_ALL,
    Adapter,
    AdapterError,
    AdapterFolder,
)
from kandinsky.catalog.entry import StageCheckpoints
from kandinsky.catalog.family import AdapterKind, Stage
from kandinsky.v1 import adapters_pb2, generation_pb2
from kandinsky.wire.adapter_files import pinned

IMAGE_ENCODER = "image_encoder"
"""The role of a checkpoint."""
_PROMPTS = ("image_embeds", "image_states")


@dataclass(frozen=True)
class NamedAdapter:
    """An adapter that a request names."""

    message: adapters_pb2.Adapter
    """Pinned, without images."""
    kind: AdapterKind
    images: tuple[Undecoded[InputImage], ...] = ()
    """That an IP-Adapter shows, to be encoded; none where the caller sent what was made of them."""


def adapters(
    request: generation_pb2.GenerateRequest, reader: ValueReader
) -> tuple[NamedAdapter, ...]:
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
            named = _named(message, folder, path, reader)
            found.extend([] if named is None else [named])
    shown = sum(len(named.images) for named in found)
    if shown > MOST_IMAGES_IN_ALL:
        violations.add("adapters", f"show {shown} images; the most is {MOST_IMAGES_IN_ALL} in all")
    return tuple(found)


def _named(
    message: adapters_pb2.Adapter, folder: AdapterFolder, path: str, reader: ValueReader
) -> NamedAdapter | None:
    try:
        adapter = folder.named(message.name)
        content = pinned(folder, adapter)
    except AdapterError as error:
        reader.violations.add(f"{path}.name", str(error))
        return None
    own = adapters_pb2.Adapter()
    own.CopyFrom(message)
    if adapter.kind is AdapterKind.IP_ADAPTER:
        own.image_prompt.ClearField("images")
    own.pinned.CopyFrom(content)
    if adapter.kind is AdapterKind.TEXTUAL_INVERSION and message.HasField("scale"):
        sentence = "is a LoRA's or an IP-Adapter's; a textual inversion is there or not"
        reader.violations.add(f"{path}.scale", sentence)
    return NamedAdapter(own, adapter.kind, _images(message, adapter, path, reader))


def _images(
    message: adapters_pb2.Adapter, adapter: Adapter, path: str, reader: ValueReader
) -> tuple[Undecoded[InputImage], ...]:
    """The images that an IP-Adapter shows."""
    violations, path = reader.violations, f"{path}.image_prompt"
    prompt = message.image_prompt
    if adapter.kind is not AdapterKind.IP_ADAPTER:
        if message.HasField("image_prompt"):
            violations.add(path, f"is an IP-Adapter's; {message.name} is a {adapter.kind}")
        return ()
    given = [name for name in _PROMPTS if prompt.HasField(name)]
    ways = [*(["images"] if prompt.images else []), *given]
    if len(ways) != 1:
        have = f"has {' and '.join(ways)}" if ways else "is required for an IP-Adapter"
        violations.add(path, f"{have}; give images, image_embeds or image_states")
        return ()
    for name in _PROMPTS:
        if name not in given and prompt.HasField(f"negative_{name}"):
            violations.add(f"{path}.negative_{name}", f"stands beside {name} alone")
    if given:
        return ()
    home = reader.entry.stages[Stage.ENCODERS]
    if isinstance(home, StageCheckpoints) and IMAGE_ENCODER not in home.checkpoints:
        violations.add(f"{path}.images", "this model has no image encoder; send image_embeds")
        return ()
    if len(prompt.images) > MOST_IMAGES:
        count = len(prompt.images)
        violations.add(f"{path}.images", f"there are {count}; the most is {MOST_IMAGES}")
        return ()
    return reader.images(prompt.images, f"{path}.images", latents=False)
