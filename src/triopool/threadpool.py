"""ThreadPool and ThreadPoolExecutor: the thread pools of gevent, for blocking functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import trio

from triopool._block import NEW
from triopool._executor import ThreadPoolExecutor
from triopool._slots import Slots
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
    call, and end with the block.

    A thread that makes a call cannot be stopped from outside. ``kill``, ``killone``, `Task.kill`, a
    timeout, and the cancellation of whoever waits in ``apply`` or ``map`` are there to be asked
    about, with `trio.from_thread.check_cancelled`, which raises `trio.Cancelled` then. A call that
    does not ask is waited for, and ends as it will: its task has SUCCEEDED or FAILED. What has not
    begun never runs.

    In the calls, `trio.from_thread.run` and `trio.from_thread.run_sync` work, and
    ``trio.from_thread.run(pool.apply, func)`` runs on the slot which the call holds, in another
    thread, so that a full pool cannot deadlock. So does ``pool.map`` there, one row at a time.

    The methods are for Trio's thread, and say so in others. What is only looked at, as ``len``,
    ``bool``, ``in`` and the properties, can be looked at anywhere, for that changes nothing; the
    answer may be out of date when it comes.

    The input of maps is iterated in Trio's thread, except for lists and other builtin types. While
    calls come back within milliseconds, up to 64 rows are pulled ahead of the free slots, otherwise
    one.

    Args:
      maxsize: the most calls that run at once, each in a thread of its own: an int, a
        `trio.CapacityLimiter`, or None, which shares Trio's default limiter of threads with all
        other code that uses it.
      on_error: as for `Group`.
      abandon_on_cancel: leave a call behind that is killed or cancelled while it runs. The caller
        goes on at once, the slot comes back when the thread is free, and what became of the call
        nobody hears.

    Raises:
      TypeError: ``maxsize`` is none of these.
      ValueError: ``maxsize`` is negative.

    Differs from gevent: its methods are for Trio's thread; in other threads, `trio.from_thread.run`
    reaches them. ``kill`` is that of `Group`, and takes what is queued as well, which gevent's lets
    run; for an end of the threads, set `size` to 0.
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
        if maxsize is not None and not isinstance(maxsize, trio.CapacityLimiter):
            _check_maxsize(maxsize)  # here, for a pool's `size` is another thing
        self._init(maxsize, Task, on_error, True)

    def _hire_crew(self) -> Crew:
        if self._shares_default:
            self._slots = Slots.of(trio.to_thread.current_default_thread_limiter())
        self._threads = ThreadCrew(self, self._nursery, self._abandons)
        return self._threads

    def __len__(self) -> int:
        """How many calls are not over, those included that wait for a slot or a thread."""
        # Other threads may look, too, so these are copies.
        own = sum(worker.series is None for worker in list(self._members))
        rows = sum(
            cast("ThreadRows", series.rows).counted(series.taken) for series in list(self._series)
        )
        return own + rows + len(self._line.calls) + len(self._added)

    def __bool__(self) -> bool:
        """Whether any call is not over, be it that it still waits."""
        return len(self) > 0

    @property
    def maxsize(self) -> int | None:
        """The most calls that run at once; None where the limiter has no limit.

        It can be set to an int. Threads that are too many end when they are idle, and no call is
        killed. Where the limiter is shared, this resizes it for all who use it, and for good: if
        the pool was made with None, that is every `trio.to_thread.run_sync` of the program. A pool
        that was made with None and is not open yet has no limiter so far; to set its ``maxsize``
        gives it one of its own.

        Raises:
          TypeError: when set to anything but an int. None and limiters are for a new pool.
          ValueError: when set to less than 0.
        """
        total = self.limiter.total_tokens
        return None if total == math.inf else int(total)

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        _check_maxsize(maxsize, keeps_limiter=True)
        if self._state is NEW:
            self._shares_default = False
        self._slots.resize(maxsize)

    @property
    def size(self) -> int:
        """How many threads there are.

        It can be set: to more, and they start; to less, and idle ones end, others when they become
        idle. It is no limit, which `maxsize` is: a call that finds no idle thread still starts one.
        If a thread cannot be started for a call, the call fails with that error. If that was for
        ``size``, the block does.

        Raises:
          TypeError: when set to anything but an int.
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


def _check_maxsize(maxsize: object, *, keeps_limiter: bool = False) -> None:
    if keeps_limiter and (maxsize is None or isinstance(maxsize, trio.CapacityLimiter)):
        raise TypeError(
            f"a ThreadPool keeps its limiter: set maxsize to an int, not {maxsize!r}, or make a "
            "new pool"
        )
    if isinstance(maxsize, bool) or not isinstance(maxsize, int):
        raise TypeError(
            "maxsize is an int, a trio.CapacityLimiter, or None for Trio's default limiter of "
            f"threads, not {maxsize!r}"
        )
    if maxsize < 0:
        raise ValueError(f"maxsize cannot be negative: {maxsize}")
