"""Processes that are killed, and replicas stopped on scale-down, cost nobody an image."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import aclosing

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks import kills
from kandinsky import AsyncClient, Generated, Progress
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.client import requests
from tests.endtoend.conftest import System
from tests.endtoend.engines import PATIENCE, Engines
from training.shapes.flows import SD_MODEL

DECODER = "shapes-decoder"
SNAPSHOT_EVERY = 10
LEVELS = 1


def circle(colour: str) -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((30, 30, 98, 98), fill=colour)
    return image


def mask() -> Image.Image:
    image = Image.new("L", (128, 128), 0)
    image.paste(255, (64, 64, 128, 128))
    return image


def mixed(count: int) -> list:
    """Requests of three flows, with step counts and guidance of their own."""
    made = []
    for seed in range(count):
        options = {"seed": seed, "steps": 50 + 10 * (seed % 3), "progress_every": 1}
        options["guidance_scale"] = (4.0, 1.0, 6.0)[seed % 3]
        if seed % 3 == 0:
            made.append(requests.text_to_image("a red circle on a blue background", **options))
        elif seed % 3 == 1:
            made.append(
                requests.image_to_image(circle("red"), "a green star", strength=0.9, **options)
            )
        else:
            made.append(requests.inpaint(circle("blue"), mask(), "a yellow ring", **options))
    return made


class Load:
    """Requests that are made all at once."""

    def __init__(self, address: str, made: list) -> None:
        self._address = address
        self._requests = made
        self._at_work = asyncio.Event()
        self._begun: set[int] = set()

    async def start(self) -> "asyncio.Task[list[Generated]]":
        """Asks, and returns when the decoder has taken some steps of every image."""
        drawing = asyncio.create_task(self.images())
        waiting = asyncio.create_task(self._at_work.wait())
        await asyncio.wait((drawing, waiting), return_when=asyncio.FIRST_COMPLETED)
        assert not drawing.done(), drawing.result()
        return drawing

    async def images(self) -> list[Generated]:
        """In the order of the requests."""
        async with AsyncClient(self._address, timeout=300) as client:
            jobs = (self._one(client, k) for k in range(len(self._requests)))
            return list(await asyncio.gather(*jobs))

    async def _one(self, client: AsyncClient, number: int) -> Generated:
        steps: list[tuple[str, int]] = []
        async with aclosing(client.stream(self._requests[number])) as events:
            async for event in events:
                if isinstance(event, Progress):
                    steps.append((event.phase, event.step))
                    self._note(number, event)
                if isinstance(event, Generated):
                    assert len(set(steps)) == len(steps), "a step was reported twice"
                    return event
        raise AssertionError("a stream without an image")

    def _note(self, number: int, event: Progress) -> None:
        if event.phase != "prior" and event.step >= 12:
            self._begun.add(number)
        if len(self._begun) == len(self._requests):
            self._at_work.set()


def assert_same(images: list[Generated], twins: list[Generated]) -> None:
    for image, twin in zip(images, twins, strict=True):
        difference = image.array.astype(int) - twin.array.astype(int)
        assert np.abs(difference).max() <= LEVELS


@pytest.fixture(scope="module")
def engines(system: System) -> Iterator[Engines]:
    """Two replicas of the decoder while this module's tests run."""
    system.cluster.scale(DECODER, 2)
    found = Engines(system.stages)
    found.until(Stage.DECODER, lambda stats: len(stats) == 2)
    yield found
    system.cluster.scale(DECODER, 1)


async def test_killed_replicas_cost_no_image(system: System, engines: Engines) -> None:
    made = mixed(9)
    twins = await Load(system.gateway, made).images()
    assert sum(twin.stats["decoder"].resumes for twin in twins) == 0
    replicas = await asyncio.to_thread(engines.stats, Stage.DECODER)
    drawing = await Load(system.gateway, made).start()
    for replica in replicas:
        os.kill(int(replica.rpartition(":")[2]), signal.SIGKILL)
    images = await drawing
    assert_same(images, twins)
    moved = [image.stats["decoder"] for image in images if image.stats["decoder"].resumes]
    assert moved, "no image was at work on a killed replica"
    for one in moved:
        # as many as between two snapshots, and the pass that encodes an image
        assert one.most_steps_redone <= SNAPSHOT_EVERY + 1
    engines.until(Stage.DECODER, lambda stats: len(stats) == 2)


async def test_scale_down_moves_jobs_at_once_and_nothing_is_done_twice(
    system: System, engines: Engines
) -> None:
    made = [
        # So many that both replicas have some: those of one kind go to one while its load allows.
        requests.text_to_image("a red circle", seed=seed, steps=70, progress_every=1)
        for seed in range(8)
    ]
    twins = await Load(system.gateway, made).images()
    drawing = await Load(system.gateway, made).start()
    await asyncio.to_thread(system.cluster.scale, DECODER, 1)
    assert not drawing.done(), "the replica waited for its jobs"
    images = await drawing
    assert_same(images, twins)
    stats = [image.stats["decoder"] for image in images]
    assert sum(one.resumes for one in stats) >= 1
    assert [one.steps_redone for one in stats] == [0] * len(stats)
    await asyncio.to_thread(system.cluster.scale, DECODER, 2)


@pytest.mark.parametrize("kind", [kills.PROXY, kills.CONTROLLER])
async def test_a_killed_proxy_or_controller_costs_no_image(
    system: System, engines: Engines, kind: str
) -> None:
    made = mixed(6)
    twins = await Load(system.gateway, made).images()
    drawing = await Load(system.gateway, made).start()
    assert kill(kind) == 1
    images = await drawing
    assert_same(images, twins)
    for one in (image.stats["decoder"] for image in images):
        assert one.most_steps_redone <= SNAPSHOT_EVERY + 1
        assert bool(one.resumes) == (kind == kills.PROXY)
    await asyncio.to_thread(until_serve_answers)
    engines.until(Stage.DECODER, lambda stats: len(stats) == 2)


async def test_a_killed_replica_s_jobs_keep_their_adapters(system: System) -> None:
    made = [
        requests.inpaint(
            circle("blue"),
            mask(),
            "a yellow <diamond>",
            model=SD_MODEL,
            adapters={"outlined": 1 - seed / 4, "diamond": 1.0, "diamond-word": None},
            seed=seed,
            steps=50,
            progress_every=1,
        )
        for seed in range(3)
    ]
    twins = await Load(system.gateway, made).images()
    drawing = await Load(system.gateway, made).start()
    assert kill(Stage.DECODER.value, SD_MODEL) == 1
    images = await drawing
    assert_same(images, twins)
    assert all(image.stats["decoder"].resumes for image in images)


async def test_killed_encoders_cost_no_image(system: System) -> None:
    assert kill(Stage.ENCODERS.value) == 1
    images = await Load(system.gateway, mixed(3)).images()
    assert len(images) == 3


def kill(kind: str, model: str = "shapes") -> int:
    """Kills all processes of a kind; how many there were."""
    found = kills.processes(Catalog.load()[model], kind)
    for process in found:
        process.kill()
    return len(found)


def until_serve_answers() -> None:
    """Waits until there is a controller that says that all replicas run."""
    import ray
    from ray import serve

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            applications = serve.status().applications.values()
        except ray.exceptions.RayActorError:  # the old one, or the new one that is not up yet
            time.sleep(0.2)
        else:
            if all(application.status == "RUNNING" for application in applications):
                return
    raise AssertionError(f"Serve is not back after {PATIENCE} s")
