"""Which layout and compilation is fastest on this machine, for each stage of a model.

They change rounding, so every replica of a stage must run the same: what is found is written to a
file, which `kandinsky up --runtime` and a Serve configuration take.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from kandinsky.catalog.family import Stage
from services.decoder.families import FAMILIES as DECODERS
from services.engine.calibration import forward_seconds
from services.engine.phase import Phase
from services.loading import families
from services.loading.runtime_options import OptionRefused, RuntimeOptions
from services.prior.families import FAMILIES as PRIORS
from services.transport.settings import StageSettings

logger = logging.getLogger(__name__)

ROWS = (2, 8, 16, 32)
"""Row counts of forwards that count alike."""
WORTH = 0.03
"""Share by which another way than the default must be faster to be taken."""
TUNED = (Stage.PRIOR, Stage.DECODER)

Times = Mapping[int, float]
"""Seconds of a forward by its rows."""


class TuningError(RuntimeError):
    """A file of runtime options that cannot be taken; the message is one sentence."""


class Tuning(BaseModel):
    """What was found: the content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    """Such as `cpu` or `NVIDIA H100 80GB HBM3`; on another one it would have to be found again."""
    models: dict[str, dict[Stage, RuntimeOptions]]

    def write(self, path: Path) -> None:
        """Writes the file; an option that is the default is left out."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Tuning":
        """Reads a file.

        Raises:
            TuningError: there is none, it is not such a file, or it is of another device.
        """
        try:
            found = cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError) as error:
            raise TuningError(f"{path} cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "content"
            raise TuningError(f"{path}: {where}: {first['msg']}") from error
        if found.device != device_name():
            raise TuningError(f"{path} is of {found.device}, and this is {device_name()}")
        return found

    def arguments(self) -> dict[str, dict[Stage, dict[str, Any]]]:
        """The key `runtime` of each stage's arguments, by model and stage."""
        return {
            model: {
                stage: options.model_dump(exclude_defaults=True) for stage, options in of.items()
            }
            for model, of in self.models.items()
        }


def device_name() -> str:
    """Of this machine's device."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def candidates(stage: Stage, cuda: bool) -> list[RuntimeOptions]:
    """What a stage is tried with; the default comes first."""
    layouts = [{}, {"channels_last": True}] if stage is Stage.DECODER else [{}]
    compiled = [{}, {"compile": True}, *([{"compile": True, "cuda_graphs": True}] if cuda else [])]
    return [
        RuntimeOptions.model_validate({**layout, **how}) for how in compiled for layout in layouts
    ]


def tune(
    model: str,
    catalog: Sequence[Path],
    threads: int,
    measured: Callable[[Stage, RuntimeOptions, Times], None],
) -> dict[Stage, RuntimeOptions]:
    """The fastest options of each stage.

    Args:
        model: name in the catalog.
        catalog: folders beside the built-in one.
        threads: of a replica.
        measured: is called with each measurement.
    """
    torch.set_num_threads(threads)
    found = {}
    for stage in TUNED:
        settings = StageSettings(model=model, catalog=tuple(catalog), threads=threads)
        if stage not in settings.entry.stages:
            continue
        times: list[tuple[RuntimeOptions, Times]] = []
        for options in candidates(stage, settings.device.type == "cuda"):
            try:
                taken = forward_seconds(
                    _usual(settings.model_copy(update={"runtime": options}), stage), ROWS
                )
            except OptionRefused as error:
                logger.info("%s", error)
                continue
            measured(stage, options, taken)
            times.append((options, taken))
        found[stage] = fastest(times)
    return found


def fastest(times: Sequence[tuple[RuntimeOptions, Times]]) -> RuntimeOptions:
    """The options whose forwards are fastest beside the first's, over all row counts alike.

    Args:
        times: the default's come first; it stays where no other is faster by WORTH.
    """
    (default, usual), *_ = times

    def ratio(taken: Times) -> float:
        return sum(taken[rows] / usual[rows] for rows in usual) / len(usual)

    options, taken = min(times, key=lambda each: ratio(each[1]))
    return options if ratio(taken) < 1 - WORTH else default


def _usual(settings: StageSettings, stage: Stage) -> Phase:
    """A phase such as requests of the model's usual size have."""
    registry = PRIORS if stage is Stage.PRIOR else DECODERS
    entry = settings.entry
    family = families.load(registry, entry.family)(settings.loaders(stage), entry)
    size = () if stage is Stage.PRIOR else (entry.size.height, entry.size.width)
    phase: Phase = family.calibration_phase(*size)
    return phase
