"""Decode requests as phases, of families that generate the masked part of an image alone."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch

from kandinsky.v1 import adapters_pb2, decoder_pb2, sampling_pb2
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from services.adapters.unet_adapters import UNetAdapters
from services.decoder.latent_decoder import Inpainter, LatentDecoder, Shape
from services.diffusion.denoising import Denoise
from services.diffusion.guidance import Guidance
from services.diffusion.kl_autoencoder import KLAutoencoder, MaskedKLAutoencoder
from services.diffusion.masks import HALF
from services.diffusion.safety import SafetyChecker
from services.diffusion.sampled_inpainting import SampledInpaint
from services.engine.phase import Phase
from services.samplers.samplers import sampler_of
from services.transport import reading


@dataclass(frozen=True)
class InpaintingDecoder(LatentDecoder):
    """A LatentDecoder whose denoiser is the inpainter, and whose autoencoder samples latents."""

    denoiser: Inpainter
    autoencoder: KLAutoencoder
    adapters: UNetAdapters = field(kw_only=True)
    checker: SafetyChecker | None = None
    """None where nobody looks at the images."""

    def hold_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> ExitStack:
        """See DecoderFamily."""
        return self.adapters.hold(adapters)

    def check_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> int:
        """See DecoderFamily."""
        return self.adapters.changes(adapters)

    def phases(self, request: decoder_pb2.DecodeRequest) -> list[Phase]:
        """The request as passes that encode, a denoising loop, and passes that decode and check.

        Raises:
            KandinskyError: INVALID_FIELD for what the checkpoint cannot take; FLOW_UNSUPPORTED
                for a start without a mask.
        """
        kind = request.start.WhichOneof("kind")
        if kind is None:
            raise invalid("start", "is required: inpaint")
        if kind != "inpaint":
            raise KandinskyError(
                Reason.FLOW_UNSUPPORTED,
                "this model generates the masked part of an image alone",
                metadata={"flow": kind},
            )
        loop = self._inpaint(request)
        following = self._to_pixels(request, loop)
        is_last = request.output == decoder_pb2.DECODE_OUTPUT_LATENTS
        return [*self._encodings(request, loop), loop, *(() if is_last else following)]

    def _to_pixels(self, request: decoder_pb2.DecodeRequest, loop: Denoise) -> list[Phase]:
        decoding = super()._to_pixels(request, loop)
        autoencoder, has_image = self.autoencoder, request.start.inpaint.HasField("pixels")
        if has_image and isinstance(autoencoder, MaskedKLAutoencoder):
            mask = (self._mask(request) >= HALF).to(self.like)[None, None]
            decoding = [autoencoder.decoding_beside(loop.shape, self._image(request), mask)]
        if self.checker is None:
            return decoding
        return [*decoding, self.checker.checking(loop.latent_area)]

    def calibration_phase(self, height: int, width: int) -> SampledInpaint:
        """See DecoderFamily."""
        network = self.denoiser.network
        shape = self._shape(sampling_pb2.InitialLatents(height=height, width=width))
        zeros = torch.zeros(1, *shape).to(self.like)
        return SampledInpaint(
            network,
            sampler_of(self.denoiser.schedulers, None, self.sampler.min_steps),
            Guidance(1.0),
            shape,
            network.calibration_rows(height, width, self.like),
            start=zeros,
            kept=zeros[:, :1],
            stacking=self.denoiser.inputs,
            from_noise=True,
            sample=self.autoencoder.sample,
            given_masked_image=zeros,
        )

    def _inpaint(self, request: decoder_pb2.DecodeRequest) -> SampledInpaint:
        start, path = request.start.inpaint, "start.inpaint."
        shape = self._shape(request.start)
        default = self.sampler.inpaint_strength
        strength = start.strength if start.HasField("strength") else default
        sampler = self._sampler(request, self.denoiser, strength, f"{path}strength")
        guidance, network = self._guidance(request), self.denoiser.network
        if request.sampling.HasField("free_u"):
            weights = request.sampling.free_u
            network = network.with_free_u(weights.b1, weights.b2, weights.s1, weights.s2)
        rows = self._conditioning(request, network, guidance)
        own = self.adapters.rows(request.adapters, len(next(iter(rows.values()))))
        if own:
            rows, network = {**rows, **own}, network.adapted
        noise = reading.optional_tensor(start, "noise", path, shape, self.like)
        return SampledInpaint(
            network,
            sampler,
            guidance,
            shape,
            rows,
            given_noise=noise,
            start=self._given_latents(start, path, shape),
            previewer=self._previewer(request),
            guidance_interval=reading.guidance_interval(request.sampling),
            step_cache_interval=self._step_cache_interval(request, self.denoiser),
            kept=self.denoiser.cells(self._mask(request), *shape[1:], self.like),
            stacking=self.denoiser.inputs,
            # As in the reference, given latents are the start of the loop, at any strength.
            from_noise=strength == 1 or noise is not None,
            sample=self.autoencoder.sample,
            given_masked_image=self._masked_image(request, shape),
        )

    def _masked_image(
        self, request: decoder_pb2.DecodeRequest, shape: Shape
    ) -> torch.Tensor | None:
        """The latent of the image's kept part; None where pixels are to be encoded.

        Raises:
            KandinskyError: INVALID_FIELD if the UNet reads it and only the image's latent is given.
        """
        start, path = request.start.inpaint, "start.inpaint."
        name = "masked_image_latents"
        if start.HasField(name) and name not in self.sampler.options:
            raise invalid(path + name, "this model takes none")
        given = reading.optional_tensor(start, name, path, shape, self.like)
        reads = "masked_image" in self.denoiser.inputs.order
        if given is None and reads and not start.HasField("pixels"):
            raise invalid(path + name, "is required beside the image's latent")
        return given

    def _encodings(self, request: decoder_pb2.DecodeRequest, loop: SampledInpaint) -> list[Phase]:
        """Passes to the moments that the loop samples from, in its order."""
        if not request.start.inpaint.HasField("pixels"):
            return []
        image = self._image(request)
        images = [image] if loop.reads_image else []
        if loop.reads_masked_image and loop.given_masked_image is None:
            images.append(image * (self._mask(request) < HALF).to(image))
        return [self.autoencoder.moments(each) for each in images]

    def _image(self, request: decoder_pb2.DecodeRequest) -> torch.Tensor:
        """[1, 3, H, W] from -1 to 1.

        Raises:
            KandinskyError: INVALID_FIELD if it is not of the size of `start`.
        """
        start, path = request.start, "start.inpaint.pixels"
        size = [start.height, start.width, 3]
        if list(start.inpaint.pixels.shape) != size:
            raise invalid(path, f"must have the shape {size} of `start`")
        factor = self.autoencoder.scale_factor
        return reading.image(start.inpaint.pixels, path, factor, self.like)
