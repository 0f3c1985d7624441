"""Pools for Trio: gevent's and eventlet's, rebuilt on structured concurrency."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, for its modules import each other, which several threads may not do at the same time.
import_module("trio")

if TYPE_CHECKING:
    from triopool._exceptions import PoolDeadlock, PoolFull, TaskKilled
    from triopool._oneshot import imap, imap_unordered, map
    from triopool._stream import ResultIterator
    from triopool._waiting import as_completed, wait
    from triopool.greenpool import GreenPile, GreenPool, GreenThread
    from triopool.pool import Group, Pool
    from triopool.task import Task, TaskStatus, current_task
    from triopool.threadpool import ThreadPool, ThreadPoolExecutor

__all__ = [
    "GreenPile",
    "GreenPool",
    "GreenThread",
    "Group",
    "Pool",
    "PoolDeadlock",
    "PoolFull",
    "ResultIterator",
    "Task",
    "TaskKilled",
    "TaskStatus",
    "ThreadPool",
    "ThreadPoolExecutor",
    "as_completed",
    "current_task",
    "imap",
    "imap_unordered",
    "map",
    "wait",
]

# Where the names are. They are looked up when somebody first asks, so that a program loads what it
# uses: threads cost no time at the start of one that has none.
_HOMES = {
    "_exceptions": ("PoolDeadlock", "PoolFull", "TaskKilled"),
    "_oneshot": ("imap", "imap_unordered", "map"),
    "_stream": ("ResultIterator",),
    "_waiting": ("as_completed", "wait"),
    "greenpool": ("GreenPile", "GreenPool", "GreenThread"),
    "pool": ("Group", "Pool"),
    "task": ("Task", "TaskStatus", "current_task"),
    "threadpool": ("ThreadPool", "ThreadPoolExecutor"),
}
_MODULES = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            value = getattr(import_module(f"triopool.{_MODULES[name]}"), name)
            globals()[name] = value
            return value
        if name in _HOMES:
            return import_module(f"triopool.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_HOMES})
