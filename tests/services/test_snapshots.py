"""A snapshot that no scheduler could have made is refused when it is read, before the engine."""

import asyncio
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kandinsky.catalog.schedulers import SCHEDULERS
from kandinsky.v1 import sampling_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason
from services.diffusion.denoising import Denoise
from services.diffusion.guidance import Guidance
from services.engine.job import Job
from services.engine.phase import Network
from services.engine.snapshot import Snapshot
from services.samplers.samplers import new_sampler
from services.samplers.schedulers import new_scheduler
from services.transport.resuming import read_snapshot, snapshot_message
from tests.services.engine.toys import engine, result
from tests.services.stepping import take_job_step

SHAPE, STEPS = (2, 3, 3), 6
BASE = diffusers.DDPMScheduler(variance_type="learned_range")
ENDLESS = "model_outputs." + "9" * 5000


class ToyUNet(Network):
    """Noise and variance by a formula of each row alone."""

    name = "unet"

    def __call__(self, inputs: Any, timesteps: Any, conditioning: Any) -> torch.Tensor:
        noise = inputs * 0.1 + conditioning["embed"].mean(1)[:, None, None, None]
        return torch.cat([noise, noise * 0], dim=1)


NETWORK = ToyUNet()


def loop(scheduler: str, dtype: torch.dtype = torch.float32) -> Denoise:
    sampler = new_sampler(new_scheduler(BASE, scheduler), STEPS)
    embeds = torch.linspace(0, 1, 6, dtype=dtype).reshape(2, 3)
    return Denoise(NETWORK, sampler, Guidance(3.0), SHAPE, {"embed": embeds})


def job(scheduler: str, seed: int, resume_from: Snapshot | None = None) -> Job:
    generator = torch.Generator().manual_seed(seed)
    return Job(f"{scheduler} {seed}", [loop(scheduler)], generator, resume_from=resume_from)


def snapshots(scheduler: str, dtype: torch.dtype = torch.float32) -> list[sampling_pb2.Snapshot]:
    """One after each step but the last."""
    stepping = Job("honest", [loop(scheduler, dtype)], torch.Generator().manual_seed(1))
    stepping.begin(0.0)
    found = []
    for _ in stepping.phase.timesteps[:-1]:
        take_job_step(stepping)
        snapshot = stepping.snapshot()
        assert snapshot is not None
        found.append(snapshot_message(snapshot))
    return found


HONEST = {name: snapshots(name) for name in SCHEDULERS}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_honest_one_is_accepted_in_this_replica_s_dtype(
    name: str, dtype: torch.dtype
) -> None:
    for message in snapshots(name):
        accepted = read_snapshot(message, [loop(name, dtype)])
        assert accepted.latent.dtype == dtype
        for kept, tensor in accepted.state.items():  # formulas compute in float32 at the least
            single = kept == "original"
            assert tensor.dim() < 4 or tensor.dtype == (torch.float32 if single else dtype)


def entry(message: sampling_pb2.Snapshot, name: str) -> tensor_pb2.Tensor:
    [found] = [each.tensor for each in message.sampler_state if each.name == name]
    return found


def put(name: str, value: Any) -> Callable[[sampling_pb2.Snapshot], None]:
    return lambda m: entry(m, name).CopyFrom(tensors.encode(np.asarray(value)))


def lose(name: str) -> Callable[[sampling_pb2.Snapshot], None]:
    def damage(message: sampling_pb2.Snapshot) -> None:
        kept = [each for each in message.sampler_state if each.name != name]
        del message.sampler_state[:]
        message.sampler_state.extend(kept)

    return damage


def add(name: str, value: Any) -> Callable[[sampling_pb2.Snapshot], None]:
    return lambda m: m.sampler_state.add(name=name, tensor=tensors.encode(np.asarray(value)))


LATENT = np.ones((1, *SHAPE), np.float32)
BAD: dict[str, tuple[str, Callable[[sampling_pb2.Snapshot], None], str]] = {
    "a step index of another step": ("unipc", put("_step_index", 2), "must be 3"),
    "a step index beyond the last": ("unipc", put("_step_index", 10**6), "must be 3"),
    "an order that is too high": ("unipc", put("lower_order_nums", 3), "must be 2"),
    "an output of another shape": (
        "unipc",
        put("model_outputs.0", LATENT[:, :1]),
        "must be float32 [1, 2, 3, 3]",
    ),
    "an output of integers": (
        "unipc",
        put("model_outputs.0", LATENT.astype(np.int64)),
        "must be float32 [1, 2, 3, 3]",
    ),
    "an original sample of another shape": (
        "dpm-solver++",
        put("original", LATENT[:, :1]),
        "must be float32 [1, 2, 3, 3]",
    ),
    "an original sample of nothing": ("dpm-solver++", lose("original"), "lacks original"),
    "an original sample where none is kept": ("euler", add("original", 1), "keeps no 'original'"),
    "a longer list": ("pndm", put("ets.length", 5), "must be 2"),
    "a missing output": ("pndm", lose("ets.1"), "lacks ets.1"),
    "no state at all": ("unipc", lambda m: m.ClearField("sampler_state"), "lacks _step_index"),
    "an endless place": ("unipc", add(ENDLESS, 1), "keeps no 'model_outputs.99"),
    "a method": ("unipc", add("step", 1), "keeps no 'step'"),
    "a state where none is kept": ("ddpm", add("sigma", 1), "keeps no 'sigma'"),
    "two of one name": ("unipc", add("_step_index", 3), "two tensors of one name"),
    "a truth value for a number": ("unipc", put("_step_index", True), "must be 3"),
    "a value that this dtype cannot hold": (
        "heun",
        put("sample", LATENT.astype(np.float64) * 1e300),
        "not finite",
    ),
}


