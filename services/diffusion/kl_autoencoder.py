"""The autoencoders of Stable Diffusion, whose latents are drawn at random."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL

from services.diffusion.autoencoder import Autoencoder, Half, OnePass, pixels_of
from services.diffusion.noise import draw
from services.engine.phase import Network, Phase
from services.engine.stack import State
from services.loading.denoising_call import channels_last, compiled_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions

LOG_VARIANCES = (-30.0, 20.0)
"""Range of a latent's log variance, as DiagonalGaussianDistribution of diffusers bounds it."""


class KLDecode(Half):
    """Scaled latents [rows, C, h, w] to images [rows, 3, H, W] from 0 to 1."""

    name = "vae decode"

    def __init__(self, vae: AutoencoderKL, runtime: RuntimeOptions, lays_out: bool) -> None:
        super().__init__(lays_out)
        self._scale = float(vae.config.scaling_factor)
        self._call = compiled_call(vae.decode, runtime)

    def passed(self, inputs: torch.Tensor) -> torch.Tensor:
        images = self._call(z=inputs / self._scale, return_dict=False)[0]
        return pixels_of(images)


class MaskedDecode(KLDecode):
    """As KLDecode, beside `image` [rows, 3, H, W] from -1 to 1 and `mask` [rows, 1, H, W], 1 where
    the image is generated: what is kept comes from the image's pixels, arXiv 2306.04632."""

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        latents = channels_last(inputs) if self._lays_out else inputs
        images = self._call(z=latents / self._scale, **conditioning, return_dict=False)[0]
        return pixels_of(images)


class KLMoments(Half):
    """Images [rows, 3, H, W] from -1 to 1 to mean and log variance of latents [rows, 2C, h, w]."""

    name = "vae encode"

    def __init__(self, vae: AutoencoderKL, lays_out: bool) -> None:
        super().__init__(lays_out)
        self.vae = vae

    def passed(self, inputs: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.vae.encode(inputs).latent_dist.parameters
        return moments


class KLEncode(KLMoments):
    """Images [rows, 3, H, W] from -1 to 1 to the means of their scaled latents [rows, C, h, w]."""

    name = "vae encode mean"

    def passed(self, inputs: torch.Tensor) -> torch.Tensor:
        mean = super().passed(inputs).chunk(2, dim=1)[0]
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


class MaskedKLAutoencoder(KLAutoencoder):
    """One whose decoder sees the image that is inpainted, where there is one."""

    def decoding_beside(
        self, shape: tuple[int, ...], image: torch.Tensor, mask: torch.Tensor
    ) -> Phase:
        """As `decoding` of what the phase before ends with, beside the image that it is part of.

        Args:
            shape: of the latent, [C, h, w].
            image: [1, 3, H, W] from -1 to 1.
            mask: [1, 1, H, W], 1 where it is generated, else 0.
        """
        beside, area = {"image": image, "mask": mask}, shape[1] * shape[2]
        return OnePass("decode", self._decode, area, "image", conditioning=beside)


def kl_autoencoder(loader: Loader) -> KLAutoencoder:
    """AutoencoderKL, or AsymmetricAutoencoderKL where the checkpoint has that.

    Args:
        loader: of the checkpoint; its runtime options say how the network is called.
    """
    is_masked = loader.class_name("vae") == AsymmetricAutoencoderKL.__name__
    network = AsymmetricAutoencoderKL if is_masked else AutoencoderKL
    vae = loader.model(network, "vae", is_autoencoder=True)
    lays_out = loader.runtime.lays_out(loader.device, autoencoder=True)
    autoencoder = MaskedKLAutoencoder if is_masked else KLAutoencoder
    decode = MaskedDecode if is_masked else KLDecode
    return autoencoder(
        KLEncode(vae, lays_out),
        decode(vae, loader.runtime, lays_out),
        KLMoments(vae, lays_out),
        float(vae.config.scaling_factor),
        vae.config.latent_channels,
        2 ** (len(vae.config.block_out_channels) - 1),
    )
