"""How a stage runs its networks: precision, memory layout, attention, compilation, offloading.

The catalog says what a model is; these options say how one deployment runs it. None of them
changes what is computed, only its rounding, its speed and the memory that it takes.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from diffusers.utils import is_xformers_available
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kandinsky.catalog.family import Stage

CANNOT: Mapping[Stage, Mapping[str, str]] = {
    Stage.ENCODERS: {
        "channels_last": "they work on token sequences",
        "compile": "their batches are formed outside of the engine",
        "cuda_graphs": "their batches are formed outside of the engine",
        "fuse_qkv": "transformers has no fused projections",
        "attention": "transformers has sdpa alone of the three",
    },
    Stage.PRIOR: {
        "channels_last": "it has no images to lay out",
        "offload": "it has one network, which has to make room for no other",
    },
    Stage.DECODER: {},
}
"""What a stage cannot honour, and why. What a network cannot is said when it is loaded."""


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
    offload: Literal["none", "model", "sequential"] = "none"
    """Keeps off the device the networks (model) or layers (sequential) that are not at work."""

    @property
    def buckets_rows(self) -> bool:
        """Whether the denoising networks see the row counts of `row_buckets` alone."""
        return self.compile or self.cuda_graphs

    def lays_out(self, device: torch.device, *, autoencoder: bool) -> bool:
        """Whether a network's weights and images are laid out as NHWC."""
        if self.channels_last is None:
            return autoencoder and device.type == "cpu"
        return self.channels_last

    def check(self, stage: Stage, device: torch.device) -> None:
        """Refuses what a stage on a device cannot honour; nothing falls back in silence.

        Raises:
            OptionRefused: names the first such key.
        """
        for key, reason in CANNOT[stage].items():
            if self._asks_for(key):
                raise OptionRefused(f"the {stage.value} stage cannot do runtime.{key}: {reason}")
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

    def _asks_for(self, key: str) -> bool:
        default = type(self).model_fields[key].default
        return getattr(self, key) not in (default, "sdpa")  # sdpa is every stage's

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
        if self.compile and self.offload == "sequential":
            raise ValueError(
                "compile and offload: sequential contradict each other: "
                "moving every layer breaks the graph at every layer"
            )
        if self.fuse_qkv and self.attention in ("sliced", "xformers"):
            raise ValueError(
                f"fuse_qkv and attention: {self.attention} contradict each other: "
                "fused projections come with sdpa"
            )
        return self
