"""MoVQ, the autoencoder of the Kandinsky families."""

import torch
from diffusers import VQModel

from services.diffusion.autoencoder import Autoencoder, Half, pixels_of
from services.loading.denoising_call import compiled_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions


class MoVQDecode(Half):
    """Latents [rows, C, h, w] to images [rows, 3, H, W] from 0 to 1."""

    name = "movq decode"

    def __init__(self, movq: VQModel, runtime: RuntimeOptions, lays_out: bool) -> None:
        super().__init__(lays_out)
        self.movq = movq
        self._call = compiled_call(movq.decode, runtime)

    def passed(self, inputs: torch.Tensor) -> torch.Tensor:
        images = self._call(h=inputs, force_not_quantize=True, return_dict=False)[0]
        return pixels_of(images)


class MoVQEncode(Half):
    """Images [rows, 3, H, W] from -1 to 1 to latents [rows, C, h, w]."""

    name = "movq encode"

    def __init__(self, movq: VQModel, lays_out: bool) -> None:
        super().__init__(lays_out)
        self.movq = movq

    def passed(self, inputs: torch.Tensor) -> torch.Tensor:
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
