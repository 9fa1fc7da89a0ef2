"""Events that carry tensors off the device, without stopping it."""

import asyncio
from dataclasses import dataclass, replace

import torch

from services.device.copies import HostCopy
from services.engine.events import Event, Finished, Preview
from services.engine.snapshot import Snapshot

Carrier = Finished | Preview | Snapshot


@dataclass(frozen=True)
class Leaving:
    """An event whose tensors are on their way to the host."""

    event: Carrier
    copy: HostCopy

    async def arrived(self) -> Carrier:
        """The event with its tensors on the host."""
        if not self.copy.is_complete:
            await asyncio.to_thread(self.copy.wait)
        event, tensors = self.event, self.copy.wait()
        if isinstance(event, Finished):
            return replace(event, outputs=tensors)
        if isinstance(event, Preview):
            return replace(event, pixels=tensors["pixels"])
        latent = tensors.pop("latent")
        return replace(event, latent=latent, state=tensors)


def leave(event: Event | Exception) -> Event | Exception | Leaving:
    """Begin to copy what an event carries; on the thread that gives the device its work.

    Returns:
        The event itself where it carries nothing that is on a device.
    """
    if not isinstance(event, Finished | Preview | Snapshot):
        return event
    carried = _carried(event)
    if not any(tensor.is_cuda for tensor in carried.values()):
        return event
    return Leaving(event, HostCopy(carried))


def _carried(event: Carrier) -> dict[str, torch.Tensor]:
    if isinstance(event, Finished):
        return dict(event.outputs)
    if isinstance(event, Preview):
        return {"pixels": event.pixels}
    return {**event.state, "latent": event.latent}
