"""MoVQ, the autoencoder of the Kandinsky 2 family, as phases of one pass each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from diffusers import VQModel

from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.v1.sampling_pb2 import Canvas
from kandinsky.wire import tensors
from kandinsky.wire.errors import invalid
from services.decoder.previews import LinearPreview, Previewing, as_bytes
from services.engine.phase import Phase, Stateless
from services.loading.denoising_call import channels_last


class DecodeNetwork:
    """Latents [rows, C, h, w] to pictures [rows, 3, H, W] from 0 to 1."""

    name = "movq decode"

    def __init__(self, movq: VQModel, lays_out: bool = False) -> None:
        self.movq = movq
        self._lays_out = lays_out

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._lays_out:
            inputs = channels_last(inputs)
        pictures = self.movq.decode(inputs, force_not_quantize=True).sample
        return (pictures * 0.5 + 0.5).clamp(0, 1)


class EncodeNetwork:
    """Pictures [rows, 3, H, W] from -1 to 1 to latents [rows, C, h, w]."""

    name = "movq encode"

    def __init__(self, movq: VQModel, lays_out: bool = False) -> None:
        self.movq = movq
        self._lays_out = lays_out

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._lays_out:
            inputs = channels_last(inputs)
        return self.movq.encode(inputs).latents


@dataclass(eq=False)
class OnePass(Stateless, Phase):
    """A single forward: the given value, or what the phase before ended with, goes through."""

    name: str
    network: DecodeNetwork | EncodeNetwork
    latent_area: int
    given: torch.Tensor | None = None
    rows: int = 1
    timesteps: Sequence[torch.Tensor] = (torch.zeros(()),)
    conditioning: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        return value if self.given is None else self.given

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return latent

    def advance(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        return output


class MoVQ:
    """The phases that one MoVQ offers.

    Args:
        movq: the network.
        lays_out: whether its weights, and so its inputs, are laid out as NHWC.
    """

    def __init__(self, movq: VQModel, lays_out: bool = False) -> None:
        self._decode = DecodeNetwork(movq, lays_out)
        self._encode = EncodeNetwork(movq, lays_out)
        self.latent_channels: int = movq.config.latent_channels
        self.scale_factor: int = 2 ** (len(movq.config.block_out_channels) - 1)
        """Pixels of the picture along one side of a latent pixel."""
        self._linear_preview: LinearPreview | None = None

    def decoding(self, shape: tuple[int, ...], latents: torch.Tensor | None = None) -> Phase:
        """Latent to picture [1, 3, H, W] from 0 to 1.

        Args:
            shape: of the latent, [C, h, w].
            latents: [1, C, h, w]; None for what the phase before ends with.
        """
        return OnePass("decode", self._decode, shape[1] * shape[2], latents)

    def previewing(self, mode: sampling_pb2.PreviewMode) -> Previewing:
        """Makes previews of latents: by the linear map, or by decoding."""
        return self._decoded if mode == sampling_pb2.PREVIEW_MODE_DECODE else self._mapped

    def encoding(self, pixels: tensor_pb2.Tensor, path: str, like: torch.Tensor) -> Phase:
        """Picture to latent [1, C, h, w].

        Args:
            pixels: uint8 [H, W, 3], or float32 of the same shape from -1 to 1.
            path: the field's, for errors.
            like: has the network's device and dtype.

        Raises:
            KandinskyError: INVALID_FIELD if a side is no multiple of `scale_factor`, or a value
                is out of range.
        """
        allowed = tensors.UINT8 | tensors.FLOATS
        picture = tensors.to_torch(pixels, path, dtypes=allowed, shape=[None, None, 3])
        height, width, _ = picture.shape
        factor = self.scale_factor
        if not height or not width or height % factor or width % factor:
            raise invalid(path, f"{width}x{height} pixels are no positive multiples of {factor}")
        if picture.dtype == torch.uint8:
            picture = picture.to(torch.float32) / 127.5 - 1
        elif picture.abs().max() > 1:
            raise invalid(path, "floating-point pixels are from -1 to 1")
        picture = picture.permute(2, 0, 1)[None].to(like.device, like.dtype)
        return OnePass("encode", self._encode, height * width // factor**2, picture)

    def canvas_encoding(self, canvas: Canvas, kind: str, like: torch.Tensor) -> Phase:
        """A canvas's pixels to a latent.

        Args:
            canvas: starts from a picture.
            kind: how: `image` or `masked_image`.
            like: has the network's device and dtype.

        Raises:
            KandinskyError: INVALID_FIELD if the picture is no pixels, or not of the canvas's size.
        """
        pixels, path = getattr(canvas, kind).pixels, f"canvas.{kind}.pixels"
        size = [canvas.height, canvas.width, 3]
        if list(pixels.shape) != size:
            raise invalid(path, f"must have the canvas's shape {size}")
        return self.encoding(pixels, path, like)

    def _mapped(self, latent: torch.Tensor) -> torch.Tensor:
        if self._linear_preview is None:  # fitted when it is first wanted
            encode = partial(self._encode, timesteps=torch.zeros(1), conditioning={})
            self._linear_preview = LinearPreview(encode, self.scale_factor, latent)
        return self._linear_preview(latent)

    def _decoded(self, latent: torch.Tensor) -> torch.Tensor:
        picture = self._decode(latent, timesteps=torch.zeros(1), conditioning={})
        return as_bytes(picture[0].permute(1, 2, 0))

    def latent_shape(self, canvas: Canvas) -> tuple[int, int, int]:
        """[C, h, w] of a canvas.

        Raises:
            KandinskyError: INVALID_FIELD if a side is no positive multiple of `scale_factor`².
        """
        multiple = self.scale_factor**2
        for name in ("height", "width"):
            side = getattr(canvas, name)
            if side < multiple or side % multiple:
                raise invalid(f"canvas.{name}", f"{side} is no positive multiple of {multiple}")
        factor = self.scale_factor
        return self.latent_channels, canvas.height // factor, canvas.width // factor
