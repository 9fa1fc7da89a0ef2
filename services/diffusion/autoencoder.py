"""Autoencoders as phases of one pass each."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from kandinsky.wire.errors import KandinskyError, Reason
from services.diffusion.previews import LinearPreview, Previewer, as_bytes
from services.engine.phase import Network, Phase
from services.engine.stack import LATENT, State
from services.loading.denoising_call import channels_last
from services.loading.runtime_options import OptionRefused, RuntimeOptions


@dataclass(eq=False)
class OnePass(Phase):
    """A single forward of a value: the given one, or what the phase before ended with."""

    name: str
    network: Network
    latent_area: int
    output: str
    """Name of the job's output, where the pass is the last phase."""
    given: torch.Tensor | None = None
    rows: int = 1
    timesteps: tuple[float, ...] = (0.0,)
    conditioning: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        found = value if self.given is None else self.given
        if found is None:
            raise ValueError(f"{self.name} has nothing to pass")
        return {LATENT: found}

    def outputs(self, value: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {self.output: value}


class Half(Network):
    """One half of an autoencoder: it reads neither timesteps nor conditioning.

    Args:
        lays_out: whether its images and latents are laid out as NHWC.
    """

    def __init__(self, lays_out: bool) -> None:
        self._lays_out = lays_out

    @abstractmethod
    def passed(self, inputs: torch.Tensor) -> torch.Tensor:
        """What it makes of [rows, C, H, W]."""

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self.passed(channels_last(inputs) if self._lays_out else inputs)


class Autoencoder:
    """The phases that one autoencoder offers.

    Args:
        encode: images [rows, 3, H, W] from -1 to 1 to latents [rows, C, h, w].
        decode: latents to images from 0 to 1.
        latent_channels: C.
        scale_factor: pixels along one side of a latent cell: H / h.
    """

    def __init__(
        self, encode: Network, decode: Network, latent_channels: int, scale_factor: int
    ) -> None:
        self._encode = encode
        self._decode = decode
        self.latent_channels = latent_channels
        self.scale_factor = scale_factor
        self._linear_preview: LinearPreview | None = None

    def decoding(self, shape: tuple[int, ...], latents: torch.Tensor | None = None) -> Phase:
        """Latent to image [1, 3, H, W] from 0 to 1.

        Args:
            shape: of the latent, [C, h, w].
            latents: [1, C, h, w]; None for what the phase before ends with.
        """
        return OnePass("decode", self._decode, shape[1] * shape[2], "image", latents)

    def encoding(self, image: torch.Tensor) -> Phase:
        """Image to latent [1, C, h, w].

        Args:
            image: [1, 3, H, W] from -1 to 1, both sides multiples of `scale_factor`.
        """
        height, width = image.shape[2:]
        area = height * width // self.scale_factor**2
        return OnePass("encode", self._encode, area, "latents", image)

    def linear_preview(self, latent: torch.Tensor) -> torch.Tensor:
        """uint8 [rows, h, w, 3] of latents [rows, C, h, w], by a map fitted at the first call."""
        if self._linear_preview is None:
            encode = partial(self._encode, timesteps=torch.zeros(1), conditioning={})
            self._linear_preview = LinearPreview(encode, self.scale_factor, latent)
        return self._linear_preview(latent)

    def decoded_preview(self, latent: torch.Tensor) -> torch.Tensor:
        """uint8 [rows, H, W, 3] of latents [rows, C, h, w], by decoding them."""
        images = self._decode(latent, timesteps=torch.zeros(len(latent)), conditioning={})
        return as_bytes(images.permute(0, 2, 3, 1))

    def previewer(self, decodes: bool) -> Previewer:
        """Makes previews: by decoding, or by the linear map."""
        return self.decoded_preview if decodes else self.linear_preview


class NoAutoencoder(Autoencoder):
    """Of a decoder that works on pixels from -1 to 1: nothing to encode or to decode.

    Args:
        channels: of an image.
        scale_factor: pixels of the final image along one side of the decoder's pixel.
        runtime: of the stage.

    Raises:
        OptionRefused: the options are about an autoencoder.
    """

    def __init__(self, channels: int, scale_factor: int, runtime: RuntimeOptions) -> None:
        for way in runtime.divisions:
            raise OptionRefused(f"runtime.autoencoder_{way}: this model has no autoencoder")
        self.latent_channels = channels
        self.scale_factor = scale_factor

    def decoding(self, shape: tuple[int, ...], latents: torch.Tensor | None = None) -> Phase:
        raise _has_none()

    def encoding(self, image: torch.Tensor) -> Phase:
        raise _has_none()

    def previewer(self, decodes: bool) -> Previewer:
        return preview_of_pixels


def pixels_of(image: torch.Tensor) -> torch.Tensor:
    """Values from -1 to 1 as from 0 to 1; what is outside is clipped."""
    return (image * 0.5 + 0.5).clamp(0, 1)


def preview_of_pixels(latent: torch.Tensor) -> torch.Tensor:
    """uint8 [rows, H, W, 3] of images [rows, 3, H, W] from -1 to 1."""
    return as_bytes(pixels_of(latent).permute(0, 2, 3, 1))


def _has_none() -> KandinskyError:
    return KandinskyError(
        Reason.FLOW_UNSUPPORTED,
        "this model has no autoencoder",
        metadata={"flow": "latents"},
    )
