"""Who is in a pool: looking at its calls, adding those of other pools, and killing them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from triopool._block import CLOSING
from triopool._calls import Calls
from triopool._exceptions import TaskKilled
from triopool._failures import as_verdict
from triopool._functions import known_as
from triopool._inside import enclosing_workers
from triopool._timeouts import check_timeout
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triopool._series import Series
    from triopool._worker import Worker


@known_as("Pool")
class Members(Calls):
    """The calls of a pool, seen from outside."""

    # Looking

    def __len__(self) -> int:
        """How many calls run now, those of maps and iterators and added ones included."""
        return len(self._members) + len(self._added)

    def __bool__(self) -> bool:
        """Whether any call runs now."""
        return len(self) > 0

    def __contains__(self, task: object) -> bool:
        """Whether ``task`` runs in this pool now, or was added."""
        if not isinstance(task, Task):
            return False
        host = task._host  # another thread may ask
        return task in self._added or (host is not None and host.is_of(self))

    def __iter__(self) -> Iterator[Task[Any]]:
        """Over a snapshot of the calls that run now."""
        self._check_thread("a pool was iterated over", "run_sync(list, pool)")
        return iter(self._tasks(rows=True))

    def _tasks(self, *, rows: bool) -> list[Task[Any]]:
        own = [worker.handle() for worker in self._members if worker.series is None]
        tasks = [task for task in own if task is not None]
        if rows:
            for series in self._series:
                tasks += series.rows.tasks()
        return [*tasks, *self._added]

    def _has(self, task: Task[Any]) -> bool:
        """Whether it is in this pool, be it without a slot."""
        return task in self or task in self._line.calls or task in self._background

    # Those of other pools

    @enable_ki_protection
    async def add(
        self, task: Task[Any], blocking: bool = True, timeout: float | None = None
    ) -> None:
        """Let a task that another pool runs take a slot here until it is over.

        It counts in ``len`` and `join`, leaving the block waits for it, and `kill` kills it. Its
        error and its lifetime stay its own pool's. A task that is over, or in this pool already, is
        not added. One that no pool runs yet may be added, too, but it keeps its slot, and the block
        waits for it, until somebody has started it and it is over.

        Args:
          task: the task.
          blocking: wait for a slot.
          timeout: the longest wait, in seconds; None waits for ever.

        Raises:
          PoolFull: there was no slot, or none in time.
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.

        Differs from gevent: a group does not run what is added to it.
        """
        if not isinstance(task, Task):
            raise TypeError(
                f"add() takes a Task, not {task!r}: to run a function, use spawn(func, *args)"
            )
        self._check()
        check_timeout(timeout)
        if task.ready() or self._has(task):
            await checkpoint()
            return
        seat = object()
        await self._take_slot(seat, blocking, timeout)
        self._add(task, seat)

    def _add(self, task: Task[Any], seat: object) -> None:
        if task.ready() or self._has(task):
            self._slots.release(seat)
        else:
            self._added[task] = seat
            self._busy += 1
            self._engaged += 1
            task.link(self._let_go)

    @enable_ki_protection
    def discard(self, task: Task[Any]) -> None:
        """Stop counting a task, and free its slot.

        A task of this pool goes on, and the block still waits for it.
        Discarding a task that is not in the pool does nothing.
        """
        self._check_thread("discard was called", "run_sync(pool.discard, ...)")
        if task in self._added:
            task.unlink(self._let_go)
            self._let_go(task)
            return
        worker = task._host.unseat() if task._host is not None and task in self else None
        if worker is not None:
            self._vacate(worker)

    # Killing

    @enable_ki_protection
    def kill_nowait(
        self,
        exception: type[Exception] | Exception = TaskKilled,
        *,
        reason: str | None = None,
    ) -> None:
        """Cancel every call without waiting for the end. See `kill`."""
        self._kill_all(exception, reason)

    @enable_ki_protection
    def _kill_all(
        self, exception: type[Exception] | Exception, reason: str | None
    ) -> tuple[list[Task[Any]], list[Series[Any]]]:
        """Cancel every call, and return what that concerns."""
        self._check(CLOSING)
        verdict = as_verdict(exception)
        tasks = [*self._line.calls, *self._background, *self._tasks(rows=False)]
        every_series = list(self._series)
        # First those that tasks wait for, whose rows would else hear of the tasks' end alone.
        for series in every_series:
            series.kill(verdict, reason)
        for task in tasks:
            task.kill_nowait(TaskKilled if verdict is None else verdict, reason=reason)
        return tasks, every_series

    @enable_ki_protection
    async def kill(
        self,
        exception: type[Exception] | Exception = TaskKilled,
        block: bool = True,
        timeout: float | None = None,
        *,
        reason: str | None = None,
    ) -> bool:
        """Cancel every call, and wait until they are over; the pool stays open.

        Calls that wait for a slot never run. A ``map`` in progress raises, and an iterator does so
        after the results that it has. Callers that are parked in ``spawn`` are not affected. What
        runs is asked to stop: an async function sees `trio.Cancelled` at every checkpoint until it
        ends, so that cleanup which awaits needs a shield. How it is for others, their pools tell.

        From inside a call of the pool this includes that call, but does not wait for it: it gets
        ``Cancelled`` at its next checkpoint.

        Args:
          exception: what whoever waits for one of the calls gets: an exception, or a class of them.
          block: wait until all of it is over.
          timeout: the longest wait, in seconds; None waits for ever.
          reason: what the ``Cancelled`` shows; by default the exception.

        Returns:
          whether all of it is over.

        Raises:
          TypeError: ``exception`` is neither an `Exception` nor a class of them, or ``timeout`` is
            no number.

        Differs from gevent: the exception is not thrown into the calls; what waits for a slot is
        killed too (gevent issue 85).
        """
        check_timeout(timeout)
        tasks, every_series = self._kill_all(exception, reason)
        waiting = enclosing_workers()
        around: list[Worker] = []  # these, and what waits for them, would wait for the caller
        while waiting:
            worker = waiting.pop()
            around.append(worker)
            if worker.series is not None and (asker := worker.series.feeder.waiting_asker()):
                waiting.append(asker)
        maps = {worker.series for worker in around}
        await checkpoint()
        if block:
            with trio.move_on_after(math.inf if timeout is None else timeout):
                for task in tasks:
                    mine = task._series in maps if task._series else False
                    if not (mine or task.ready() or any(w.runs(task) for w in around)):
                        await task.join()
                for series in every_series:
                    if not series.over and series not in maps:
                        await series.until_over()
        return all(task.ready() for task in tasks) and all(series.over for series in every_series)

    async def killone(
        self,
        task: Task[Any],
        exception: type[Exception] | Exception = TaskKilled,
        block: bool = True,
        timeout: float | None = None,
        *,
        reason: str | None = None,
    ) -> bool:
        """Cancel one call of this pool, and wait until it is over, as `Task.kill` does.

        Args:
          task: a call of this pool.
          exception: what whoever waits for it gets: an exception, or a class of them.
          block: wait until it is over.
          timeout: the longest wait, in seconds; None waits for ever.
          reason: what the ``Cancelled`` shows; by default the exception.

        Returns:
          whether it is over.

        Raises:
          ValueError: the task is neither over nor in this pool.
        """
        if not isinstance(task, Task):
            raise TypeError(f"killone() takes a Task of this pool, not {task!r}")
        self._check(CLOSING)
        if not (task.ready() or self._has(task)):
            raise ValueError(f"{task!r} is not in {self!r}; task.kill() kills a task of any pool")
        return await task.kill(exception, block, timeout, reason=reason)
