"""Autoencoders as phases of one pass each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from diffusers import AutoencoderKL, VQModel

from kandinsky.wire.errors import KandinskyError, Reason
from services.diffusion.noise import draw
from services.diffusion.previews import LinearPreview, Previewer, as_bytes
from services.engine.phase import Network, Phase
from services.engine.stack import LATENT, State
from services.loading.denoising_call import channels_last, compiled_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions

LOG_VARIANCES = (-30.0, 20.0)
"""Range of a latent's log variance, as DiagonalGaussianDistribution of diffusers bounds it."""


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
    """

    def __init__(self, channels: int, scale_factor: int) -> None:
        self.latent_channels = channels
        self.scale_factor = scale_factor

    def decoding(self, shape: tuple[int, ...], latents: torch.Tensor | None = None) -> Phase:
        raise _has_none()

    def encoding(self, image: torch.Tensor) -> Phase:
        raise _has_none()

    def previewer(self, decodes: bool) -> Previewer:
        return preview_of_pixels


def preview_of_pixels(latent: torch.Tensor) -> torch.Tensor:
    """uint8 [rows, H, W, 3] of images [rows, 3, H, W] from -1 to 1."""
    return as_bytes((latent * 0.5 + 0.5).permute(0, 2, 3, 1))


def _has_none() -> KandinskyError:
    return KandinskyError(
        Reason.FLOW_UNSUPPORTED,
        "this model has no autoencoder",
        metadata={"flow": "latents"},
    )


class MoVQDecode(Network):
    """Latents [rows, C, h, w] to images [rows, 3, H, W] from 0 to 1."""

    name = "movq decode"

    def __init__(self, movq: VQModel, runtime: RuntimeOptions, lays_out: bool) -> None:
        self.movq = movq
        self._call = compiled_call(movq.decode, runtime)
        self._lays_out = lays_out

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._lays_out:
            inputs = channels_last(inputs)
        images = self._call(h=inputs, force_not_quantize=True, return_dict=False)[0]
        return (images * 0.5 + 0.5).clamp(0, 1)


class MoVQEncode(Network):
    """Images [rows, 3, H, W] from -1 to 1 to latents [rows, C, h, w]."""

    name = "movq encode"

    def __init__(self, movq: VQModel, lays_out: bool) -> None:
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
        latents: torch.Tensor = self.movq.encode(inputs).latents
        return latents


def movq_autoencoder(movq: VQModel, loader: Loader) -> Autoencoder:
    """MoVQ, the autoencoder of the Kandinsky families.

    Args:
        movq: the network.
        loader: of the network; its runtime options say how it is called.
    """
    lays_out = loader.runtime.lays_out(loader.device, autoencoder=True)
    return Autoencoder(
        MoVQEncode(movq, lays_out),
        MoVQDecode(movq, loader.runtime, lays_out),
        movq.config.latent_channels,
        2 ** (len(movq.config.block_out_channels) - 1),
    )


class KLDecode(Network):
    """Scaled latents [rows, C, h, w] to images [rows, 3, H, W] from 0 to 1."""

    name = "vae decode"

    def __init__(self, vae: AutoencoderKL, runtime: RuntimeOptions, lays_out: bool) -> None:
        self._scale = float(vae.config.scaling_factor)
        self._call = compiled_call(vae.decode, runtime)
        self._lays_out = lays_out

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._lays_out:
            inputs = channels_last(inputs)
        images = self._call(z=inputs / self._scale, return_dict=False)[0]
        return (images * 0.5 + 0.5).clamp(0, 1)


class KLMoments(Network):
    """Images [rows, 3, H, W] from -1 to 1 to mean and log variance of latents [rows, 2C, h, w]."""

    name = "vae encode"

    def __init__(self, vae: AutoencoderKL, lays_out: bool) -> None:
        self.vae = vae
        self._lays_out = lays_out

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._lays_out:
            inputs = channels_last(inputs)
        moments: torch.Tensor = self.vae.encode(inputs).latent_dist.parameters
        return moments


class KLEncode(KLMoments):
    """Images [rows, 3, H, W] from -1 to 1 to the means of their scaled latents [rows, C, h, w]."""

    name = "vae encode mean"

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        mean = super().__call__(inputs, timesteps, conditioning).chunk(2, dim=1)[0]
        return mean * float(self.vae.config.scaling_factor)


@dataclass(eq=False)
class MomentsPass(OnePass):
    """Encodes an image to moments, and ends with them after those of the passes before it."""

    before: torch.Tensor | None = None

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        self.before = value
        return super().begin(value, generator)

    def result(self, latent: torch.Tensor) -> torch.Tensor:
        return latent if self.before is None else torch.cat([self.before, latent], dim=1)


class KLAutoencoder(Autoencoder):
    """An autoencoder whose latents are sampled: arXiv 1312.6114.

    Args:
        encode: as of Autoencoder; the latents' means.
        decode: likewise.
        moments: images to mean and log variance of latents that are not scaled.
        scale: of the latents, beside those that `moments` describe.
        latent_channels: as of Autoencoder.
        scale_factor: likewise.
    """

    def __init__(
        self,
        encode: Network,
        decode: Network,
        moments: Network,
        scale: float,
        latent_channels: int,
        scale_factor: int,
    ) -> None:
        super().__init__(encode, decode, latent_channels, scale_factor)
        self._moments = moments
        self._scale = scale

    def moments(self, image: torch.Tensor) -> Phase:
        """Image to moments [1, 2C, h, w], after those of the `moments` phases before it.

        Args:
            image: as of `encoding`.
        """
        height, width = image.shape[2:]
        area = height * width // self.scale_factor**2
        return MomentsPass("encode", self._moments, area, "moments", image)

    def sample(self, moments: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A scaled latent [1, C, h, w] of moments [1, 2C, h, w]: one draw of that shape."""
        mean, log_variance = moments.chunk(2, dim=1)
        deviation = (0.5 * log_variance.clamp(*LOG_VARIANCES)).exp()
        return (mean + deviation * draw(mean.shape, generator, mean)) * self._scale


def kl_autoencoder(vae: AutoencoderKL, loader: Loader) -> KLAutoencoder:
    """AutoencoderKL, the autoencoder of Stable Diffusion.

    Args:
        vae: the network.
        loader: of the network; its runtime options say how it is called.
    """
    lays_out = loader.runtime.lays_out(loader.device, autoencoder=True)
    return KLAutoencoder(
        KLEncode(vae, lays_out),
        KLDecode(vae, loader.runtime, lays_out),
        KLMoments(vae, lays_out),
        float(vae.config.scaling_factor),
        vae.config.latent_channels,
        2 ** (len(vae.config.block_out_channels) - 1),
    )
