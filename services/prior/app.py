"""The prior stage as a Serve application."""

from collections.abc import Mapping
from typing import Any

import torch
from ray import serve

from kandinsky.catalog.family import Stage
from services.engine.batcher import Batcher
from services.engine.calibration import calibrated_limits
from services.engine.step_times import StepTimeEstimator
from services.loading import families
from services.loading.memory import keep_freed_memory
from services.prior.families import FAMILIES
from services.prior.service import PriorService
from services.transport.draining import when_stopped
from services.transport.logs import log_through_serve
from services.transport.settings import MAX_ONGOING_REQUESTS, StageSettings

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
        step_times = StepTimeEstimator()
        limits = calibrated_limits(settings.engine, family.calibration_phase(), step_times)
        batcher = Batcher(limits, f"{settings.model}-prior", step_times, PRIOR_NICE)
        super().__init__(family, batcher)
        when_stopped(batcher.drain)

    def check_health(self) -> None:
        """Tells Serve to replace this replica when its engine has died."""
        self._batcher.check()


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    return Prior.bind(StageSettings.parse(args))
