"""SampleEmbedding requests as phases: what the families of embedding priors have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kandinsky.catalog.family import ConditioningField, SamplerSpec
from kandinsky.v1 import prior_pb2
from kandinsky.wire.errors import invalid
from services.diffusion.denoising import EVERYWHERE, Denoise, Interval
from services.diffusion.guidance import Guidance
from services.diffusion.network import DenoisingNetwork
from services.engine.phase import Phase
from services.prior.service import PriorFamily
from services.samplers.sampler import Sampler
from services.samplers.samplers import sampler_of
from services.samplers.schedulers import Schedulers
from services.transport import conditioning, reading


@dataclass(frozen=True)
class EmbeddingPrior(PriorFamily):
    """Makes the phases of SampleEmbedding calls, of a family's parts."""

    reads: Sequence[ConditioningField]
    """The fields that the family's prior declares."""
    sampler: SamplerSpec
    """Defaults of the model."""
    network: DenoisingNetwork
    """Predicts an embedding [rows, D]."""
    schedulers: Schedulers
    width: int
    """D."""
    like: torch.Tensor
    """Has the network's device and dtype."""
    finish: Callable[[torch.Tensor], torch.Tensor]
    """From what the loop ends with to the image embedding."""
    hands_over_generator: bool = False

    def calibration_phase(self) -> Phase:
        rows = self.network.calibration_rows(0, 0, self.like)
        return self._loop(Guidance(1.0), self._sampler(self.sampler.min_steps, 1.0), rows)

    def phases(self, request: prior_pb2.SampleEmbeddingRequest) -> list[Phase]:
        levels = self.schedulers.default.config.num_train_timesteps
        steps = reading.steps(request.sampling, self.sampler.min_steps, levels)
        reading.refuse_options(request.sampling, self.sampler)
        for field in ("scheduler", "eta", "step_cache_interval"):
            if request.sampling.HasField(field):
                raise invalid(f"sampling.{field}", "cannot be chosen in the prior")
        guidance = Guidance(reading.guidance_scale(request.sampling, self.sampler))
        with reading.refused_at("strength"):
            sampler = self._sampler(steps, self._strength(request))
        rows = conditioning.read(
            request.conditioning,
            self.reads,
            self.network.shapes(0, 0),
            guidance.is_on,
            self.like,
        )
        interval = reading.guidance_interval(request.sampling)
        loop = self._loop(guidance, sampler, self.network.prepare(rows), interval)
        shape = [self.width]
        loop.given_noise = reading.optional_tensor(request, "latents", "", shape, self.like)
        loop.start = reading.optional_tensor(request, "start_embed", "", shape, self.like)
        return [loop]

    def _strength(self, request: prior_pb2.SampleEmbeddingRequest) -> float:
        """The share of the steps that is run: all from noise, a part of them from an embedding."""
        if request.HasField("start_embed"):
            return request.strength if request.HasField("strength") else self.sampler.strength
        if request.HasField("strength"):
            raise invalid("strength", "is read only beside start_embed")
        return 1.0

    def _sampler(self, steps: int, strength: float) -> Sampler:
        return sampler_of(self.schedulers, None, steps, strength)

    def _loop(
        self,
        guidance: Guidance,
        sampler: Sampler,
        rows: dict[str, torch.Tensor],
        guidance_interval: Interval = EVERYWHERE,
    ) -> Denoise:
        return Denoise(
            self.network,
            sampler,
            guidance,
            (self.width,),
            rows,
            finish=self.finish,
            output="image_embed",
            name="prior",
            guidance_interval=guidance_interval,
        )
