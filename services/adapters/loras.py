"""The LoRAs that a replica has loaded for one of its networks."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch

from kandinsky.catalog.adapters import AdapterError, AdapterFolder
from services.adapters import lora_file
from services.adapters.named import Named
from services.adapters.row_lora import RowLora

SLOTS, SCALES = "adapter_slots", "adapter_scales"
"""Conditioning beside that of the family: int64 [rows, K] and float [rows, K]."""
KEPT = 64
"""LoRAs that stay loaded while no request has them, those that were asked for last."""
Key = tuple[AdapterFolder, str, str]


@dataclass
class _Loaded:
    slot: int
    changes: int
    """Layers of the network."""
    held: int = 0
    """By requests."""


class Loras:
    """Loads LoRAs as requests name them, and lets those go that nobody has named for longest.

    Args:
        part: `unet` or `text_encoder`: the name of the network in adapter files.
        network: that they change.
        like: has its device, where its own weights may not lie, and its dtype.
        attach: whether the model has adapters; without any, forwards stay as they are.
    """

    def __init__(
        self, part: str, network: torch.nn.Module, like: torch.Tensor, *, attach: bool
    ) -> None:
        self._part = part
        self._network = network
        self._like = like
        self._loaded: OrderedDict[Key, _Loaded] = OrderedDict()
        self._changing = threading.Lock()
        self.rows_of_forward = RowLora(network, like)
        if attach:
            self.rows_of_forward.attach()

    def hold(self, named: Sequence[Named]) -> ExitStack:
        """Load those that are not there yet, which reads files; they stay until the stack closes.

        Raises:
            KandinskyError: INVALID_FIELD for a file that cannot be used, or has changed.
        """
        with ExitStack() as held:
            for each in named:
                held.callback(self._let_go, self._take(each))
            return held.pop_all()

    def changes(self, named: Named) -> int:
        """How many of the network's layers a held one changes."""
        return self._loaded[_key(named)].changes

    def rows(self, named: Sequence[Named], count: int) -> Mapping[str, torch.Tensor]:
        """What rows of a job hold beside their conditioning; nothing without LoRAs.

        Jobs with one, two or up to four LoRAs, and so on, share forwards.

        Args:
            named: held.
            count: of the rows.
        """
        if not named:
            return {}
        width = 1 << (len(named) - 1).bit_length()
        slots = torch.zeros(count, width, dtype=torch.int64)
        scales = torch.zeros(count, width)
        for i, each in enumerate(named):
            slots[:, i] = self._loaded[_key(each)].slot
            scales[:, i] = each.scale
        return {SLOTS: slots.to(self._like.device), SCALES: scales.to(self._like)}

    def applied(self, rows: Mapping[str, torch.Tensor]) -> AbstractContextManager[None]:
        """The network changed within the block.

        Args:
            rows: of the forward, from `rows`.
        """
        if SLOTS not in rows:
            return nullcontext()
        return self.rows_of_forward.of_rows(rows[SLOTS], rows[SCALES])

    def _take(self, named: Named) -> _Loaded:
        key = _key(named)
        try:
            with self._changing:
                if key not in self._loaded:
                    named.check_version()
                    file = named.folder.path(named.adapter)
                    weights = lora_file.read(file, self._part, self._network)
                    slot = self.rows_of_forward.add(weights) if weights else 0
                    self._loaded[key] = _Loaded(slot, len(weights))
                self._loaded.move_to_end(key)
                found = self._loaded[key]
                found.held += 1
                self._drop_idle()
        except AdapterError as error:
            raise named.refused(error) from error
        return found

    def _let_go(self, loaded: _Loaded) -> None:
        with self._changing:
            loaded.held -= 1

    def _drop_idle(self) -> None:
        idle = [key for key, loaded in self._loaded.items() if not loaded.held]
        for key in idle[: max(0, len(idle) - KEPT)]:
            self.rows_of_forward.remove(self._loaded.pop(key).slot)


def _key(named: Named) -> Key:
    return named.folder, named.adapter.file, named.version
