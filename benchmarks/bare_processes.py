"""The reference pipelines as a batch job runs them: in processes, one image at a time in each."""

import asyncio
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch

from benchmarks.bare import BarePipelines
from benchmarks.figures import Round
from benchmarks.load import Made, closed_loop
from benchmarks.workload import ImageTask
from kandinsky.catalog.entry import CatalogEntry
from services.loading.memory import keep_freed_memory


class BareProcesses:
    """Processes that hold a model's reference pipelines each.

    Args:
        pool: from `bare_processes`.
    """

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def make(self, task: ImageTask, threads: int = 1) -> bytes:
        """One image, as the PNG file that the gateway sends."""
        return self._pool.submit(_make, task, threads).result()

    def round(self, tasks: Sequence[ImageTask], processes: int, threads: int) -> Round:
        """Makes all of them, one at a time in each of some processes.

        Args:
            images: to make.
            processes: of the pool, that work at the same time.
            threads: torch threads of each.
        """

        async def make(task: ImageTask) -> Made:
            loop = asyncio.get_running_loop()
            png = await loop.run_in_executor(self._pool, _make, task, threads)
            return Made(png, task.steps, 0, 2 if task.guidance_scale > 1 else 1)

        made = asyncio.run(closed_loop(tasks, processes, make))
        return Round(made.seconds, made.latencies)


@contextmanager
def bare_processes(entry: CatalogEntry, processes: int) -> Iterator[BareProcesses]:
    """Processes with the pipelines loaded, until the block ends.

    Raises:
        LookupError: the family has no reference here.
    """
    BarePipelines.check(entry)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _load, (entry,)) as pool:
        yield BareProcesses(pool)


_pipelines: BarePipelines
"""Of this process, once `_load` has run in it."""


def _load(entry: CatalogEntry) -> None:
    global _pipelines
    keep_freed_memory()
    torch.set_num_threads(1)
    _pipelines = BarePipelines(entry)


def _make(task: ImageTask, threads: int) -> bytes:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return _pipelines.make([task])[0]
