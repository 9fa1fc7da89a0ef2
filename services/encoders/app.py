"""The encoder stage as a Serve application."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import serve

from kandinsky.catalog.family import Stage
from kandinsky.v1 import encoders_pb2
from services.encoders.families import FAMILIES
from services.encoders.service import EncoderService
from services.loading import families
from services.transport.replica import prepare_process
from services.transport.settings import MAX_ONGOING_REQUESTS, StageSettings

BATCH_SIZE = 32
BATCH_WAIT_SECONDS = 0.002


@serve.deployment(name="Encoders", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Encoders(EncoderService):
    """One replica: loads the family's encoders and answers EncoderService."""

    def __init__(self, settings: StageSettings) -> None:
        prepare_process(settings)
        entry = settings.entry
        family = families.load(FAMILIES, entry.family)(settings.loaders(Stage.ENCODERS), entry)
        super().__init__(family, settings.engine.max_queue)

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_SECONDS
    )
    async def encode_text(self, texts: list[str]) -> list[encoders_pb2.TextEncoding]:
        """Texts of calls that arrive together share a forward."""
        return await self._encode_texts(texts)

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_SECONDS
    )
    async def encode_image(
        self, images: list[np.ndarray]
    ) -> list[encoders_pb2.EncodeImageResponse]:
        """Images of calls that arrive together share a forward."""
        return await self._encode_images(images)


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    bound: serve.Application = Encoders.bind(  # type: ignore[attr-defined]  # the decorator's own
        StageSettings.parse(args)
    )
    return bound
