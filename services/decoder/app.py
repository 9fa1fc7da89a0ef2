"""The decoder stage as a Serve application."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig

from kandinsky.catalog.family import Stage
from services.decoder.families import FAMILIES
from services.decoder.service import DecoderService
from services.loading import families
from services.transport.engine_replica import start_engine
from services.transport.replica import prepare_process
from services.transport.settings import MAX_ONGOING_REQUESTS, StageSettings

ROUTER = "services.transport.sharing_router.SharingRouter"


@serve.deployment(
    name="Decoder",
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    request_router_config=RequestRouterConfig(request_router_class=ROUTER),
)
class Decoder(DecoderService):
    """One replica: loads the family's decoder and runs it on an engine of its own."""

    def __init__(self, settings: StageSettings) -> None:
        prepare_process(settings)
        entry = settings.entry
        family = families.load(FAMILIES, entry.family)(settings.loaders(Stage.DECODER), entry)
        usual = family.calibration_phase(entry.size.height, entry.size.width)
        others = partial(family.further_phases, entry.size.height, entry.size.width)
        name = f"{settings.model}-decoder"
        super().__init__(family, start_engine(settings, name, usual, others))


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    bound: serve.Application = Decoder.bind(  # type: ignore[attr-defined]  # the decorator's own
        StageSettings.parse(args)
    )
    return bound
