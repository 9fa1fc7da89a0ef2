"""The adapters that a UNet takes: LoRAs, and images to attend to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from diffusers import UNet2DConditionModel

from kandinsky.catalog.adapters import AdapterFolder
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1 import adapters_pb2
from services.adapters.image_prompts import ImagePrompts
from services.adapters.loras import Loras
from services.adapters.named import Named, named, pin

Messages = Sequence[adapters_pb2.Adapter]


class UNetAdapters:
    """Holds the adapters of requests, and changes the network for the rows that have them.

    Args:
        folder: of the model's adapters; None for a model that has none.
        network: the UNet.
        like: has the device and the dtype of its forwards.
    """

    def __init__(
        self, folder: AdapterFolder | None, network: UNet2DConditionModel, like: torch.Tensor
    ) -> None:
        self._folder = folder
        attach = folder is not None
        self._loras = Loras("unet", network, like, attach=attach)
        # After the LoRAs: the images are attended to by what those make of a query.
        self._prompts = ImagePrompts(network, like, attach=attach)

    def hold(self, adapters: Messages) -> ExitStack:
        """Load the adapters of a request, until the stack closes; may read files.

        What their names stand for is written into the messages.

        Raises:
            KandinskyError: INVALID_FIELD for an adapter that cannot be used.
        """
        pin(self._folder, adapters)
        for each in self._of_kind(adapters, AdapterKind.IP_ADAPTER):
            self._prompts.load(each)
        return self._loras.hold(self._of_kind(adapters, AdapterKind.LORA))

    def changes(self, adapters: Messages) -> int:
        """How many layers they change; arguments and errors as of `hold`."""
        with self.hold(adapters):
            loras = self._of_kind(adapters, AdapterKind.LORA)
            shown = self._of_kind(adapters, AdapterKind.IP_ADAPTER)
            changed = sum(len(self._prompts.load(each).keys) for each in shown)
            return changed + sum(map(self._loras.changes, loras))

    def rows(self, adapters: Messages, count: int) -> Mapping[str, torch.Tensor]:
        """What rows of a job hold beside their conditioning; nothing without adapters of a UNet.

        Args:
            adapters: held.
            count: of the rows: two with guidance, the unconditional one first.

        Raises:
            KandinskyError: INVALID_FIELD for images that an adapter cannot read.
        """
        loras = self._of_kind(adapters, AdapterKind.LORA)
        shown = self._of_kind(adapters, AdapterKind.IP_ADAPTER)
        return {**self._loras.rows(loras, count), **self._prompts.rows(shown, count)}

    @contextmanager
    def applied(self, rows: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """The network changed within the block, for the rows of a forward."""
        with self._loras.applied(rows), self._prompts.applied(rows):
            yield

    def _of_kind(self, adapters: Messages, kind: AdapterKind) -> list[Named]:
        return named(self._folder, adapters, kind)
