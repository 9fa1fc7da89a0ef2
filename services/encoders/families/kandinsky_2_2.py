"""Encoders of Kandinsky 2.2: CLIP text for the prior, CLIP vision for images."""

from collections.abc import Mapping

from kandinsky.catalog.entry import CatalogEntry
from services.encoders.clip import ClipImageEncoder, ClipTextEncoder
from services.encoders.composed import ComposedEncoders
from services.loading.loader import Loader


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoint, by role: `weights`.
        entry: of the model.
    """
    loader = loaders["weights"]
    return ComposedEncoders(prior=ClipTextEncoder(loader), image=ClipImageEncoder(loader))
