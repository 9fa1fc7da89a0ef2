"""The prior of Karlo: that of Kandinsky 2, beside the other networks of one checkpoint."""

from collections.abc import Mapping

from kandinsky.catalog.entry import CatalogEntry
from services.loading.loader import Loader
from services.prior.embedding_prior import EmbeddingPrior
from services.prior.families import kandinsky_2_2


def prior(loaders: Mapping[str, Loader], entry: CatalogEntry) -> EmbeddingPrior:
    """Load the prior.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    return kandinsky_2_2.prior(loaders, entry, scheduler="prior_scheduler")
