"""Decode requests as phases: what the families of latent UNets have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from kandinsky.catalog.family import ConditioningField, SamplerSpec
from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from services.decoder.service import DecoderFamily
from services.diffusion.autoencoder import Autoencoder
from services.diffusion.denoising import Denoise, NoiseAdder
from services.diffusion.guidance import (
    Guidance,
    Rule,
    classifier_free_guidance,
    guidance_embedding,
)
from services.diffusion.inpainting import Inpaint, InpaintInputs
from services.diffusion.masks import Cells, kept_cells
from services.diffusion.network import DenoisingNetwork
from services.engine.phase import Phase
from services.samplers.sampler import Sampler
from services.samplers.samplers import sampler_of
from services.samplers.schedulers import Schedulers
from services.transport import conditioning, reading

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Denoiser:
    """A denoising network and the noise schedulers of its checkpoint."""

    network: DenoisingNetwork
    schedulers: Schedulers


@dataclass(frozen=True)
class Inpainter(Denoiser):
    """A denoiser that generates a part of an image."""

    inputs: InpaintInputs
    cells: Cells = kept_cells
    """From a mask to the cells that are kept."""


@dataclass(frozen=True)
class LatentDecoder(DecoderFamily):
    """Makes the phases of Decode, EncodeLatents and DecodeLatents calls, of a family's parts."""

    reads: Sequence[ConditioningField]
    """The fields that the family's decoder declares."""
    sampler: SamplerSpec
    """Defaults of the model."""
    denoiser: Denoiser
    autoencoder: Autoencoder
    like: torch.Tensor
    """Has the networks' device and dtype."""
    inpainter: Inpainter | None = None
    """None where the model has no inpainting network."""
    noise_adder: Callable[[float], NoiseAdder] | None = None
    """By strength, how noise is added to an image; None as the sampler does it."""
    rule: Rule = classifier_free_guidance

    def phases(self, request: decoder_pb2.DecodeRequest) -> list[Phase]:
        """The request as a denoising loop, with autoencoder passes before and after where due.

        Raises:
            KandinskyError: INVALID_FIELD for what the checkpoint cannot take; FLOW_UNSUPPORTED
                for a mask where there is no inpainting network.
        """
        start = request.start
        kind = start.WhichOneof("kind")
        if kind is None:
            raise invalid("start", "is required: noise, image or inpaint")
        phases: list[Phase] = []
        loop: Denoise = {
            "noise": self._from_noise,
            "image": self._from_image,
            "inpaint": self._inpaint,
        }[kind](request)
        if kind != "noise" and loop.start is None:
            phases.append(self._encoding(start, kind))
        following = self._to_pixels(request, loop)
        is_last = request.output == decoder_pb2.DECODE_OUTPUT_LATENTS
        return [*phases, loop, *(() if is_last else following)]

    def calibration_phase(self, height: int, width: int) -> Denoise:
        """A guided loop like any other, on zeros, to measure the device with.

        Args:
            height: of the model's usual image, pixels.
            width: likewise.
        """
        network = self.denoiser.network
        return Denoise(
            network,
            sampler_of(self.denoiser.schedulers, None, self.sampler.min_steps),
            Guidance(1.0),
            self._shape(sampling_pb2.InitialLatents(height=height, width=width)),
            network.calibration_rows(height, width, self.like),
        )

    def further_phases(self, height: int, width: int) -> list[Phase]:
        """The loop whose deep part is kept, where there is one, and the pass to pixels."""
        loop = self.calibration_phase(height, width)
        decode = self.autoencoder.decoding(loop.shape, self.like.new_zeros(1, *loop.shape))
        if not self.denoiser.network.splits:
            return [decode]
        return [replace(loop, step_cache_interval=2), decode]

    def encode_latents(self, request: decoder_pb2.EncodeLatentsRequest) -> list[Phase]:
        """Pixels to latent as one pass.

        Raises:
            KandinskyError: INVALID_FIELD for an image whose sides do not fit.
        """
        factor = self.autoencoder.scale_factor
        image = reading.image(request.pixels, "pixels", factor, self.like)
        return [self.autoencoder.encoding(image)]

    def decode_latents(self, request: decoder_pb2.DecodeLatentsRequest) -> list[Phase]:
        """Latent to pixels as one pass.

        Raises:
            KandinskyError: INVALID_FIELD for a latent with another number of channels.
        """
        shape = [self.autoencoder.latent_channels, None, None]
        latents = reading.tensor(request, "latents", "", shape, self.like)
        return [self.autoencoder.decoding(tuple(latents.shape[1:]), latents)]

    def _to_pixels(self, request: decoder_pb2.DecodeRequest, loop: Denoise) -> list[Phase]:
        """What makes an image of what the loop ends with.

        Raises:
            KandinskyError: INVALID_FIELD for what the model does not do there.
        """
        if request.HasField("super_resolution"):
            raise invalid("super_resolution", "this model makes no small image")
        return [self.autoencoder.decoding(loop.shape)]

    def _from_noise(self, request: decoder_pb2.DecodeRequest) -> Denoise:
        shape = self._shape(request.start)
        noise = reading.optional_tensor(
            request.start.noise, "noise", "start.noise.", shape, self.like
        )
        return self._denoise(request, shape, 1.0, noise)

    def _from_image(self, request: decoder_pb2.DecodeRequest) -> Denoise:
        start, path = request.start.image, "start.image."
        shape = self._shape(request.start)
        strength = start.strength if start.HasField("strength") else self.sampler.strength
        noise = reading.optional_tensor(start, "noise", path, shape, self.like)
        loop = self._denoise(request, shape, strength, noise)
        loop.start = self._given_latents(start, path, shape)
        loop.noise_adder = self.noise_adder(strength) if self.noise_adder else None
        return loop

    def _denoise(
        self,
        request: decoder_pb2.DecodeRequest,
        shape: Shape,
        strength: float,
        noise: torch.Tensor | None,
    ) -> Denoise:
        guidance = self._guidance(request)
        return Denoise(
            self.denoiser.network,
            self._sampler(request, self.denoiser, strength, "start.image.strength"),
            guidance,
            shape,
            self._conditioning(request, self.denoiser.network, guidance),
            given_noise=noise,
            previewer=self._previewer(request),
            guidance_interval=reading.guidance_interval(request.sampling),
            step_cache_interval=self._step_cache_interval(request, self.denoiser),
        )

    def _inpaint(self, request: decoder_pb2.DecodeRequest) -> Inpaint:
        if self.inpainter is None:
            raise KandinskyError(
                Reason.FLOW_UNSUPPORTED,
                "this model has no inpainting UNet",
                metadata={"flow": "inpaint"},
            )
        start, path = request.start.inpaint, "start.inpaint."
        shape = self._shape(request.start)
        if start.HasField("masked_image_latents"):
            raise invalid(f"{path}masked_image_latents", "this model takes none")
        default = self.sampler.inpaint_strength
        strength = start.strength if start.HasField("strength") else default
        guidance = self._guidance(request)
        return Inpaint(
            self.inpainter.network,
            self._sampler(request, self.inpainter, strength, f"{path}strength"),
            guidance,
            shape,
            self._conditioning(request, self.inpainter.network, guidance),
            given_noise=reading.optional_tensor(start, "noise", path, shape, self.like),
            start=self._given_latents(start, path, shape),
            previewer=self._previewer(request),
            guidance_interval=reading.guidance_interval(request.sampling),
            step_cache_interval=self._step_cache_interval(request, self.inpainter),
            kept=self.inpainter.cells(self._mask(request), *shape[1:], self.like),
            stacking=self.inpainter.inputs,
            from_noise=strength == 1,
        )

    def _mask(self, request: decoder_pb2.DecodeRequest) -> torch.Tensor:
        """uint8 [H, W], on the host."""
        start, path = request.start, "start.inpaint.mask"
        if not start.inpaint.HasField("mask"):
            raise invalid(path, "is required")
        size = [start.height, start.width]
        mask: torch.Tensor = tensors.to_torch(
            start.inpaint.mask, path, dtypes=tensors.UINT8, shape=size
        )
        return mask

    def _given_latents(
        self,
        start: sampling_pb2.ImageLatents | sampling_pb2.InpaintLatents,
        path: str,
        shape: Shape,
    ) -> torch.Tensor | None:
        """The image's latent; None where its pixels are to be encoded."""
        return reading.optional_tensor(start, "latents", path, shape, self.like)

    def _encoding(self, start: sampling_pb2.InitialLatents, kind: str) -> Phase:
        pixels, path = getattr(start, kind).pixels, f"start.{kind}.pixels"
        size = [start.height, start.width, 3]
        if list(pixels.shape) != size:
            raise invalid(path, f"must have the shape {size} of `start`")
        image = reading.image(pixels, path, self.autoencoder.scale_factor, self.like)
        return self.autoencoder.encoding(image)

    def _shape(self, start: sampling_pb2.InitialLatents) -> Shape:
        """[C, h, w] of the latent of an image of that size."""
        factor = self.autoencoder.scale_factor
        for name in ("height", "width"):
            side = getattr(start, name)
            if side < factor**2 or side % factor**2:
                raise invalid(f"start.{name}", f"{side} is not a positive multiple of {factor**2}")
        return self.autoencoder.latent_channels, start.height // factor, start.width // factor

    def _sampler(
        self,
        request: decoder_pb2.DecodeRequest,
        denoiser: Denoiser,
        strength: float,
        strength_path: str,
    ) -> Sampler:
        reading.refuse_options(request.sampling, self.sampler)
        levels = denoiser.schedulers.default.config.num_train_timesteps
        steps = reading.steps(request.sampling, self.sampler.min_steps, levels)
        with reading.refused_at(strength_path):
            name, eta = reading.scheduler(request.sampling), reading.eta(request.sampling)
            given = reading.given_levels(request.sampling)
            return sampler_of(denoiser.schedulers, name, steps, strength, eta, given)

    def _step_cache_interval(self, request: decoder_pb2.DecodeRequest, denoiser: Denoiser) -> int:
        return reading.step_cache_interval(request.sampling, denoiser.network.splits)

    def _guidance(self, request: decoder_pb2.DecodeRequest) -> Guidance:
        return Guidance(reading.guidance_scale(request.sampling, self.sampler), self.rule)

    def _conditioning(
        self, request: decoder_pb2.DecodeRequest, network: DenoisingNetwork, guidance: Guidance
    ) -> dict[str, torch.Tensor]:
        shapes = network.shapes(request.start.height, request.start.width)
        guided = guidance.is_on and network.guidance_width is None
        rows = conditioning.read(
            request.conditioning, self.reads, shapes, guided, self.like, network.learned
        )
        if network.guidance_width is not None:
            scale = torch.tensor([guidance.scale], dtype=torch.float32)
            rows["guidance_embed"] = guidance_embedding(scale, network.guidance_width, self.like)
        return network.prepare(rows)

    def _previewer(
        self, request: decoder_pb2.DecodeRequest
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        decodes = request.preview_mode == sampling_pb2.PREVIEW_MODE_DECODE
        return self.autoencoder.previewer(decodes)