@pytest.mark.parametrize(("scheduler", "damage", "description"), BAD.values(), ids=BAD.keys())
def test_what_the_scheduler_cannot_have_kept_is_refused(scheduler, damage, description) -> None:
    message = sampling_pb2.Snapshot()
    message.CopyFrom(HONEST[scheduler][2])
    damage(message)
    with pytest.raises(KandinskyError) as error:
        read_snapshot(message, [loop(scheduler)])
    assert error.value.reason is Reason.INVALID_FIELD
    [violation] = error.value.violations
    assert violation.field == "resume_from.sampler_state"
    assert description in violation.description
    assert len(violation.description) < 200


def test_a_latent_that_this_dtype_cannot_hold_is_refused() -> None:
    message = sampling_pb2.Snapshot()
    message.CopyFrom(HONEST["ddpm"][2])
    message.latents.CopyFrom(tensors.encode(np.full(SHAPE, 1e300)))
    with pytest.raises(KandinskyError, match="holds a value that is not finite"):
        read_snapshot(message, [loop("ddpm")])


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.integers(-4, 12).map(np.int64),
    st.booleans().map(np.bool_),
    st.sampled_from([0.0, -1.0, 1e-38, 3e38, 1e300]).map(np.float64),
)
arrays = st.builds(
    lambda shape, value: np.full(shape, value),
    st.sampled_from([(), (1,), (0,), (1, *SHAPE), SHAPE, (2, *SHAPE), (1, 4, 9, 9)]),
    numbers,
)
names = st.one_of(
    st.sampled_from([ENDLESS, "step", "config", "ets.0", "ets.length", "sample", "x.y", ""]),
    st.text(max_size=8),
)
integers = st.integers(-(2**31), 2**31 - 1) | st.integers(0, STEPS)


@st.composite
def damaged(draw: Any, scheduler: str) -> sampling_pb2.Snapshot:
    """A snapshot of some step with one to three faults, which may cancel out."""
    message = sampling_pb2.Snapshot()
    message.CopyFrom(draw(st.sampled_from(HONEST[scheduler])))
    state = message.sampler_state
    for _ in range(draw(st.integers(1, 3))):
        fault = draw(st.sampled_from(["step", "phase", "latents", "generator", *["state"] * 6]))
        if fault in ("step", "phase"):
            setattr(message, fault, draw(integers))
        elif fault == "latents":
            message.latents.CopyFrom(tensors.encode(draw(arrays)))
        elif fault == "generator":
            place, value = draw(st.integers(0, 5055)), draw(st.integers(0, 255))
            data = bytearray(message.generator_state.data)
            data[place : place + 1] = [value] * draw(st.integers(1, 2))
            message.generator_state.data = bytes(data)
        elif draw(st.booleans()) or not state:
            state.add(name=draw(names), tensor=tensors.encode(draw(arrays)))
        else:
            one = state[draw(st.integers(0, len(state) - 1))]
            what = draw(
                st.sampled_from(["number", "number", "tensor", "name", "data", "lost", "twice"])
            )
            if what == "number":
                one.tensor.CopyFrom(tensors.encode(np.asarray(draw(numbers))))
            elif what == "name":
                one.name = draw(names)
            elif what == "tensor":
                one.tensor.CopyFrom(tensors.encode(draw(arrays)))
            elif what == "data":
                one.tensor.data = draw(st.binary(max_size=80))
            elif what == "lost":
                state.remove(one)
            else:
                state.add().CopyFrom(one)
    return message


async def beside_neighbours(guilty: Job, scheduler: str) -> list[torch.Tensor]:
    """What the neighbours of a job end with; the job itself ends somehow."""
    async with engine() as batcher:
        batcher.hold()
        jobs = [guilty, job(scheduler, 1), job("ddpm", 2)]
        tasks = [asyncio.create_task(result(batcher, each)) for each in jobs]
        for each in jobs:
            await batcher.arrival(each.id)
        batcher.release()
        outcome, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert torch.is_tensor(outcome) or isinstance(outcome, KandinskyError)
    return others


UNDISTURBED = {
    name: asyncio.run(beside_neighbours(job(name, 3), name)) for name in sorted(SCHEDULERS)
}


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.data())
def test_whatever_is_wrong_with_one_no_neighbour_feels_it(data: st.DataObject) -> None:
    scheduler = data.draw(st.sampled_from(sorted(SCHEDULERS)))
    message = data.draw(damaged(scheduler))
    try:
        accepted = read_snapshot(message, [loop(scheduler)])
    except KandinskyError as error:
        assert error.reason is Reason.INVALID_FIELD
        assert all(each.field.startswith("resume_from.") for each in error.violations)
        return
    others = asyncio.run(beside_neighbours(job(scheduler, 3, accepted), scheduler))
    for other, expected in zip(others, UNDISTURBED[scheduler], strict=True):
        assert torch.is_tensor(other), "a neighbour failed"
        torch.testing.assert_close(other, expected, rtol=0, atol=0)
