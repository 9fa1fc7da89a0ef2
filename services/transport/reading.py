"""Reading the fields that stage requests have in common.

Ranges that the contract states have been checked before (`services.transport.rpc`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from google.protobuf.message import Message

from kandinsky.catalog.family import OPTIONS, SamplerSpec
from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import Violation, invalid, invalid_fields
from services.device.copies import to_device
from services.samplers.sampler import GivenLevels
from services.samplers.schedulers import SettingRefused


def guidance_scale(sampling: sampling_pb2.Sampling, spec: SamplerSpec) -> float:
    """The request's guidance scale, or the model's default."""
    return sampling.guidance_scale if sampling.HasField("guidance_scale") else spec.guidance_scale


def guidance_interval(sampling: sampling_pb2.Sampling) -> tuple[float, float]:
    """The noise levels at which guidance is on; all of them where the request names none.

    Raises:
        KandinskyError: INVALID_FIELD if the low end is above the high one.
    """
    interval = sampling.guidance_interval
    high = interval.high if interval.HasField("high") else 1.0
    if interval.low > high:
        raise invalid("sampling.guidance_interval.low", f"is above the high end, {high:g}")
    return interval.low, high


def step_cache_interval(sampling: sampling_pb2.Sampling, splits: bool) -> int:
    """Steps from one whole pass of the network to the next.

    Args:
        sampling: holds it.
        splits: whether the network's deep part can be left out.

    Raises:
        KandinskyError: INVALID_FIELD if it is more than 1 and the network cannot.
    """
    if not sampling.HasField("step_cache_interval"):
        return 1
    if sampling.step_cache_interval > 1 and not splits:
        raise invalid("sampling.step_cache_interval", "this model computes every step whole")
    return sampling.step_cache_interval


def steps(
    sampling: sampling_pb2.Sampling | sampling_pb2.SuperResolutionSampling,
    least: int,
    most: int,
    path: str = "sampling.",
) -> int:
    """The request's number of denoising steps.

    Args:
        sampling: holds it.
        least: that the sampler takes.
        most: noise levels that the checkpoint was trained on.
        path: of the message, for errors.

    Raises:
        KandinskyError: INVALID_FIELD if it is out of range.
    """
    if not least <= sampling.steps <= most:
        raise invalid(f"{path}steps", f"must be from {least} to {most}")
    return sampling.steps


def scheduler(sampling: sampling_pb2.Sampling) -> str | None:
    """The name of the noise scheduler; None for the checkpoint's own."""
    return sampling.scheduler if sampling.HasField("scheduler") else None


def refuse_options(sampling: sampling_pb2.Sampling, sampler: SamplerSpec) -> None:
    """Refuse what only some families have.

    Raises:
        KandinskyError: INVALID_FIELD that names every such field.
    """
    unread = [
        Violation(f"sampling.{field.name}", "this model takes none")
        for field, _ in sampling.ListFields()
        if field.name in OPTIONS and field.name not in sampler.options
    ]
    if unread:
        raise invalid_fields(unread)


def given_levels(sampling: sampling_pb2.Sampling) -> GivenLevels | None:
    """Where the steps are; None where the scheduler chooses.

    Raises:
        KandinskyError: INVALID_FIELD if both are given, or not one for each step.
    """
    timesteps, sigmas = tuple(sampling.timesteps), tuple(sampling.sigmas)
    if timesteps and sigmas:
        raise invalid("sampling.sigmas", "stand beside sampling.timesteps; leave one out")
    given = GivenLevels("timesteps", timesteps) if timesteps else GivenLevels("sigmas", sigmas)
    if not given.values:
        return None
    if len(given.values) != sampling.steps:
        rule = f"are {len(given.values)}; sampling.steps are {sampling.steps}"
        raise invalid(f"sampling.{given.setting}", rule)
    return given


def eta(sampling: sampling_pb2.Sampling) -> float | None:
    """DDIM's eta; None where the request names none."""
    return sampling.eta if sampling.HasField("eta") else None


@contextmanager
def refused_at(strength_path: str) -> Iterator[None]:
    """Turn the refusal of a sampler's setting into the request's path of that setting.

    Args:
        strength_path: of the strength, which stands in another message than the others.

    Raises:
        KandinskyError: INVALID_FIELD.
    """
    try:
        yield
    except SettingRefused as error:
        path = strength_path if error.setting == "strength" else f"sampling.{error.setting}"
        raise invalid(path, error.description) from error


def tensor(
    message: Message, field: str, path: str, shape: Sequence[int | None], like: torch.Tensor
) -> torch.Tensor:
    """A required tensor field as [1, *shape], on `like`'s device and dtype.

    Floating-point fields come in any precision; a bool comes as a bool.

    Raises:
        KandinskyError: INVALID_FIELD if it is missing or has another shape.
    """
    if not message.HasField(field):
        raise invalid(path + field, "is required here")
    dtypes = tensors.BOOL if like.dtype == torch.bool else tensors.FLOATS
    value = tensors.to_torch(getattr(message, field), path + field, dtypes=dtypes, shape=shape)
    return to_device(value.to(like.dtype), like)[None]


def optional_tensor(
    message: Message, field: str, path: str, shape: Sequence[int | None], like: torch.Tensor
) -> torch.Tensor | None:
    """As `tensor`; None where the field is not set."""
    return tensor(message, field, path, shape, like) if message.HasField(field) else None


def image(pixels: tensor_pb2.Tensor, path: str, multiple: int, like: torch.Tensor) -> torch.Tensor:
    """An image as [1, 3, H, W] from -1 to 1, on `like`'s device and dtype.

    Args:
        pixels: uint8 [H, W, 3], or floating point of the same shape from -1 to 1.
        path: the field's, for errors.
        multiple: that both sides have to be a positive one of.
        like: has the device and the dtype.

    Raises:
        KandinskyError: INVALID_FIELD if a side does not fit, or a value is out of range.
    """
    allowed = tensors.UINT8 | tensors.FLOATS
    found = tensors.to_torch(pixels, path, dtypes=allowed, shape=[None, None, 3])
    height, width, _ = found.shape
    if not height or not width or height % multiple or width % multiple:
        raise invalid(path, f"{width}x{height} pixels: sides must be multiples of {multiple}")
    if found.dtype == torch.uint8:
        found = found.to(torch.float32) / 127.5 - 1
    elif found.abs().max() > 1:
        raise invalid(path, "floating-point pixels are from -1 to 1")
    return to_device(found.permute(2, 0, 1)[None].to(like.dtype), like)


def generator_state(message: tensor_pb2.Tensor, path: str) -> torch.Tensor:
    """uint8 [5056], a state that a CPU generator takes.

    Args:
        message: as a request brings it.
        path: the field's, for errors.

    Raises:
        KandinskyError: INVALID_FIELD if a generator refuses it.
    """
    generator = torch.Generator("cpu")
    shape = tuple(generator.get_state().shape)
    state: torch.Tensor = tensors.to_torch(message, path, dtypes=tensors.UINT8, shape=shape)
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise invalid(path, "is not the state of a CPU generator") from error
    return state
