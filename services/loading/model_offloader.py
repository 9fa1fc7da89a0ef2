"""Networks that share a device which holds one of them at a time."""

from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module


class ModelOffloader:
    """Networks of which one at a time lies on the device; the others wait in the CPU's memory.

    As accelerate's cpu_offload_with_hook, whose chain has a fixed order: an engine's networks
    follow one another in any.
    """

    def __init__(self) -> None:
        self._on_device: torch.nn.Module | None = None

    def join(self, network: torch.nn.Module, device: torch.device) -> None:
        """Puts a network on the CPU; from now on each of its forwards first takes the device."""
        add_hook_to_module(network, _Hook(self, device), append=True)

    def take(self, network: torch.nn.Module, device: torch.device) -> None:
        """Moves a network onto the device, and the one that was there off it."""
        if self._on_device is network:
            return
        if self._on_device is not None:
            self._on_device.to("cpu")
        network.to(device)
        self._on_device = network


class _Hook(ModelHook):  # type: ignore[misc]  # accelerate has no types
    def __init__(self, offloader: ModelOffloader, device: torch.device) -> None:
        self._offloader = offloader
        self._device = device

    def init_hook(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.to("cpu")

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self._offloader.take(module, self._device)
        return args, kwargs
