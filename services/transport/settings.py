"""What a stage is started with: the arguments of its `build`, parsed once."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from kandinsky.catalog import hub, lock
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import Stage
from services.engine.limits import EngineLimits
from services.loading.loader import Loader
from services.loading.model_offloader import ModelOffloader
from services.loading.runtime_options import RuntimeOptions

logger = logging.getLogger(__name__)

MAX_ONGOING_REQUESTS = 2048
"""Calls that Serve lets into a replica: above every engine's own queue, which is to refuse."""


class StageSettings(BaseModel):
    """Arguments of a stage's Serve application; an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Name in the catalog."""
    catalog: tuple[Path, ...] = ()
    """Folders of catalog files beside the built-in one."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one replica's networks."""
    engine: EngineLimits = EngineLimits()
    runtime: RuntimeOptions = RuntimeOptions()

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> "StageSettings":
        """Checks the arguments of `build`.

        Raises:
            pydantic.ValidationError: an argument is missing, unknown or out of range.
            CatalogError: the catalog cannot be read, or lacks the model.
        """
        settings = cls.model_validate(args)
        settings.entry  # noqa: B018 - fails here, in the driver, rather than in a replica
        return settings

    @cached_property
    def entry(self) -> CatalogEntry:
        """The model's catalog entry."""
        return Catalog.load(self.catalog)[self.model]

    @property
    def device(self) -> torch.device:
        """The torch device of the networks."""
        if self.entry.device != "auto":
            return torch.device(self.entry.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def loaders(self, stage: Stage) -> dict[str, Loader]:
        """Load from the stage's checkpoints, by their role in the family.

        Raises:
            OptionRefused: the stage or its device cannot honour a runtime option.
        """
        self.runtime.check(stage, self.device, self.entry.adapters is not None)
        dtype: torch.dtype = getattr(torch, self.runtime.dtype or self.entry.dtype)
        for checkpoint in lock.moving(self.entry):
            logger.warning("%s", hub.moving(checkpoint))
        offloader = ModelOffloader()
        return {
            role: Loader(checkpoint, self.device, dtype, self.runtime, offloader)
            for role, checkpoint in self.entry.checkpoints(stage).items()
        }
