"""What a noise scheduler keeps from step to step, as named tensors and back.

Schedulers of diffusers keep it in attributes: integers, tensors, and lists of tensors with gaps.
Those that a step has changed are the state; DDPM, DDIM and UnCLIP change none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

LENGTH = "length"
"""Last part of the name under which a list's length stands."""
LONGEST_NAME = 64
"""Characters of a name that an error repeats."""
TABLES = frozenset(
    {"alphas_cumprod", "timesteps", "sigmas", "betas", "alphas", "final_alpha_cumprod"}
)
"""Attributes that a step may move to a device, but never changes."""


class StateRefused(ValueError):
    """A state that the scheduler cannot have at a step; the message is one sentence."""


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


def accept(
    saved: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    shape: Sequence[int],
) -> dict[str, torch.Tensor]:
    """A state that a request brings, in the dtypes of this replica.

    Args:
        saved: from `state` of some replica, or what claims to be.
        expected: of a scheduler that took the same steps, with latents of one element.
        shape: of the latent, [1, ...].

    Raises:
        StateRefused: a name that this scheduler does not keep at this step or
            that is missing, another kind of dtype or shape, another number where the step alone
            decides it, or a value that is not finite.
    """
    for name in saved:
        if name not in expected:
            raise StateRefused(f"this scheduler keeps no {name[:LONGEST_NAME]!r} at this step")
    missing = sorted(expected.keys() - saved.keys())
    if missing:
        raise StateRefused(f"lacks {', '.join(missing)}")
    return {name: _accept(name, saved[name], model, shape) for name, model in expected.items()}


def _accept(
    name: str, tensor: torch.Tensor, model: torch.Tensor, shape: Sequence[int]
) -> torch.Tensor:
    extents = list(shape) if model.dim() == len(shape) else list(model.shape)
    kinds_match = tensor.is_floating_point() == model.is_floating_point()
    if not kinds_match or list(tensor.shape) != extents:
        dtype = str(model.dtype).removeprefix("torch.")
        raise StateRefused(f"{name!r} must be {dtype} {extents}")
    if not model.is_floating_point() and not (tensor.dtype == model.dtype and tensor.equal(model)):
        raise StateRefused(f"{name!r} must be {model.tolist()} at this step")
    tensor = tensor.to(model.dtype)
    if not tensor.isfinite().all():
        raise StateRefused(f"{name!r} holds a value that is not finite")
    return tensor


def restore(scheduler: Any, saved: Mapping[str, torch.Tensor], like: torch.Tensor) -> None:
    """Sets what `state` gave, on a scheduler made for the same request.

    Args:
        scheduler: before its first step.
        saved: from `accept`.
        like: has the device of the latent.
    """
    lists: dict[str, list[Any]] = {}
    for name, tensor in saved.items():
        attribute, _, place = name.partition(".")
        if place == LENGTH:
            lists[attribute] = [None] * int(tensor)
    for name, tensor in saved.items():
        attribute, _, place = name.partition(".")
        value = _from_tensor(tensor, like)
        if not place:
            setattr(scheduler, attribute, value)
        elif place != LENGTH:
            lists[attribute][int(place)] = value
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
