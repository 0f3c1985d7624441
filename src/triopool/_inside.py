"""Who am I inside of: from the running Trio task up to the workers that enclose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triopool._crew import Worker

# {the Trio task of a living worker: the worker}, over all pools and all runs
WORKERS: dict[trio.lowlevel.Task, Worker] = {}


def own_worker() -> Worker | None:
    """The worker whose Trio task this very task is, not one above it."""
    return WORKERS.get(trio.lowlevel.current_task())


def enclosing_workers() -> Iterator[Worker]:
    """The workers that the current Trio task is, or runs in a nursery below of, innermost first."""
    task = trio.lowlevel.current_task()
    while True:
        worker = WORKERS.get(task)
        if worker is not None:
            yield worker
        nursery = task.parent_nursery
        if nursery is None:
            return
        task = nursery.parent_task
