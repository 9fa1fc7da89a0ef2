"""The engine of a replica: calibrated as it starts, drained as Serve stops it."""

from collections.abc import Callable, Sequence

from services.device.clock import clock_of
from services.engine.batcher import ENGINE_NICE, Batcher
from services.engine.calibration import calibrated_limits, warm_up
from services.engine.phase import Phase
from services.engine.step_times import StepTimeEstimator
from services.transport.draining import when_stopped
from services.transport.settings import StageSettings


def start_engine(
    settings: StageSettings,
    name: str,
    usual: Phase,
    others: Callable[[], Sequence[Phase]] = tuple,
    nice: int = ENGINE_NICE,
) -> Batcher:
    """The engine of a replica, with limits calibrated; it drains when Serve stops the replica.

    Args:
        settings: hold the configured limits.
        name: of its thread.
        usual: a phase such as requests of the usual size have, to calibrate with.
        others: makes what such requests may pass beside it; called where networks are compiled.
        nice: added to the thread's nice value.
    """
    step_times = StepTimeEstimator()
    if settings.runtime.compile:
        warm_up([usual, *others()])
    limits = calibrated_limits(settings.engine, usual, step_times)
    batcher = Batcher(limits, name, step_times, nice, device=clock_of(settings.device))
    when_stopped(batcher.drain)
    return batcher
