"""The adapters that a replica has loaded for one of its networks, by name."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from kandinsky.catalog.adapters import MOST, AdapterError, adapter_folder
from kandinsky.v1 import sampling_pb2
from kandinsky.wire.errors import invalid
from services.adapters import lora_file
from services.adapters.row_lora import RowLora

SLOTS, SCALES = "adapter_slots", "adapter_scales"
"""Conditioning beside that of the family: int64 [rows, K] and float [rows, K]."""
PATH = "adapters"


class Adapters:
    """Loads a model's adapters as requests name them; what is loaded stays.

    Args:
        folder: of the model's adapters; None for a model that has none.
        part: `unet` or `text_encoder`: the name of the network in adapter files.
        network: that they change.
        like: has its device, where its own weights may not lie, and its dtype.
    """

    def __init__(
        self, folder: Path | None, part: str, network: torch.nn.Module, like: torch.Tensor
    ) -> None:
        self._folder = None if folder is None else adapter_folder(folder)
        self._part = part
        self._network = network
        self._like = like
        self._slots: dict[tuple[Path, tuple[int, int]], int] = {}
        self._loading = threading.Lock()
        self.lora = RowLora(network, like)
        if folder is not None:
            self.lora.attach()

    def load(self, named: Sequence[sampling_pb2.Adapter]) -> None:
        """Load those that are not there yet, or whose file has changed; reads files.

        Raises:
            KandinskyError: INVALID_FIELD for a name that the model has not, or a file that cannot
                be used.
        """
        for i, adapter in enumerate(named):
            self._slot(adapter.name, i)

    def rows(self, named: Sequence[sampling_pb2.Adapter], count: int) -> Mapping[str, torch.Tensor]:
        """What rows of a job hold beside their conditioning; nothing without adapters.

        Jobs with one, two or up to four adapters, and so on, share forwards.

        Args:
            named: loaded.
            count: of the rows.

        Raises:
            KandinskyError: as `load`; INVALID_FIELD for more than a request may name.
        """
        if not named:
            return {}
        if len(named) > MOST:
            raise invalid(PATH, f"names {len(named)}; the most is {MOST}")
        width = 1 << (len(named) - 1).bit_length()
        slots = torch.zeros(count, width, dtype=torch.int64)
        scales = torch.zeros(count, width)
        for i, adapter in enumerate(named):
            slots[:, i] = self._slot(adapter.name, i)
            scales[:, i] = adapter.scale if adapter.HasField("scale") else 1.0
        return {SLOTS: slots.to(self._like.device), SCALES: scales.to(self._like)}

    def _slot(self, name: str, index: int) -> int:
        path = f"{PATH}[{index}].name"
        if self._folder is None:
            raise invalid(PATH, "this model takes none")
        try:
            key = self._folder.file(name)
            with self._loading:
                if key not in self._slots:
                    weights = lora_file.read(key[0], self._part, self._network)
                    self._slots[key] = self.lora.add(weights) if weights else 0
        except AdapterError as error:
            raise invalid(path, str(error)) from error
        return self._slots[key]


def refuse(named: Sequence[sampling_pb2.Adapter]) -> None:
    """Refuse adapters of a family that has none.

    Raises:
        KandinskyError: INVALID_FIELD.
    """
    if named:
        raise invalid(PATH, "this model takes none")
