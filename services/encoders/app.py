"""The encoder stage as a Serve application."""

from collections.abc import Mapping
from typing import Any

import torch
from ray import serve

from kandinsky.catalog.catalog import Stage
from services import families
from services.encoders.families import FAMILIES
from services.encoders.service import EncoderService
from services.settings import MAX_ONGOING_REQUESTS, StageSettings


@serve.deployment(name="Encoders", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Encoders(EncoderService):
    """One replica: loads the family's encoders and answers EncoderService."""

    def __init__(self, settings: StageSettings) -> None:
        torch.set_num_threads(settings.threads)
        family = families.load(FAMILIES, settings.entry.family)
        super().__init__(family(settings.loader(Stage.ENCODERS)))


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    return Encoders.bind(StageSettings.parse(args))
