"""The reference pipelines as a batch job runs them: in processes, one image at a time in each."""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import torch

from benchmarks.bare import BarePipelines
from benchmarks.load import Ask, Made
from benchmarks.workload import ImageTask
from kandinsky.catalog.entry import CatalogEntry
from services.loading.memory import keep_freed_memory


class BareProcesses:
    """Processes that hold a model's reference pipelines each, as they come and compiled.

    Args:
        pool: from `bare_processes`.
    """

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def make(self, task: ImageTask) -> bytes:
        """One image, as the PNG file that the gateway sends, by the pipelines as they come."""
        return self._pool.submit(_make, task, 1, False).result()

    @asynccontextmanager
    async def asked(self, threads: int, compiled: bool) -> AsyncIterator[Ask]:
        """Asks the processes, each with so many torch threads."""
        loop = asyncio.get_running_loop()

        async def ask(task: ImageTask) -> Made:
            return Made(await loop.run_in_executor(self._pool, _make, task, threads, compiled))

        yield ask


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


RAY_NICENESS = 15
"""Of Ray's workers: where the machine does other work, every side gives way to it alike."""

_pipelines: dict[bool, BarePipelines]
"""Of this process, by whether they are compiled, once `_load` has run in it."""


def _load(entry: CatalogEntry) -> None:
    global _pipelines
    os.nice(RAY_NICENESS)
    keep_freed_memory()
    torch.set_num_threads(1)
    _pipelines = {compiled: BarePipelines(entry, compiled) for compiled in (False, True)}


def _make(task: ImageTask, threads: int, compiled: bool) -> bytes:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return _pipelines[compiled].make([task])[0]
