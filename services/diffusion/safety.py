"""A safety checker as a pass after decoding: what it flags comes out black."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPImageProcessor

from services.diffusion.autoencoder import OnePass
from services.diffusion.previews import as_bytes
from services.engine.phase import Network, Phase
from services.engine.stack import State


class SafetyChecker(Network):
    """Images [rows, 3, H, W] from 0 to 1 to verdicts [rows, 1]: 1 for one that is flagged, else 0.

    Args:
        checker: StableDiffusionSafetyChecker of diffusers.
        processor: of its images.
        device: of the checker.
    """

    name = "safety check"

    def __init__(
        self,
        checker: StableDiffusionSafetyChecker,
        processor: CLIPImageProcessor,
        device: torch.device,
    ) -> None:
        self._checker = checker
        self._processor = processor
        self._device = device  # an offloaded network's own is another

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        # As the reference does, the image is seen in the 8 bits that the caller sees.
        files = [
            Image.fromarray(each.cpu().numpy()) for each in as_bytes(inputs.permute(0, 2, 3, 1))
        ]
        values = self._processor(files, return_tensors="pt").pixel_values
        _, flagged = self._checker(
            clip_input=values.to(self._device, inputs.dtype),
            images=[torch.zeros(1) for _ in files],  # it blackens these
        )
        return torch.tensor(flagged, dtype=inputs.dtype, device=inputs.device)[:, None]

    def checking(self, latent_area: int) -> Phase:
        """The pass that follows decoding.

        Args:
            latent_area: of the image's latent.
        """
        return SafetyPass(self.name, self, latent_area, "image")


@dataclass(eq=False)
class SafetyPass(OnePass):
    """Ends with the outputs `image`, black where it is flagged, and `flagged` [1, 1]."""

    image: torch.Tensor = field(init=False)

    def begin(self, value: torch.Tensor | None, generator: torch.Generator) -> State:
        state = super().begin(value, generator)
        if value is None:
            raise ValueError("there is no image to check")
        self.image = value
        return state

    def outputs(self, value: torch.Tensor) -> Mapping[str, torch.Tensor]:
        flagged = value > 0
        image = torch.where(flagged[..., None, None], torch.zeros_like(self.image), self.image)
        return {"image": image, "flagged": flagged}
