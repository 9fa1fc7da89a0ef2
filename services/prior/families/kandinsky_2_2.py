"""The prior of Kandinsky 2.1 and 2.2."""

from collections.abc import Mapping

from kandinsky.catalog.entry import CatalogEntry
from services.loading.loader import Loader
from services.prior.embedding_prior import EmbeddingPrior
from services.prior.transformer_prior import transformer_prior


def prior(loaders: Mapping[str, Loader], entry: CatalogEntry) -> EmbeddingPrior:
    """Load the prior.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    return transformer_prior(loaders["weights"], entry)
