"""The decoder of Kandinsky 2.2: a UNet that follows an image embedding, and MoVQ.

The inpainting UNet is a second network beside it; the ControlNet checkpoint's UNet, which follows
a hint as well, stands in the UNet's place.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel, VQModel

from kandinsky.catalog.catalog import Flow
from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from services.decoder import autoencoder
from services.decoder.denoising import Denoise, Noising, Repaint
from services.decoder.masks import kept_cells
from services.engine.phase import Phase
from services.loading.denoising_call import denoising_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions
from services.samplers.sampler import Sampler
from services.samplers.schedulers import new_scheduler
from services.transport import sampling


class DenoisingNetwork:
    """The UNet as an engine Network: [rows, C, h, w] to noise and variance [rows, 2C, h, w]."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        runtime: RuntimeOptions,
        name: str = "unet",
    ) -> None:
        self.unet = unet
        self.name = name
        self._call = denoising_call(unet, runtime)

    @property
    def takes_hint(self) -> bool:
        """Whether it follows a control hint."""
        return self.unet.config.addition_embed_type == "image_hint"

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        added = {"image_embeds": conditioning["image_embed"]}
        if "hint" in conditioning:
            added["hint"] = conditioning["hint"]
        return self._call(
            sample=inputs,
            timestep=timesteps,
            encoder_hidden_states=None,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]


