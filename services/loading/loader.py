"""Loading parts of a checkpoint: a local folder in the layout of save_pretrained, or the hub."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from kandinsky.catalog.entry import Checkpoint, FolderCheckpoint
from kandinsky.catalog.hub import asking
from services.loading.model_offloader import ModelOffloader
from services.loading.preparation import prepare
from services.loading.runtime_options import RuntimeOptions

CONFIG_FILE, SCHEDULER_FILE = "config.json", "scheduler_config.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be loaded as it is; the message says what is missing."""


@dataclass(frozen=True)
class Loader:
    """Loads the parts of one checkpoint onto a device, in a dtype, ready for inference."""

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    offloader: ModelOffloader = field(default_factory=ModelOffloader)
    """Of every network that shares the device, where whole ones are offloaded."""

    def has_scheduler(self, part: str) -> bool:
        """Whether the checkpoint has a scheduler in subfolder `part`."""
        try:
            return self._file(part, SCHEDULER_FILE).is_file()
        except EntryNotFoundError:
            return False

    def class_name(self, part: str) -> str | None:
        """The class that the network in subfolder `part` says it has."""
        with self._asking():
            config = json.loads(self._file(part, CONFIG_FILE).read_text(encoding="utf-8"))
        name: str | None = config.get("_class_name")
        return name

    def model(self, cls: Any, part: str, *, is_autoencoder: bool = False) -> Any:
        """The network in subfolder `part`, an instance of `cls`, as the runtime options have it.

        Args:
            cls: of diffusers or transformers.
            part: the subfolder.
            is_autoencoder: whether it is one, which some options treat otherwise.

        Raises:
            CheckpointError, HubError: as of `unprepared`.
            OptionRefused: as of `prepared`.
        """
        return self.prepared(self.unprepared(cls, part), is_autoencoder=is_autoencoder)

    def prepared(self, network: torch.nn.Module, *, is_autoencoder: bool = False) -> Any:
        """A network that `unprepared` gave, as the runtime options have it.

        Args:
            network: changed in place.
            is_autoencoder: as of `model`.

        Raises:
            OptionRefused: the network cannot do a runtime option.
        """
        return prepare(
            network, self.runtime, self.device, self.offloader, is_autoencoder=is_autoencoder
        )

    def unprepared(self, cls: Any, part: str) -> Any:
        """The network in subfolder `part`, on the CPU, without runtime options but the dtype.

        Args:
            cls: as of `model`.
            part: likewise.

        Raises:
            CheckpointError: the folder is missing, or lacks some of the network's weights,
                which from_pretrained would fill with random numbers.
            HubError: the hub does not give it.
        """
        name, options = self._source()
        dtype = {"torch_dtype" if issubclass(cls, diffusers.ModelMixin) else "dtype": self.dtype}
        with self._asking():
            model, report = cls.from_pretrained(
                name,
                subfolder=part,
                variant=self.checkpoint.variant,
                output_loading_info=True,
                **dtype,
                **options,
            )
        if report["missing_keys"]:
            missing = ", ".join(sorted(report["missing_keys"])[:3])
            raise CheckpointError(f"{name}/{part} lacks weights of {cls.__name__}: {missing}")
        return model.eval().requires_grad_(False)

    def processor(self, cls: Any, part: str) -> Any:
        """The tokenizer or image processor in subfolder `part`, an instance of `cls`."""
        name, options = self._source()
        with self._asking():
            return cls.from_pretrained(name, subfolder=part, **options)

    def scheduler(self, part: str = "scheduler") -> Any:
        """The noise scheduler that subfolder `part` names, of the class that its file states."""
        with self._asking():
            config = json.loads(self._file(part, SCHEDULER_FILE).read_text(encoding="utf-8"))
        return getattr(diffusers, config["_class_name"]).from_config(config)

    def _file(self, part: str, file: str) -> Path:
        name, options = self._source()
        if isinstance(self.checkpoint, FolderCheckpoint):
            return Path(name) / part / file
        return Path(hf_hub_download(name, f"{part}/{file}", **options))

    def _asking(self) -> AbstractContextManager[None]:
        """Where the hub may be asked: what it says becomes a HubError."""
        if isinstance(self.checkpoint, FolderCheckpoint):
            return nullcontext()
        return asking(self.checkpoint.hub, self.checkpoint.revision)

    def _source(self) -> tuple[str, dict[str, Any]]:
        if not isinstance(self.checkpoint, FolderCheckpoint):
            return self.checkpoint.hub, {"revision": self.checkpoint.revision}
        if not self.checkpoint.folder.is_dir():
            raise CheckpointError(f"checkpoint folder {self.checkpoint.folder} does not exist")
        return str(self.checkpoint.folder), {}
