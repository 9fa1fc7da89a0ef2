"""The decoder stage as a Serve application."""

from collections.abc import Mapping
from typing import Any

import torch
from ray import serve

from kandinsky.catalog.family import Stage
from services.decoder.families import FAMILIES
from services.decoder.service import DecoderService
from services.engine.batcher import Batcher
from services.engine.calibration import calibrated_limits
from services.engine.step_times import StepTimeEstimator
from services.loading import families
from services.loading.memory import keep_freed_memory
from services.transport.draining import when_stopped
from services.transport.logs import log_through_serve
from services.transport.settings import MAX_ONGOING_REQUESTS, StageSettings


@serve.deployment(name="Decoder", max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Decoder(DecoderService):
    """One replica: loads the family's decoder and runs it on an engine of its own."""

    def __init__(self, settings: StageSettings) -> None:
        torch.set_num_threads(settings.threads)
        log_through_serve()
        keep_freed_memory()
        cls = families.load(FAMILIES, settings.entry.family)
        family = cls(settings.loader(Stage.DECODER), settings.inpaint_loader())
        family.check_flows(settings.entry.flows)
        usual, step_times = settings.entry.defaults, StepTimeEstimator()
        limits = calibrated_limits(
            settings.engine, family.calibration_phase(usual.height, usual.width), step_times
        )
        batcher = Batcher(limits, f"{settings.model}-decoder", step_times)
        super().__init__(family, batcher)
        when_stopped(batcher.drain)

    def check_health(self) -> None:
        """Tells Serve to replace this replica when its engine has died."""
        self._batcher.check()


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application for `args`, the fields of StageSettings."""
    return Decoder.bind(StageSettings.parse(args))
