"""Pools for Trio: gevent's and eventlet's, rebuilt on structured concurrency."""

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
