"""The prior stage as a Serve application."""

from collections.abc import Mapping
from typing import Any

import torch
from ray import serve

from kandinsky.catalog.catalog import Stage
from services import families
from services.draining import when_stopped
from services.engine.batcher import Batcher
from services.engine.pace import Pace
from services.engine.trial import limits_for
from services.logs import log_through_serve
from services.memory import keep_freed_memory
from services.prior.families import FAMILIES
from services.prior.service import PriorService
from services.settings import MAX_ONGOING_REQUESTS, StageSettings

PRIOR_NICE = 10
"""Above the decoder's: where stages share cores, what is nearer to its end goes first."""


@serve.deployment(name="Prior", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Prior(PriorService):
    """One replica: loads the family's prior and runs it on an engine of its own."""

    def __init__(self, settings: StageSettings) -> None:
        torch.set_num_threads(settings.threads)
        log_through_serve()
        keep_freed_memory()
        family = families.load(FAMILIES, settings.entry.family)(settings.loader(Stage.PRIOR))
        pace = Pace()
        limits = limits_for(settings.engine, family.trial(), pace)
        batcher = Batcher(limits, f"{settings.model}-prior", pace, PRIOR_NICE)
        super().__init__(family, batcher)
        when_stopped(batcher.drain)

    def check_health(self) -> None:
        """Tells Serve to replace this replica when its engine has died."""
        self._batcher.check()


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    return Prior.bind(StageSettings.parse(args))
