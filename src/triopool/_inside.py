"""Who am I inside of: from the running Trio task up to the workers that enclose it."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool._worker import Worker
    from triopool.task import Task

# {the Trio task of a living worker: the worker}, over all pools and all runs
WORKERS: dict[trio.lowlevel.Task, Worker] = {}

# The worker whose thread made a call, in the context of that call. What a thread has Trio run may
# be a system task, which has this context, but is below no worker.
CALLER: ContextVar[Worker] = ContextVar("triopool_caller")


class Here(threading.local):
    """What a thread is inside of that a pool made its call in."""

    current: Callable[[], Task[Any] | None] | None = None


HERE = Here()


def own_worker() -> Worker | None:
    """The worker whose Trio task this very task is, not one above it."""
    task = trio.lowlevel.current_task()
    worker = WORKERS.get(task)
    return _caller(task) if worker is None else worker


def enclosing_workers() -> list[Worker]:
    """The workers that the current Trio task is, or runs in a nursery below of, innermost first."""
    workers: list[Worker] = []
    task = trio.lowlevel.current_task()
    nursery = task.parent_nursery
    while nursery is not None:  # only the root task has none, and is no worker
        worker = WORKERS.get(task)
        if worker is None and nursery.parent_task.parent_nursery is None:
            worker = _caller(task)
            if worker is not None:
                nursery = worker.trio_task.parent_nursery
                assert nursery is not None
        if worker is not None:
            workers.append(worker)
        task = nursery.parent_task
        nursery = task.parent_nursery
    return workers


def _caller(task: trio.lowlevel.Task) -> Worker | None:
    """The worker whose thread had Trio start this task, if it is a system task for that."""
    # What is called there and then is in the context of the call, but not its Trio task.
    is_current = task is trio.lowlevel.current_task()
    worker = CALLER.get(None) if is_current else task.context.get(CALLER)
    if worker is None or worker.seat is None:
        return None
    nursery = task.parent_nursery
    is_system_task = nursery is not None and nursery.parent_task.parent_nursery is None
    # It may be of another run of Trio, which began in the thread.
    return worker if is_system_task and _is_of_this_run(worker) else None


def _is_of_this_run(worker: Worker) -> bool:
    return worker.crew.block._token is trio.lowlevel.current_trio_token()
