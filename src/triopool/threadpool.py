"""ThreadPool and ThreadPoolExecutor: the thread pools of gevent, for blocking functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import trio

from triopool._block import NEW
from triopool._executor import ThreadPoolExecutor
from triopool._slots import Slots, tokens
from triopool._sync_calls import SyncCalls
from triopool._thread_guard import in_trio_only
from triopool._threads import ThreadCrew
from triopool.task import Task

if TYPE_CHECKING:
    from triopool._base import OnError
    from triopool._crew import Crew
    from triopool._thread_rows import ThreadRows

__all__ = ["ThreadPool", "ThreadPoolExecutor"]


@in_trio_only
class ThreadPool(SyncCalls):
    """Calls of blocking functions, in native threads.

    ::

        async with ThreadPool(4) as pool:
            async for digest in pool.imap(hash_file, paths):
                print(digest)

    It has all that `Pool` has, for sync functions. Threads start on demand, are kept for the next
    call, and end with the block. A thread that makes a call cannot be stopped from outside: a kill,
    a timeout or a cancellation is only there to be asked about, with
    `trio.from_thread.check_cancelled`, and the call is waited for; what has not begun never runs.
    `trio.from_thread.run` works in the calls, and there ``trio.from_thread.run(pool.apply, func)``
    runs on the slot of the calling thread, so that a full pool cannot deadlock.

    Args:
      maxsize: the most calls that run at once, each in a thread of its own: an int, a
        `trio.CapacityLimiter`, or None for Trio's default limiter of threads, which other code may
        use, too.
      on_error: as for `Group`.
      abandon_on_cancel: leave a call behind that is killed or cancelled while it runs. The caller
        goes on at once, the slot comes back when the thread is free, and what became of the call
        nobody hears.

    Differs from gevent: its methods are for Trio's thread; in other threads, `trio.from_thread.run`
    reaches them. ``kill`` is that of `Group`; for an end of the threads, set `size` to 0.
    """

    def __init__(
        self,
        maxsize: int | trio.CapacityLimiter | None = None,
        *,
        on_error: OnError = "collect",
        abandon_on_cancel: bool = False,
    ) -> None:
        self._abandons = bool(abandon_on_cancel)
        self._shares_default = maxsize is None
        self._init(maxsize, Task, on_error, True)

    def _hire_crew(self) -> Crew:
        if self._shares_default:
            self._slots = Slots.of(trio.to_thread.current_default_thread_limiter())
        self._threads = ThreadCrew(self, self._nursery, self._abandons)
        return self._threads

    def __len__(self) -> int:
        """How many calls are not over, those included that wait for a slot or a thread."""
        own = sum(worker.series is None for worker in self._members)
        rows = sum(cast("ThreadRows", series.rows).counted() for series in self._series)
        return own + rows + len(self._line.calls) + len(self._added)

    @property
    def maxsize(self) -> int | None:
        """The most calls that run at once.

        It can be set; threads that are too many end when they are idle, and no call is killed.
        """
        total = self.limiter.total_tokens
        return None if total == math.inf else int(total)

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        if self._state is NEW:
            self._shares_default = False
        self._slots.resize(tokens(maxsize))

    @property
    def size(self) -> int:
        """How many threads there are.

        It can be set: to more, and they start; to less, and idle ones end, others when they become
        idle. A call that finds no idle thread still starts one. If a thread cannot be started, a
        call fails with that error, and so does the pool whose size asked for it.

        Raises:
          ValueError: when set to less than 0, or more than `maxsize`.
        """
        return len(self._threads.threads) if self._state is not NEW else 0

    @size.setter
    def size(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"the number of threads is an int, not {size!r}")
        if not 0 <= size <= self.limiter.total_tokens:
            raise ValueError(f"the number of threads is from 0 to {self.maxsize}, not {size}")
        self._check()
        self._threads.resize(size)
