"""The prior of Kandinsky 2.1 and 2.2: CLIP text to CLIP image embedding, by diffusion."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from diffusers import PriorTransformer
from diffusers.utils.torch_utils import randn_tensor

from kandinsky.v1 import prior_pb2
from kandinsky.wire.errors import invalid
from services.engine.phase import Phase, Stateless, classifier_free_guidance
from services.engine.snapshot import Snapshot, accept_latent
from services.loading.denoising_call import denoising_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions
from services.transport import sampling

MIN_STEPS = 2
"""UnCLIPScheduler.set_timesteps divides by steps - 1."""


class PriorNetwork:
    """PriorTransformer as an engine Network: [rows, D] to the predicted embedding [rows, D]."""

    name = "prior"

    def __init__(self, transformer: PriorTransformer, runtime: RuntimeOptions) -> None:
        self.transformer = transformer
        self._call = denoising_call(transformer, runtime)

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        return self._call(
            hidden_states=inputs,
            timestep=timesteps,
            proj_embedding=conditioning["text_embed"],
            encoder_hidden_states=conditioning["text_states"],
            attention_mask=conditioning["text_mask"],
            return_dict=False,
        )[0]


@dataclass(eq=False)
class SampleEmbedding(Stateless, Phase):
    """The prior's denoising loop; ends with the image embedding [1, D]."""

    network: PriorNetwork
    scheduler: object
    timesteps: torch.Tensor
    guidance_scale: float
    conditioning: Mapping[str, torch.Tensor]
    given_latents: torch.Tensor | None
    start: torch.Tensor | None
    """[1, D] embedding to noise and move toward the text; None for noise alone."""
    name: str = "prior"
    latent_area: int = 1

    @property
    def rows(self) -> int:
        return len(self.conditioning["text_embed"])

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        latents = self.given_latents
        if latents is None:
            like = self.conditioning["text_embed"]
            shape = (1, self.network.transformer.config.embedding_dim)
            latents = randn_tensor(shape, generator, device=like.device, dtype=like.dtype)
        if self.start is not None:
            return self.scheduler.add_noise(self.start, latents, self.timesteps[:1])
        return latents * self.scheduler.init_noise_sigma

    def accept(self, snapshot: Snapshot) -> Snapshot:
        shape = (1, self.network.transformer.config.embedding_dim)
        dtype = self.conditioning["text_embed"].dtype
        latent = accept_latent(snapshot.latent, shape, dtype)
        return super().accept(replace(snapshot, latent=latent))

    def inputs(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        return latent

    def advance(
        self, output: torch.Tensor, latent: torch.Tensor, step: int, generator: torch.Generator
    ) -> torch.Tensor:
        if self.rows == 2:
            output = classifier_free_guidance(output, self.guidance_scale)
        last = step + 1 == len(self.timesteps)
        latent = self.scheduler.step(
            output,
            timestep=self.timesteps[step],
            sample=latent,
            generator=generator,
            prev_timestep=None if last else self.timesteps[step + 1],
        ).prev_sample
        return self.network.transformer.post_process_latents(latent) if last else latent


class Kandinsky22Prior:
    """Makes the phases of a SampleEmbedding call."""

    def __init__(self, loader: Loader) -> None:
        self._network = PriorNetwork(loader.model(PriorTransformer, "prior"), loader.runtime)
        self._scheduler = loader.scheduler()
        self._like = torch.empty(0, device=loader.device, dtype=loader.dtype)

    def calibration_phase(self) -> Phase:
        """A guided run like any other, on nothing, to measure the device with."""
        scheduler = type(self._scheduler).from_config(self._scheduler.config)
        scheduler.set_timesteps(MIN_STEPS, device=self._like.device)
        zeros = {
            name: torch.zeros(2, *shape).to(self._like) for name, shape in self._shapes().items()
        }
        zeros["text_mask"] = torch.ones_like(zeros["text_mask"], dtype=torch.bool)
        return SampleEmbedding(
            self._network, scheduler, scheduler.timesteps, 1.0, zeros, None, None
        )

    def phases(self, request: prior_pb2.SampleEmbeddingRequest) -> list[Phase]:
        """The request as one denoising loop.

        Raises:
            KandinskyError: INVALID_FIELD for what the snapshot cannot take.
        """
        most = self._scheduler.config.num_train_timesteps
        steps = sampling.steps(request.sampling, MIN_STEPS, most)
        scale = sampling.guidance_scale(request.sampling)
        for field in ("scheduler", "eta"):
            if getattr(request.sampling, field):
                raise invalid(f"sampling.{field}", "is not open to choice in the prior")
        scheduler = type(self._scheduler).from_config(self._scheduler.config)
        scheduler.set_timesteps(steps, device=self._like.device)
        config = self._network.transformer.config
        given, start = (
            sampling.tensor(request, field, "", [config.embedding_dim], self._like)
            if request.HasField(field)
            else None
            for field in ("latents", "start_embed")
        )
        return [
            SampleEmbedding(
                self._network,
                scheduler,
                scheduler.timesteps[steps - _taken(request, steps) :],
                scale,
                sampling.conditioning(request.conditioning, self._shapes(), scale > 1, self._like),
                given,
                start,
            )
        ]

    def _shapes(self) -> dict[str, list[int]]:
        """What the network follows, by the field of Conditioning that holds it."""
        config = self._network.transformer.config
        return {
            "text_embed": [config.embedding_dim],
            "text_states": [config.num_embeddings, config.embedding_dim],
            "text_mask": [config.num_embeddings],
        }


def _taken(request: prior_pb2.SampleEmbeddingRequest, steps: int) -> int:
    """How many of the steps are run: all from noise, a share of them from an embedding."""
    if not request.HasField("start_embed"):
        if request.HasField("strength"):
            raise invalid("strength", "is read only beside start_embed")
        return steps
    strength = sampling.strength(request, "", sampling.DEFAULT_STRENGTH)
    if not int(steps * strength):
        raise invalid("strength", f"{strength:g} of {steps} steps leaves none; raise either")
    return int(steps * strength)
