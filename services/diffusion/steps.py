"""The steps of denoising loops, over all jobs at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from services.device.copies import to_device
from services.diffusion.guidance import Rule
from services.diffusion.noise import draw_rows
from services.engine.stack import Stack, State
from services.engine.stepper import Stepper
from services.samplers.row_sampler import RowSampler

if TYPE_CHECKING:
    from services.diffusion.denoising import Denoise


@dataclass(frozen=True)
class DenoisingSteps(Stepper):
    """Guidance and sampling of jobs whose samplers step alike."""

    sampler: RowSampler
    rule: Rule
    """Of guidance."""
    keeps_variance: bool
    """Whether the sampler reads the network's channels after the prediction's."""

    def inputs(self, stack: Stack) -> torch.Tensor:
        generators = [member.generator for member in stack.members]
        samplers = [phase.sampler for phase in stack.phases]
        stack.at = self.sampler.at(samplers, stack.steps, generators, stack.latent)
        return self.sampler.scale_input(stack.at, stack.latent)

    def draw(self, stack: Stack) -> torch.Tensor | None:
        jobs = zip(stack.members, stack.phases, strict=True)
        drawing = [
            job.generator if self.sampler.draws(phase.sampler, job.step) else None
            for job, phase in jobs
        ]
        return draw_rows(drawing, stack.latent)

    def predict(self, stack: Stack, output: torch.Tensor) -> torch.Tensor:
        """[J, C, ...], with the variance's channels after it where kept: the conditional row's."""
        channels, dtype = stack.latent.shape[1], stack.latent.dtype
        if dtype.itemsize < torch.float32.itemsize:
            output = output.float()
        conditional = stack.conditional(output)
        prediction = conditional.narrow(1, 0, channels)
        if max(stack.counts) == 1:
            return conditional if self.keeps_variance else prediction
        guided = self.rule(
            stack.unconditional(output).narrow(1, 0, channels),
            prediction,
            self._scales(stack, output),
        )
        if min(stack.counts) == 1:
            is_guided = stack.has_several().view(-1, *[1] * (guided.dim() - 1))
            guided = torch.where(is_guided, guided, prediction)
        if not self.keeps_variance:
            return guided
        variance = conditional.narrow(1, channels, conditional.shape[1] - channels)
        return torch.cat([guided, variance], dim=1)

    def preview(
        self, stack: Stack, prediction: torch.Tensor, places: Sequence[int]
    ) -> list[torch.Tensor | None]:
        latent = stack.latent
        clean = self.sampler.original(stack.at, latent, prediction[:, : latent.shape[1]])
        images: dict[int, torch.Tensor] = {}
        by_previewer: dict[Any, list[int]] = {}
        for place in places:
            previewer = stack.phases[place].previewer
            if previewer is not None:
                by_previewer.setdefault(previewer, []).append(place)
        for previewer, those in by_previewer.items():
            chosen = clean.index_select(0, to_device(torch.tensor(those), latent))
            images |= dict(zip(those, previewer(chosen.to(latent.dtype)).unbind(), strict=True))
        return [images.get(place) for place in places]

    def advance(self, stack: Stack, prediction: torch.Tensor, noise: torch.Tensor | None) -> State:
        return self.sampler.step(stack.at, stack.state, prediction, noise)

    def _scales(self, stack: Stack, like: torch.Tensor) -> torch.Tensor:
        """Of guidance, [J, 1, ...]."""
        phases: list[Denoise] = stack.phases
        return stack.kept(
            "guidance scale", lambda: _column([phase.guidance.scale for phase in phases], like)
        )


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """One a job, to be broadcast."""
    column = torch.tensor(values, dtype=like.dtype).view(-1, *[1] * (like.dim() - 1))
    return to_device(column, like)
