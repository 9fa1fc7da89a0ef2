"""The decoder of Kandinsky 2.2: a UNet that follows an image embedding, and MoVQ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel, VQModel
from diffusers.utils.torch_utils import randn_tensor

from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from services import sampling
from services.checkpoints import Loader
from services.decoder import autoencoder
from services.engine.phase import Phase, classifier_free_guidance


class DenoisingNetwork:
    """The UNet as an engine Network: [rows, C, h, w] to noise and variance [rows, 2C, h, w]."""

    name = "unet"

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self.unet(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": conditioning["image_embed"]},
            return_dict=False,
        )[0]


@dataclass(eq=False)
class Denoise(Phase):
    """The decoder's denoising loop; ends with the latent [1, C, h, w]."""

    network: DenoisingNetwork
    scheduler: object
    timesteps: torch.Tensor
    guidance_scale: float
    shape: tuple[int, int, int]
    conditioning: Mapping[str, torch.Tensor]
    given_latents: torch.Tensor | None
    picture_latents: torch.Tensor | None = None
    """[1, C, h, w] to add noise to, where no phase before has encoded a picture."""
    name: str = "denoise"

    @property
    def rows(self) -> int:
        return len(self.conditioning["image_embed"])

    @property
    def pixels(self) -> int:
        return self.shape[1] * self.shape[2]

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        latents = self.given_latents
        if latents is None:
            like = self.conditioning["image_embed"]
            latents = randn_tensor(
                (1, *self.shape), generator, device=like.device, dtype=like.dtype
            )
        picture = self.picture_latents if value is None else value
        if picture is not None:
            return self.scheduler.add_noise(picture, latents, self.timesteps[:1])
        return latents * self.scheduler.init_noise_sigma

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return self.scheduler.scale_model_input(latent, self.timesteps[step])

    def advance(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        noise, variance = output.split(latent.shape[1], dim=1)
        if self.rows == 2:
            noise = classifier_free_guidance(noise, self.guidance_scale)
            variance = variance[1:]  # of the conditional row, unguided
        if self.scheduler.config.get("variance_type") in ("learned", "learned_range"):
            noise = torch.cat([noise, variance], dim=1)
        timestep = self.timesteps[step]
        return self.scheduler.step(noise, timestep, latent, generator=generator).prev_sample


class Kandinsky22Decoder:
    """Makes the phases of Decode, EncodeLatents and DecodeLatents calls."""

    network = DenoisingNetwork

    def __init__(self, loader: Loader) -> None:
        self._network = self.network(loader.model(UNet2DConditionModel, "unet"))
        self._scheduler = loader.scheduler()
        self._movq = autoencoder.MoVQ(loader.model(VQModel, "movq"))
        self._like = torch.empty(0, device=loader.device, dtype=loader.dtype)

    def phases(self, request: decoder_pb2.DecodeRequest) -> list[Phase]:
        """The request as a denoising loop and, unless latents are asked for, a MoVQ pass.

        Raises:
            KandinskyError: INVALID_FIELD for what the checkpoint cannot take;
                FLOW_UNSUPPORTED for a canvas with a mask.
        """
        most = self._scheduler.config.num_train_timesteps
        steps = sampling.steps(request.sampling, 1, most)
        scale = sampling.guidance_scale(request.sampling)
        scheduler = self._new_scheduler(request.sampling)
        scheduler.set_timesteps(steps, device=self._like.device)
        shape = self._latent_shape(request.canvas)
        timesteps = scheduler.timesteps
        before: list[Phase] = []
        picture_latents = None
        if request.canvas.WhichOneof("start") == "image":
            image = request.canvas.image
            timesteps = sampling.last_steps(timesteps, image, "canvas.image.")
            if image.WhichOneof("source") == "pixels":
                before = [self._movq.canvas_encoding(request.canvas, self._like)]
            else:
                picture_latents = sampling.tensor(
                    image, "latents", "canvas.image.", shape, self._like
                )
        denoise = Denoise(
            self._network,
            scheduler,
            timesteps,
            scale,
            shape,
            sampling.conditioning(
                request.conditioning, self._conditioning_shapes(), scale > 1, self._like
            ),
            self._given_latents(request.canvas, shape),
            picture_latents,
        )
        if request.output == decoder_pb2.DECODE_OUTPUT_LATENTS:
            return [*before, denoise]
        return [*before, denoise, self._movq.decoding(shape)]

    def encode_latents(self, request: decoder_pb2.EncodeLatentsRequest) -> list[Phase]:
        """Pixels to latent as one MoVQ pass.

        Raises:
            KandinskyError: INVALID_FIELD for a picture whose sides do not fit.
        """
        return [self._movq.encoding(request.pixels, "pixels", self._like)]

    def decode_latents(self, request: decoder_pb2.DecodeLatentsRequest) -> list[Phase]:
        """Latent to pixels as one MoVQ pass.

        Raises:
            KandinskyError: INVALID_FIELD for a latent with another number of channels.
        """
        channels = self._movq.latent_channels
        latents = sampling.tensor(request, "latents", "", [channels, None, None], self._like)
        return [self._movq.decoding(tuple(latents.shape[1:]), latents)]

    def _new_scheduler(self, request: sampling_pb2.Sampling) -> Any:
        if request.scheduler:
            raise invalid("sampling.scheduler", "only the checkpoint's own is there; leave it out")
        return type(self._scheduler).from_config(self._scheduler.config)

    def _latent_shape(self, canvas: decoder_pb2.DecodeRequest) -> tuple[int, int, int]:
        if canvas.WhichOneof("start") not in ("noise", "image"):
            raise KandinskyError(
                Reason.FLOW_UNSUPPORTED, "a canvas with a mask is not supported", metadata={}
            )
        multiple = self._movq.scale_factor**2
        for field in ("height", "width"):
            side = getattr(canvas, field)
            if side < multiple or side % multiple:
                raise invalid(f"canvas.{field}", f"{side} is no positive multiple of {multiple}")
        height, width = (side // self._movq.scale_factor for side in (canvas.height, canvas.width))
        return self._network.unet.config.in_channels, height, width

    def _given_latents(self, canvas: object, shape: tuple[int, int, int]) -> torch.Tensor | None:
        if not canvas.noise.HasField("latents"):
            return None
        return sampling.tensor(canvas.noise, "latents", "canvas.noise.", shape, self._like)

    def _conditioning_shapes(self) -> dict[str, list[int]]:
        """What the UNet follows, by the field of Conditioning that holds it."""
        return {"image_embed": [self._network.unet.config.encoder_hid_dim]}
