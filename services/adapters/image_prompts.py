"""IP-Adapters of a batch's rows: each row attends to the images of its own, beside its text.

What an attention makes of an image does not change from step to step: keys and values are computed
once a job, and are conditioning of its rows. So rows with different IP-Adapters share forwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

import torch
from cachetools import LRUCache
from diffusers import UNet2DConditionModel
from torch.nn import functional as F

from kandinsky.catalog.adapters import MOST_IMAGES, AdapterError
from kandinsky.v1 import adapters_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.adapters import ip_adapter_file
from services.adapters.ip_adapter_file import IpAdapter
from services.adapters.named import Named

PROMPT, SCALES = "image_prompt_{}", "image_prompt_scales"
"""Conditioning beside that of the family: keys and values [rows, T, C] of each adapter, those of
all attentions after one another, and [rows, K]."""
MOST_STATES = 1024
"""Of one image: a full adapter makes a token of each."""
KEPT = 16
"""IP-Adapters that stay loaded, those that were asked for last."""


class ImagePrompts:
    """Loads IP-Adapters as requests name them, and has a UNet attend to what they show.

    Args:
        network: the UNet. One thread at a time calls it.
        like: has the device and the dtype of its forwards.
        attach: whether the model has adapters; without any, forwards stay as they are.
    """

    def __init__(self, network: UNet2DConditionModel, like: torch.Tensor, *, attach: bool) -> None:
        self._network = network
        self._like = like
        self._attentions = ip_adapter_file.cross_attentions(network)
        self._loaded: LRUCache[Any, IpAdapter] = LRUCache(KEPT)
        self._loading = Lock()
        self._shown: Mapping[str, torch.Tensor] | None = None
        self._query: torch.Tensor | None = None
        """Of the attention at work."""
        if attach:
            self._attach()

    def load(self, named: Named) -> IpAdapter:
        """An IP-Adapter; reads its file where it is not loaded.

        Raises:
            KandinskyError: INVALID_FIELD for a file that cannot be used, or has changed.
        """
        key = named.folder, named.adapter.file, named.version
        try:
            with self._loading:
                if key not in self._loaded:
                    named.check_version()
                    file = named.folder.path(named.adapter)
                    self._loaded[key] = ip_adapter_file.read(file, self._network, self._like)
                return self._loaded[key]
        except AdapterError as error:
            raise named.refused(error) from error

    def rows(self, named: Sequence[Named], count: int) -> Mapping[str, torch.Tensor]:
        """What rows of a job hold beside their conditioning; nothing without IP-Adapters.

        Args:
            named: those of a request.
            count: of the rows: two with guidance, the unconditional one first.

        Raises:
            KandinskyError: INVALID_FIELD for what an adapter cannot read; as `load`.
        """
        if not named:
            return {}
        found = {
            PROMPT.format(i): self._prompt(each, guided=count > 1) for i, each in enumerate(named)
        }
        scales = torch.tensor([[each.scale for each in named]]).expand(count, -1)
        return {**found, SCALES: scales.to(self._like)}

    @contextmanager
    def applied(self, rows: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """The network attends to images within the block.

        Args:
            rows: of the forward, from `rows`.
        """
        self._shown = rows if SCALES in rows else None
        try:
            yield
        finally:
            self._shown, self._query = None, None

    def _prompt(self, named: Named, *, guided: bool) -> torch.Tensor:
        """[rows, T, C]"""
        adapter = self.load(named)
        sides = _sides(named, adapter, guided=guided)
        tokens = torch.stack(
            [adapter.projection(side.to(self._like)).flatten(0, 1) for side in sides]
        )
        layers = [*adapter.keys, *adapter.values]
        return torch.cat([F.linear(tokens, weight) for weight in layers], dim=2)

    def _attach(self) -> None:
        """Have the network's attentions ask for what they attend to."""
        widths: list[int] = [attention.to_k.out_features for attention in self._attentions]
        starts = [sum(widths[:i]) for i in range(len(widths))]
        for attention, width, start in zip(self._attentions, widths, starts, strict=True):
            key, value = (slice(at, at + width) for at in (start, sum(widths) + start))
            attention.to_q.register_forward_hook(self._note_query)
            attend = partial(self._attend, attention.heads, key, value)
            attention.to_out[0].register_forward_pre_hook(attend)

    def _note_query(
        self, module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        if self._shown is not None:
            self._query = output

    def _attend(
        self,
        heads: int,
        key: slice,
        value: slice,
        module: torch.nn.Module,
        args: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...] | None:
        if self._shown is None or self._query is None:
            return None
        found, query = args[0], _by_head(self._query, heads)
        scales = self._shown[SCALES]
        for i in range(scales.shape[1]):
            prompt = self._shown[PROMPT.format(i)]
            made = F.scaled_dot_product_attention(
                query, _by_head(prompt[:, :, key], heads), _by_head(prompt[:, :, value], heads)
            )
            seen = made.transpose(1, 2).flatten(2)
            found = found + scales[:, i, None, None] * seen
        return (found, *args[1:])


def _by_head(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """[rows, L, C] as [rows, heads, L, C / heads]"""
    found: torch.Tensor = tensor.unflatten(2, (heads, -1))
    return found.transpose(1, 2)


def _sides(named: Named, adapter: IpAdapter, *, guided: bool) -> list[torch.Tensor]:
    """What the adapter's projection reads for each row of a job.

    Raises:
        KandinskyError: INVALID_FIELD.
    """
    message, path = named.image_prompt, f"{named.field}.image_prompt"
    if message.images:
        raise invalid(
            f"{path}.images", "a stage takes none; send what an image encoder made of them"
        )
    name = "image_states" if adapter.reads_states else "image_embeds"
    axes = [None, None] if adapter.reads_states else [None]
    shown = _tensor(message, name, path, [*axes, adapter.width])
    if not guided:
        return [shown]
    negative = f"negative_{name}"
    if not adapter.reads_states and not message.HasField(negative):
        return [torch.zeros_like(shown), shown]
    away = _tensor(message, negative, path, [None, *shown.shape[1:]])
    if len(away) not in (1, len(shown)):
        raise invalid(
            f"{path}.{negative}.shape", f"has {len(away)} rows; 1, or one for each of {len(shown)}"
        )
    return [away.expand_as(shown), shown]


def _tensor(
    message: adapters_pb2.ImagePrompt, name: str, path: str, shape: Sequence[int | None]
) -> torch.Tensor:
    if not message.HasField(name):
        raise invalid(f"{path}.{name}", "is required by this adapter")
    found: torch.Tensor = tensors.to_torch(
        getattr(message, name), f"{path}.{name}", dtypes=tensors.FLOATS, shape=shape
    )
    if not 1 <= len(found) <= MOST_IMAGES:
        raise invalid(f"{path}.{name}.shape", f"has {len(found)} rows; 1 to {MOST_IMAGES} fit")
    if found.dim() == 3 and not 1 <= found.shape[1] <= MOST_STATES:
        states = f"has {found.shape[1]} states of an image; 1 to {MOST_STATES} fit"
        raise invalid(f"{path}.{name}.shape", states)
    return found
