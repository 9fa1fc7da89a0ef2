"""Encoders of Karlo: CLIP text for prior and decoder alike, CLIP vision for images."""

from collections.abc import Mapping

from kandinsky.catalog.entry import CatalogEntry
from services.encoders.clip import ClipImageEncoder, ClipTextEncoder
from services.encoders.composed import ComposedEncoders
from services.loading.loader import Loader


def encoders(loaders: Mapping[str, Loader], entry: CatalogEntry) -> ComposedEncoders:
    """Load the encoders.

    Args:
        loaders: of the checkpoints, by role: `weights` has the text encoder, `image` the other.
        entry: of the model.
    """
    text = ClipTextEncoder(loaders["weights"])
    image = ClipImageEncoder(loaders["image"], processor="feature_extractor")
    return ComposedEncoders(prior=text, decoder=text, image=image)
