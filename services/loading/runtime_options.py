"""How a stage runs its networks: precision, memory layout, attention, compilation, offloading.

The catalog says what a model is; these options say how one deployment runs it. They change
rounding, speed and the memory that is taken; `autoencoder_tiling` alone changes what is computed.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.utils import is_xformers_available
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kandinsky.catalog.family import Stage

NO_AUTOENCODER: Mapping[str, str] = dict.fromkeys(
    ("autoencoder_slicing", "autoencoder_tiling"), "it has no autoencoder"
)
CANNOT: Mapping[Stage, Mapping[str, str]] = {
    Stage.ENCODERS: {
        "channels_last": "they work on token sequences",
        "compile": "their batches are formed outside of the engine",
        "cuda_graphs": "their batches are formed outside of the engine",
        "fuse_qkv": "transformers has no fused projections",
        "attention": "transformers has sdpa alone of the three",
        "offload: group": "their networks, of transformers, have no groups; use sequential",
        **NO_AUTOENCODER,
    },
    Stage.PRIOR: {
        "channels_last": "it has no images to lay out",
        "offload: model": "it has one network, which has to make room for no other",
        **NO_AUTOENCODER,
    },
    Stage.DECODER: {},
}
"""What a stage cannot honour, keys or values of keys, and why. What a network cannot is said when
it is loaded."""


class OptionRefused(RuntimeError):
    """An option that this stage, device or installation cannot honour, in one sentence."""


class RuntimeOptions(BaseModel):
    """The key `runtime` of a stage's arguments; contradictions are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "bfloat16", "float16", "float64"] | None = None
    """Of weights and latents; None for the catalog entry's."""
    channels_last: bool | None = None
    """Lays out weights and images as NHWC, which tensor cores and oneDNN read faster. None: those
    of the autoencoder alone, on a CPU, where it then takes two thirds of the time."""
    compile: bool = False
    """Runs the denoising networks and the autoencoder through torch.compile, once a canvas size."""
    compile_backend: str = "inductor"
    """One of torch.compile's."""
    row_buckets: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 6, 8, 12, 16, 20, 24, 28, 32)
    """The row counts that a compiled or captured network sees, ascending; batches are padded."""
    cuda_graphs: bool = False
    """Captures forwards of the denoising networks, once a bucket and canvas size, and replays."""
    fuse_qkv: bool = False
    """Projects query, key and value in one matrix product."""
    attention: Literal["sdpa", "sliced", "xformers"] | None = None
    """None for the library's default, which is sdpa."""
    offload: Literal["none", "model", "sequential", "group"] = "none"
    """Keeps off the device the networks (model), layers (sequential) or blocks of layers (group)
    that are not at work."""
    autoencoder_slicing: bool = False
    """Passes the images of a batch through the autoencoder one by one."""
    autoencoder_tiling: bool = False
    """Passes an image through the autoencoder in overlapping tiles, and blends them."""

    @property
    def buckets_rows(self) -> bool:
        """Whether the denoising networks see the row counts of `row_buckets` alone."""
        return self.compile or self.cuda_graphs

    def lays_out(self, device: torch.device, *, autoencoder: bool) -> bool:
        """Whether a network's weights and images are laid out as NHWC."""
        if self.channels_last is None:
            return autoencoder and device.type == "cpu"
        return self.channels_last

    @property
    def divisions(self) -> tuple[str, ...]:
        """How the autoencoder passes images in parts: slicing, tiling."""
        return tuple(way for way in ("slicing", "tiling") if getattr(self, f"autoencoder_{way}"))

    def check(self, stage: Stage, device: torch.device, has_adapters: bool = False) -> None:
        """Refuses what a stage on a device cannot honour; nothing falls back in silence.

        Args:
            stage: that runs so.
            device: of its networks.
            has_adapters: whether the model takes adapters.

        Raises:
            OptionRefused: names the first such key.
        """
        for key, reason in CANNOT[stage].items():
            if self._asks_for(key):
                raise OptionRefused(f"the {stage.value} stage cannot do runtime.{key}: {reason}")
        if self.fuse_qkv and has_adapters:
            raise OptionRefused(
                "runtime.fuse_qkv: this model takes adapters, which change query, key and value "
                "each by itself; leave out the one or the other"
            )
        if self.cuda_graphs and device.type != "cuda":
            raise OptionRefused(f"runtime.cuda_graphs needs a CUDA device; this one is {device}")
        if self.offload != "none" and device.type == "cpu":
            raise OptionRefused(
                f"runtime.offload: {self.offload} needs an accelerator to keep networks off; "
                "this device is cpu"
            )
        if self.attention == "xformers":
            if not is_xformers_available():
                raise OptionRefused(
                    "runtime.attention: xformers needs the package xformers, which is not installed"
                )
            if device.type != "cuda":
                raise OptionRefused(
                    f"runtime.attention: xformers needs a CUDA device; this one is {device}"
                )

    def _asks_for(self, asked: str) -> bool:
        key, _, value = asked.partition(": ")
        chosen, default = getattr(self, key), type(self).model_fields[key].default
        if value:
            return bool(chosen == value)
        return chosen not in (default, "sdpa")  # sdpa is every stage's

    @field_validator("attention", mode="before")
    @classmethod
    def _is_read(cls, attention: object) -> object:
        backends = {backend.value for backend in AttentionBackendName} - {"xformers"}
        if isinstance(attention, str) and attention in backends:
            raise ValueError(
                f"{attention} is a backend of diffusers' attention dispatcher, which the attention "
                "of these networks never asks; use sdpa, sliced or xformers"
            )
        return attention

    @field_validator("row_buckets")
    @classmethod
    def _ascend(cls, buckets: tuple[int, ...]) -> tuple[int, ...]:
        if not buckets or list(buckets) != sorted(set(buckets)):
            raise ValueError("row_buckets must be one or more ascending row counts")
        return buckets

    @model_validator(mode="after")
    def _do_not_contradict(self) -> "RuntimeOptions":
        if self.cuda_graphs and self.offload != "none":
            raise ValueError(
                f"cuda_graphs and offload: {self.offload} contradict each other: "
                "a captured graph needs its weights to stay in place"
            )
        if self.compile and self.offload in ("sequential", "group"):
            raise ValueError(
                f"compile and offload: {self.offload} contradict each other: "
                "what moves layers breaks the graph at each of them"
            )
        loops = [f"autoencoder_{way}" for way in self.divisions]
        loops += ["attention: sliced"] if self.attention == "sliced" else []
        if self.compile and loops:
            raise ValueError(
                f"compile and {loops[0]} contradict each other: "
                "each number of rows would be compiled by itself"
            )
        if self.fuse_qkv and self.attention in ("sliced", "xformers"):
            raise ValueError(
                f"fuse_qkv and attention: {self.attention} contradict each other: "
                "fused projections come with sdpa"
            )
        return self
