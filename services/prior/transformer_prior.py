"""The prior of unCLIP models: CLIP text to CLIP image embedding, by diffusion of a transformer.

DALL-E 2, arXiv 2204.06125 section 2.2.
"""

from collections.abc import Mapping

import torch
from diffusers import PriorTransformer

from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.diffusion.network import DenoisingNetwork, Shapes
from services.loading.denoising_call import denoising_call
from services.loading.loader import Loader
from services.loading.runtime_options import RuntimeOptions
from services.prior.embedding_prior import EmbeddingPrior
from services.samplers.schedulers import Schedulers


class PriorNetwork(DenoisingNetwork):
    """PriorTransformer: [rows, D] to the predicted embedding [rows, D]."""

    name = "prior"

    def __init__(self, transformer: PriorTransformer, runtime: RuntimeOptions) -> None:
        self.transformer = transformer
        self._call = denoising_call(transformer, runtime)

    def shapes(self, height: int, width: int) -> Shapes:
        config = self.transformer.config
        return {
            "text_embed": (config.embedding_dim,),
            "text_states": (config.num_embeddings, config.embedding_dim),
            "text_mask": (config.num_embeddings,),
        }

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


def transformer_prior(
    loader: Loader, entry: CatalogEntry, scheduler: str = "scheduler"
) -> EmbeddingPrior:
    """Load a prior.

    Args:
        loader: of its checkpoint.
        entry: of the model.
        scheduler: the subfolder of its noise scheduler.
    """
    transformer = loader.unprepared(PriorTransformer, "prior")
    # Read after its last forward, when its weights may lie elsewhere.
    mean, deviation = (
        weight.detach().clone().to(loader.device)
        for weight in (transformer.clip_mean, transformer.clip_std)
    )
    network = PriorNetwork(loader.prepared(transformer), loader.runtime)
    return EmbeddingPrior(
        entry.spec.reads[Stage.PRIOR],
        entry.stage_samplers(Stage.PRIOR)[0],
        network,
        Schedulers(loader.scheduler(scheduler)),
        network.transformer.config.embedding_dim,
        torch.empty(0, device=loader.device, dtype=loader.dtype),
        lambda latent: latent * deviation + mean,
        entry.spec.one_generator,
    )
