"""The served side: the same pictures through gateway and stages, so many requests at a time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bare import Picture
from benchmarks.figures import Round
from kandinsky import AsyncClient, Generated


@dataclass(frozen=True)
class ServedRound(Round):
    """A round, and what its pictures say of the decoder."""

    images: tuple[Generated, ...]

    @property
    def shared_share(self) -> float:
        """Share of the pictures' decoder forwards that held another picture's rows too."""
        stats = [image.stats["decoder"] for image in self.images]
        return sum(one.shared_forwards for one in stats) / sum(one.forwards for one in stats)

    @property
    def peak_rows(self) -> float:
        """Most rows in one decoder forward, mean over the pictures."""
        return sum(image.stats["decoder"].peak_rows for image in self.images) / len(self.images)


def served_round(
    address: str, model: str, pictures: Sequence[Picture], concurrency: int
) -> ServedRound:
    """Asks for each picture in a request of its own, `concurrency` of them open at any time."""
    return asyncio.run(_round(address, model, pictures, concurrency))


async def _round(
    address: str, model: str, pictures: Sequence[Picture], concurrency: int
) -> ServedRound:
    waiting = iter(pictures)
    latencies: list[float] = []
    images: list[Generated] = []

    async def worker(client: AsyncClient) -> None:
        for picture in waiting:
            begun = time.perf_counter()
            images.extend(
                await client.text_to_image(picture.prompt, model=model, seed=picture.seed)
            )
            latencies.append(time.perf_counter() - begun)

    async with AsyncClient(address) as client:
        await client.list_models()  # connects
        started = time.perf_counter()
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker(client))
        seconds = time.perf_counter() - started
    return ServedRound(seconds, tuple(latencies), tuple(images))
