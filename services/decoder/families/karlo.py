"""The decoder of Karlo (unCLIP): a UNet in pixel space, then two that make the image larger.

No autoencoder: what the decoder calls a latent is the small image, [3, h, w] from -1 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import SamplerSpec, Stage
from kandinsky.v1 import decoder_pb2
from services.decoder.latent_decoder import Denoiser, LatentDecoder
from services.diffusion.autoencoder import NoAutoencoder, pixels_of
from services.diffusion.denoising import Denoise
from services.diffusion.guidance import Guidance
from services.diffusion.network import DenoisingNetwork, Shapes
from services.diffusion.super_resolution import SuperResolution, UpscalingNetwork
from services.engine.phase import Phase
from services.loading.denoising_call import denoising_call
from services.loading.loader import Loader
from services.loading.runtime_options import OptionRefused, RuntimeOptions
from services.samplers.samplers import sampler_of
from services.samplers.schedulers import Schedulers
from services.transport import reading

TEXT_POSITIONS = 77
"""Tokens of the text's states, as CLIP's tokenizer pads them."""


class UnCLIPUNet(DenoisingNetwork):
    """[rows, 3, h, w] to noise and variance [rows, 6, h, w]; follows a text and an image embedding.

    Args:
        unet: of diffusers.
        projection: of the embeddings to what the UNet takes.
        runtime: how the UNet is called.
    """

    name = "unet"

    def __init__(
        self,
        unet: UNet2DConditionModel,
        projection: UnCLIPTextProjModel,
        runtime: RuntimeOptions,
    ) -> None:
        self._projection = projection
        self._call = denoising_call(unet, runtime)

    def shapes(self, height: int, width: int) -> Shapes:
        embedding = int(self._projection.config.clip_embeddings_dim)
        return {
            "image_embed": (embedding,),
            "text_embed": (embedding,),
            "text_states": (TEXT_POSITIONS, embedding),
            "text_mask": (TEXT_POSITIONS,),
        }

    @property
    def learned(self) -> Mapping[str, torch.Tensor]:
        return {"image_embed": self._projection.learned_classifier_free_guidance_embeddings}

    def prepare(self, conditioning: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The projections of the embeddings, and the mask of what is attended to."""
        states, embed = self._projection(
            image_embeddings=conditioning["image_embed"],
            prompt_embeds=conditioning["text_embed"],
            text_encoder_hidden_states=conditioning["text_states"],
            do_classifier_free_guidance=False,  # the rows are there already
        )
        tokens = states.shape[1] - TEXT_POSITIONS
        mask = F.pad(conditioning["text_mask"], (tokens, 0), value=True)
        return {"states": states, "embed": embed, "mask": mask}

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self._call(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=conditioning["states"],
            class_labels=conditioning["embed"],
            attention_mask=conditioning["mask"],
            return_dict=False,
        )[0]


@dataclass(frozen=True, kw_only=True)
class UnCLIPDecoder(LatentDecoder):
    """Decodes to a small image, and makes it larger in a second loop."""

    upscaling: SamplerSpec
    """Defaults of the second loop."""
    first: Denoiser
    last: DenoisingNetwork
    """Takes the second loop's last step."""

    def calibration_phase(self, height: int, width: int) -> Denoise:
        """The second loop, which needs the most memory."""
        loop = self._upscaling(decoder_pb2.DecodeRequest(), height, width)
        factor = self.autoencoder.scale_factor
        loop.start = self.like.new_zeros(1, loop.shape[0], height // factor, width // factor)
        return loop

    def further_phases(self, height: int, width: int) -> list[Phase]:
        return [super().calibration_phase(height, width)]

    def _to_pixels(self, request: decoder_pb2.DecodeRequest, loop: Denoise) -> list[Phase]:
        return [self._upscaling(request, request.start.height, request.start.width)]

    def _denoise(
        self,
        request: decoder_pb2.DecodeRequest,
        shape: tuple[int, int, int],
        strength: float,
        noise: torch.Tensor | None,
    ) -> Denoise:
        loop = super()._denoise(request, shape, strength, noise)
        return replace(loop, finish=partial(torch.clamp, min=-1, max=1))

    def _upscaling(
        self, request: decoder_pb2.DecodeRequest, height: int, width: int
    ) -> SuperResolution:
        given, path = request.super_resolution, "super_resolution."
        shape = (self.autoencoder.latent_channels, height, width)
        schedulers = self.first.schedulers
        levels = schedulers.default.config.num_train_timesteps
        steps = self.upscaling.steps
        if given.HasField("steps"):
            steps = reading.steps(given, self.upscaling.min_steps, levels, path)
        return SuperResolution(
            self.first.network,
            sampler_of(schedulers, None, steps),
            Guidance(1.0),
            shape,
            {},
            given_noise=reading.optional_tensor(given, "noise", path, shape, self.like),
            previewer=self.autoencoder.previewer(decodes=False),
            finish=pixels_of,
            output="image",
            last=self.last,
            model_like=self.like,
        )


def decoder(loaders: Mapping[str, Loader], entry: CatalogEntry) -> UnCLIPDecoder:
    """Load the decoder.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.

    Raises:
        OptionRefused: attention is to be that of xformers, or the options are about an autoencoder.
    """
    loader, runtime = loaders["weights"], loaders["weights"].runtime
    if runtime.attention == "xformers":
        raise OptionRefused(
            "runtime.attention: xformers takes no mask where attention has added projections, as "
            "that of this model's decoder"
        )
    unet = loader.model(UNet2DConditionModel, "decoder")
    # It projects a job's embeddings while the engine is at work: on the device for good.
    projection = loader.unprepared(UnCLIPTextProjModel, "text_proj").to(loader.device)
    first, last = (loader.model(UNet2DModel, f"super_res_{part}") for part in ("first", "last"))
    sampler, upscaling = entry.stage_samplers(Stage.DECODER)
    return UnCLIPDecoder(
        entry.spec.reads[Stage.DECODER],
        sampler,
        Denoiser(
            UnCLIPUNet(unet, projection, runtime),
            Schedulers(loader.scheduler("decoder_scheduler"), is_fixed=sampler.fixed_scheduler),
        ),
        NoAutoencoder(unet.config.in_channels, entry.spec.latent_scale, runtime),
        torch.empty(0, device=loader.device, dtype=loader.dtype),
        upscaling=upscaling,
        first=Denoiser(
            UpscalingNetwork(first, runtime, "super-resolution"),
            Schedulers(loader.scheduler("super_res_scheduler"), is_fixed=upscaling.fixed_scheduler),
        ),
        last=UpscalingNetwork(last, runtime, "super-resolution, last"),
    )
