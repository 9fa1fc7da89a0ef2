"""The prior stage as a Serve application."""

from collections.abc import Mapping
from typing import Any

from ray import serve

from kandinsky.catalog.family import Stage
from services.loading import families
from services.prior.families import FAMILIES
from services.prior.service import PriorService
from services.transport.engine_replica import start_engine
from services.transport.replica import prepare_process
from services.transport.settings import MAX_ONGOING_REQUESTS, StageSettings

PRIOR_NICE = 10
"""Above the decoder's: where stages share cores, what is nearer to its end goes first."""


@serve.deployment(name="Prior", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Prior(PriorService):
    """One replica: loads the family's prior and runs it on an engine of its own."""

    def __init__(self, settings: StageSettings) -> None:
        prepare_process(settings)
        entry = settings.entry
        family = families.load(FAMILIES, entry.family)(settings.loaders(Stage.PRIOR), entry)
        usual, name = family.calibration_phase(), f"{settings.model}-prior"
        super().__init__(family, start_engine(settings, name, usual, nice=PRIOR_NICE))


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    bound: serve.Application = Prior.bind(  # type: ignore[attr-defined]  # the decorator's own
        StageSettings.parse(args)
    )
    return bound