class Kandinsky22Decoder:
    """Makes the phases of Decode, EncodeLatents and DecodeLatents calls.

    Args:
        loader: of the decoder's checkpoint.
        inpaint_loader: of the inpainting checkpoint, if the model has one. Its MoVQ is the same.
    """

    network = DenoisingNetwork
    repaint_blends = True
    """Whether a repainting loop puts kept cells back after every step."""

    def __init__(self, loader: Loader, inpaint_loader: Loader | None = None) -> None:
        self._network = self.network(loader.model(UNet2DConditionModel, "unet"), loader.runtime)
        self._scheduler = loader.scheduler()
        self._movq = autoencoder.MoVQ(
            loader.model(VQModel, "movq"), loader.runtime.lays_out(loader.device, autoencoder=True)
        )
        self._like = torch.empty(0, device=loader.device, dtype=loader.dtype)
        self._inpaint: DenoisingNetwork | None = None
        if inpaint_loader is not None:
            beside = replace(inpaint_loader, offloader=loader.offloader)
            unet = beside.model(UNet2DConditionModel, "unet")
            self._inpaint = self.network(unet, loader.runtime, "inpaint unet")
            self._inpaint_scheduler = inpaint_loader.scheduler()

    def phases(self, request: decoder_pb2.DecodeRequest) -> list[Phase]:
        """The request as a denoising loop, with MoVQ passes before and after where they are due.

        Raises:
            KandinskyError: INVALID_FIELD for what the checkpoint cannot take; FLOW_UNSUPPORTED
                for a mask where there is no inpainting UNet.
        """
        canvas = request.canvas
        kind = canvas.WhichOneof("start")
        if kind is None:
            raise invalid("canvas", "is required: noise, image or masked_image")
        sampling.steps(request.sampling, 1, self._scheduler.config.num_train_timesteps)
        loop = self._repaint(request) if kind == "masked_image" else self._denoise(request, kind)
        phases: list[Phase] = [loop]
        if kind != "noise" and loop.picture is None:
            phases = [self._movq.canvas_encoding(canvas, kind, self._like), loop]
        if request.output != decoder_pb2.DECODE_OUTPUT_LATENTS:
            phases.append(self._movq.decoding(loop.shape))
        return phases

    def check_flows(self, flows: Collection[Flow]) -> None:
        """Refuse to serve flows that the UNet cannot draw.

        Raises:
            ValueError: it follows a control hint and other flows are named, or the reverse.
        """
        others = ", ".join(flow.value for flow in flows if flow is not Flow.CONTROL)
        if self._network.takes_hint and others:
            raise ValueError(f"flows: this UNet draws by a control hint alone, so not {others}")
        if not self._network.takes_hint and Flow.CONTROL in flows:
            raise ValueError("flows: control needs a UNet that follows a hint")

    def calibration_phase(self, height: int, width: int) -> Phase:
        """A guided loop like any other, on nothing, to measure the device with.

        Args:
            height: pixels.
            width: pixels.
        """
        shapes = self._conditioning_shapes(self._network.unet)
        if self._network.takes_hint:
            shapes["hint"] = [3, height, width]
        steps = sampling_pb2.Sampling(steps=1)
        return Denoise(
            self._network,
            self._sampler(steps, self._scheduler, 1.0, ""),
            1.0,
            self._movq.latent_shape(sampling_pb2.Canvas(height=height, width=width)),
            {name: torch.zeros(2, *shape).to(self._like) for name, shape in shapes.items()},
        )

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

    def _denoise(self, request: decoder_pb2.DecodeRequest, kind: str) -> Denoise:
        shape = self._movq.latent_shape(request.canvas)
        start, path = getattr(request.canvas, kind), f"canvas.{kind}."
        strength, noise = 1.0, "latents"
        noising: Noising | None = None
        if kind == "image":
            strength, noise = sampling.strength(start, path, sampling.DEFAULT_STRENGTH), "noise"
            noising = self._noising(strength)
        return Denoise(
            self._network,
            self._sampler(request.sampling, self._scheduler, strength, path),
            sampling.guidance_scale(request.sampling),
            shape,
            self._conditioning(request, self._network),
            given_noise=self._given(start, noise, path, shape),
            picture=self._given_picture(start, path, shape) if kind == "image" else None,
            noising=noising,
            previewing=self._movq.previewing(request.preview_mode),
        )

    def _repaint(self, request: decoder_pb2.DecodeRequest) -> Repaint:
        if self._inpaint is None:
            raise KandinskyError(
                Reason.FLOW_UNSUPPORTED,
                "this model has no inpainting UNet",
                metadata={"flow": "inpaint"},
            )
        canvas, path = request.canvas, "canvas.masked_image."
        start, shape = canvas.masked_image, self._movq.latent_shape(canvas)
        if not start.HasField("mask"):
            raise invalid(f"{path}mask", "is required")
        size = [canvas.height, canvas.width]
        mask = tensors.to_torch(start.mask, f"{path}mask", dtypes=tensors.UINT8, shape=size)
        strength = sampling.strength(start, path, 1.0)
        return Repaint(
            self._inpaint,
            self._sampler(request.sampling, self._inpaint_scheduler, strength, path),
            sampling.guidance_scale(request.sampling),
            shape,
            self._conditioning(request, self._inpaint),
            given_noise=self._given(start, "noise", path, shape),
            picture=self._given_picture(start, path, shape),
            kept=kept_cells(mask, *shape[1:], self._like),
            from_noise=strength == 1,
            blends=self.repaint_blends,
            previewing=self._movq.previewing(request.preview_mode),
        )

    def _sampler(
        self, request: sampling_pb2.Sampling, base: Any, strength: float, path: str
    ) -> Sampler:
        scheduler = self._new_scheduler(base, request.scheduler)
        return Sampler(scheduler, request, strength, f"{path}strength", self._like.device)

    def _new_scheduler(self, base: Any, name: str) -> Any:
        return new_scheduler(base, name)

    def _noising(self, strength: float) -> Noising | None:
        """How image to image noises its picture; None as the scheduler does it."""
        return None

    def _given(
        self, start: Any, field: str, path: str, shape: tuple[int, int, int]
    ) -> torch.Tensor | None:
        if not start.HasField(field):
            return None
        return sampling.tensor(start, field, path, shape, self._like)

    def _given_picture(
        self, start: Any, path: str, shape: tuple[int, int, int]
    ) -> torch.Tensor | None:
        """The picture's latent; None where its pixels are to be encoded."""
        if start.HasField("pixels") == start.HasField("latents"):
            raise invalid(f"{path}pixels", "or latents are required, one of the two")
        return self._given(start, "latents", path, shape)

    def _conditioning(
        self, request: decoder_pb2.DecodeRequest, network: DenoisingNetwork
    ) -> dict[str, torch.Tensor]:
        guided = sampling.guidance_scale(request.sampling) > 1
        shapes = self._conditioning_shapes(network.unet)
        found = sampling.conditioning(request.conditioning, shapes, guided, self._like)
        if not network.takes_hint:
            if request.conditioning.HasField("hint"):
                raise invalid("conditioning.hint", "this model takes no hint")
            return found
        if not request.conditioning.HasField("hint"):
            raise invalid("conditioning.hint", "is required: this model draws by a control hint")
        size = [3, request.canvas.height, request.canvas.width]
        hint = sampling.tensor(request.conditioning, "hint", "conditioning.", size, self._like)
        return {**found, "hint": hint.expand(2 if guided else 1, *size)}

    def _conditioning_shapes(self, unet: UNet2DConditionModel) -> dict[str, list[int]]:
        """What a UNet follows, by the field of Conditioning that holds it."""
        return {"image_embed": [unet.config.encoder_hid_dim]}
