"""IP-Adapter files: how an image becomes tokens, and what each attention makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import ImageProjection

from kandinsky.catalog.adapters import AdapterError
from services.adapters.whole import is_whole

LARGEST = 2**32
"""Bytes of a file."""
PARTS = ("image_proj", "ip_adapter")
Part = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class IpAdapter:
    """An IP-Adapter of one UNet."""

    projection: torch.nn.Module
    """Embeddings [N, D], or states [N, P, D], to tokens [N, T, W]."""
    keys: Sequence[torch.Tensor]
    """[inner, W] of each cross-attention, in the network's order."""
    values: Sequence[torch.Tensor]
    """Likewise."""

    @property
    def reads_states(self) -> bool:
        """Whether it reads an image encoder's states, not its pooled embedding."""
        return not isinstance(self.projection, ImageProjection)

    @property
    def width(self) -> int:
        """D: of the embeddings or states that it reads."""
        first = next(m for m in self.projection.modules() if isinstance(m, torch.nn.Linear))
        return first.in_features


def cross_attentions(network: UNet2DConditionModel) -> list[Attention]:
    """The attentions of a UNet to its text, in the order of adapter files."""
    paths = [path.removesuffix(".processor") for path in network.attn_processors]
    found = [network.get_submodule(path) for path in paths if path.endswith("attn2")]
    return [module for module in found if isinstance(module, Attention)]


def read(file: Path, network: UNet2DConditionModel, like: torch.Tensor) -> IpAdapter:
    """What a file adds to a UNet.

    Args:
        file: safetensors, or a pickle that holds tensors alone.
        network: that it is for.
        like: has the device and the dtype of what is returned.

    Raises:
        AdapterError: it is no such file, too large, for another network, or a FaceID adapter, which
            reads faces.
    """
    image, attention = _load(file)
    if "perceiver_resampler.proj_in.weight" in image or {"norm.weight", "proj.0.weight"} <= set(
        image
    ):
        raise AdapterError(f"{file.name} is a FaceID adapter, which is not supported")
    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    for i, module in enumerate(cross_attentions(network)):
        for name, found, layer in (("k", keys, module.to_k), ("v", values, module.to_v)):
            key = f"{2 * i + 1}.to_{name}_ip.weight"  # self-attentions have the even numbers
            weight, own = attention.get(key), layer.weight
            if weight is None:
                raise AdapterError(f"{file.name} lacks {key}, for an attention of the network")
            if weight.shape != own.shape:
                expected = list(own.shape)
                raise AdapterError(
                    f"{file.name} holds {key} {list(weight.shape)}; the network's is {expected}"
                )
            found.append(weight.to(like))
    if len(attention) != len(keys) + len(values):
        raise AdapterError(f"{file.name} has more attentions than the network")
    try:
        projection = network._convert_ip_adapter_image_proj_to_diffusers(
            image, low_cpu_mem_usage=False
        )
    except (KeyError, IndexError, RuntimeError, ZeroDivisionError) as error:
        raise AdapterError(f"the projection of {file.name} cannot be understood") from error
    adapter = IpAdapter(projection.to(like).eval().requires_grad_(False), keys, values)
    _check_width(file, adapter, keys[0].shape[1], like)
    return adapter


def _check_width(file: Path, adapter: IpAdapter, width: int, like: torch.Tensor) -> None:
    shape = (1, 257, adapter.width) if adapter.reads_states else (1, adapter.width)
    with torch.inference_mode():
        tokens = adapter.projection(like.new_zeros(shape))
    if tokens.dim() != 3 or tokens.shape[2] != width:
        raise AdapterError(
            f"{file.name} makes tokens that are not {width} wide, as the network's are"
        )


def _load(file: Path) -> tuple[Part, Part]:
    """The parts of a file: of the projection, and of the attentions."""
    try:
        if file.stat().st_size > LARGEST:
            raise AdapterError(f"{file.name} is larger than {LARGEST >> 30} GiB")
        if file.suffix == ".safetensors":
            flat = safetensors.torch.load_file(file)
            parts = [
                {k.removeprefix(f"{part}."): v for k, v in flat.items() if k.startswith(f"{part}.")}
                for part in PARTS
            ]
        else:
            content = torch.load(file, "cpu", weights_only=True)
            parts = [content.get(part, {}) for part in PARTS] if isinstance(content, dict) else []
    except (OSError, EOFError, RuntimeError, UnpicklingError, safetensors.SafetensorError) as error:
        raise AdapterError(f"{file.name} cannot be read as an IP-Adapter") from error
    if not parts or not all(_is_part(part) for part in parts):
        raise AdapterError(f"{file.name} holds no IP-Adapter")
    if not all(t.isfinite().all() for part in parts for t in part.values()):
        raise AdapterError(f"{file.name} holds a value that is not finite")
    image, attention = parts
    return image, attention


def _is_part(part: object) -> bool:
    return (
        isinstance(part, Mapping)
        and bool(part)
        and all(isinstance(value, torch.Tensor) and is_whole(value) for value in part.values())
    )
