"""What a noise scheduler keeps from step to step, as named tensors and back.

Schedulers of diffusers keep it in attributes: integers, tensors, and lists of tensors with gaps.
Those that a step has changed are the state; DDPM, DDIM and UnCLIP change none.
"""

from collections.abc import Mapping
from typing import Any

import torch

from kandinsky.wire.errors import invalid

PATH = "resume_from.scheduler_state"
LENGTH = "length"
"""Last part of the name under which a list's length stands."""
TABLES = frozenset(
    {"alphas_cumprod", "timesteps", "sigmas", "betas", "alphas", "final_alpha_cumprod"}
)
"""Attributes that a step may move to a device, but never changes."""


def attributes(scheduler: Any) -> dict[str, Any]:
    """The attributes at this moment; later steps do not change what is returned."""
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in vars(scheduler).items()
        if name not in TABLES
    }


def state(scheduler: Any, before: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What has changed since `attributes` gave `before`.

    Integers become scalars of int64, truth values of bool; a list `x` becomes `x.length` and
    `x.0`, `x.1` and so on, without those that are None.
    """
    found: dict[str, torch.Tensor] = {}
    for name, value in attributes(scheduler).items():
        old = before.get(name)
        if isinstance(value, list):
            if _same_items(old, value):
                continue
            found[f"{name}.{LENGTH}"] = torch.tensor(len(value))
            for place, item in enumerate(value):
                if item is not None:
                    found[f"{name}.{place}"] = _as_tensor(item)
        elif value is not old and value is not None and (torch.is_tensor(value) or value != old):
            found[name] = _as_tensor(value)
    return found


def restore(scheduler: Any, saved: Mapping[str, torch.Tensor], like: torch.Tensor) -> None:
    """Sets what `state` gave, on a scheduler made for the same request.

    Args:
        scheduler: before its first step.
        saved: from `state`.
        like: has the device of the latent.

    Raises:
        KandinskyError: INVALID_FIELD for a name or a value that is none of this scheduler's.
    """
    lists: dict[str, list[Any]] = {}
    for name, tensor in saved.items():
        attribute, _, place = name.partition(".")
        # Some attributes are made by the first step; a method or a property is none of them.
        if not attribute.isidentifier() or hasattr(type(scheduler), attribute):
            raise invalid(PATH, f"this scheduler keeps no {name!r}")
        if place == LENGTH:
            if tensor.dim() or not 0 <= int(tensor) <= len(saved):
                raise invalid(PATH, f"{name!r} is no length")
            lists[attribute] = [None] * int(tensor)
    for name, tensor in saved.items():
        attribute, _, place = name.partition(".")
        value = _from_tensor(tensor, like)
        if not place:
            setattr(scheduler, attribute, value)
        elif place != LENGTH:
            slots = lists.get(attribute, [])
            if not place.isdecimal() or int(place) >= len(slots):
                raise invalid(PATH, f"{name!r} has no place")
            slots[int(place)] = value
    for attribute, slots in lists.items():
        setattr(scheduler, attribute, slots)


def _same_items(old: Any, new: list[Any]) -> bool:
    if not isinstance(old, list) or len(old) != len(new):
        return False
    return all(a is b for a, b in zip(old, new, strict=True))


def _as_tensor(value: Any) -> torch.Tensor:
    return value if torch.is_tensor(value) else torch.tensor(value)


def _from_tensor(tensor: torch.Tensor, like: torch.Tensor) -> Any:
    if not tensor.dim() and tensor.dtype in (torch.int64, torch.bool):
        return tensor.item()
    return tensor.to(like.device)
