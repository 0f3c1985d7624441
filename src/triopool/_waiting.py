"""Waiting for several tasks and futures at once: `wait` and `as_completed`."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, overload

import attrs
import trio
from trio.lowlevel import ParkingLot, checkpoint, enable_ki_protection

from triopool import _futures
from triopool._inside import enclosing_workers
from triopool._refusals import check_in_trio
from triopool._timeouts import check_timeout
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from triopool._block import Block


W = TypeVar("W", bound="Task[Any] | Future[Any]")


def _arrivals(what: str, objects: Iterable[Any], timeout: float | None) -> _Arrivals[Any]:
    """Check what a user wants to wait for."""
    check_in_trio(f"triopool.{what}()")
    check_timeout(timeout)
    if isinstance(objects, (Task, Future)):
        raise TypeError(
            f"{what}() takes an iterable of tasks and futures: for a single one write `await "
            f"task.join()`, `await task`, or {what}([task])"
        )
    each_once: dict[Any, None] = {}
    for each in objects:
        if not isinstance(each, (Task, Future)):
            raise TypeError(f"tasks and futures can be waited for, not {each!r}")
        each_once[each] = None
    return _Arrivals(list(each_once))


@attrs.define(eq=False)
class _Arrivals(Generic[W]):
    """Tasks and futures, in the order in which they get done."""

    objects: list[W]  # each once
    done: deque[W] = attrs.field(init=False, factory=deque["W"])
    pending: dict[W, None] = attrs.field(init=False, factory=dict["W", None])
    # Futures that other threads said are done.
    _inbox: deque[W] = attrs.field(init=False, factory=deque["W"])
    _lot: ParkingLot = attrs.field(init=False, factory=ParkingLot)
    token: trio.lowlevel.TrioToken = attrs.field(
        init=False, factory=trio.lowlevel.current_trio_token
    )

    @enable_ki_protection
    def __attrs_post_init__(self) -> None:
        for each in self.objects:
            self.pending[each] = None
            if isinstance(each, Task):
                each._link(self._arrive, None)
            elif isinstance(each, _futures.Future):
                each._link(self._arrive_from_thread)
            else:
                each.add_done_callback(self._arrive_from_thread)

    @enable_ki_protection
    def _arrive(self, each: W) -> None:
        if each in self.pending:
            del self.pending[each]
            self.done.append(each)
            self._lot.unpark_all()

    @enable_ki_protection
    def _arrive_from_thread(self, future: Any) -> None:
        self._inbox.append(future)
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self.token:
            self._open_inbox()
            return
        try:
            self.token.run_sync_soon(self._open_inbox, idempotent=True)
        except trio.RunFinishedError:
            pass

    def _open_inbox(self) -> None:
        while self._inbox:
            self._arrive(self._inbox.popleft())

    def close(self) -> None:
        """Nobody wants to know any more."""
        for each in self.pending:
            if isinstance(each, Task):
                each._unlink(self._arrive)
            elif isinstance(each, _futures.Future):
                each._unlink(self._arrive_from_thread)
        self.pending.clear()
        self.done.clear()
        self.objects.clear()

    @enable_ki_protection
    async def until(self, count: int) -> None:
        """Wait until ``count`` of them are done."""
        around = enclosing_workers()
        for each in self.pending:
            if isinstance(each, Task) and any(worker.runs(each) for worker in around):
                raise RuntimeError(f"{each!r} cannot wait for itself: it would never end")
        while self.pending and len(self.done) < count:
            with ExitStack() as stack:
                for block in {task._block: None for task in self.pending if isinstance(task, Task)}:
                    if block is not None:
                        ticket = block._slots.ticket(partial(self._stuck, block, count))
                        stack.enter_context(ticket)
                await self._lot.park()

    def _stuck(self, block: Block, count: int) -> bool:
        """Whether fewer than ``count`` get done, unless holders of a pool's slots do something."""
        stuck = sum(
            isinstance(each, Task) and each._block is block and each._in_vain()
            for each in self.pending
        )
        return len(self.done) + len(self.pending) - stuck < count


@overload
async def wait(
    objects: Iterable[W], timeout: float | None = None, count: int | None = None
) -> list[W]: ...


# For mypy, which calls a list of both kinds a list of objects unless it hears of their union.
@overload
async def wait(  # type: ignore[overload-cannot-match]
    objects: Iterable[Task[Any] | Future[Any]],
    timeout: float | None = None,
    count: int | None = None,
) -> list[Task[Any] | Future[Any]]: ...


@enable_ki_protection
async def wait(
    objects: Iterable[Any], timeout: float | None = None, count: int | None = None
) -> list[Any]:
    """Wait until all of them are done, or ``count`` of them, or the time is over.

    No result is taken and no error raised: ask each task for its own. Cancelling ``wait`` leaves
    them running.

    Args:
      objects: tasks, and `concurrent.futures.Future` objects.
      timeout: the longest wait, in seconds; None waits for ever.
      count: for how many to wait; None for all.

    Returns:
      those that are done, in the order of ``objects``.

    Raises:
      PoolDeadlock: waiting here would wait for ever.
      RuntimeError: it was called from inside of one of the calls.
      RuntimeError: this is no task of Trio's.
      TypeError: something among ``objects`` is neither a task nor a future, or ``timeout`` is no
        number.
      ValueError: ``timeout`` is negative.

    Differs from gevent: the order is that of the input; `as_completed` has that of completion.
    """
    arrivals = _arrivals("wait", objects, timeout)
    total = len(arrivals.objects)
    wanted = total if count is None else min(count, total)
    try:
        await checkpoint()
        if len(arrivals.done) < wanted:
            with trio.CancelScope() if timeout is None else trio.move_on_after(timeout):
                await arrivals.until(wanted)
        finished = set(arrivals.done)
        return [each for each in arrivals.objects if each in finished]
    finally:
        arrivals.close()


class as_completed(Generic[W]):  # noqa: N801  # it is called like a function
    """An async iterator over tasks and futures, in the order in which they get done.

    Args:
      objects: tasks, and `concurrent.futures.Future` objects. What is done already comes first, in
        order.
      timeout: the longest that all of it may take, in seconds from the first read on; None for no
        limit.

    Raises:
      trio.TooSlowError: when reading, if the time is over before all of them are done.
      PoolDeadlock: when reading, if that would wait for ever.
      RuntimeError: this is no task of Trio's.
      TypeError: something among ``objects`` is neither a task nor a future, or ``timeout`` is no
        number.
      ValueError: ``timeout`` is negative.

    Differs from gevent: ``iwait`` ends silently when the time is over.
    """

    @overload
    def __init__(self, objects: Iterable[W], timeout: float | None = None) -> None: ...

    @overload  # as for `wait`
    def __init__(
        self: as_completed[Task[Any] | Future[Any]],
        objects: Iterable[Task[Any] | Future[Any]],
        timeout: float | None = None,
    ) -> None: ...

    def __init__(self, objects: Iterable[Any], timeout: float | None = None) -> None:
        self._arrivals = cast("_Arrivals[W]", _arrivals("as_completed", objects, timeout))
        self._timeout = timeout
        self._deadline: float | None = None

    def __aiter__(self) -> Self:
        return self

    @enable_ki_protection
    async def __anext__(self) -> W:
        arrivals = self._arrivals
        if self._deadline is None:
            limit = float("inf") if self._timeout is None else self._timeout
            self._deadline = trio.current_time() + limit
        await checkpoint()
        while not arrivals.done:
            if not arrivals.pending:
                raise StopAsyncIteration
            with trio.CancelScope(deadline=self._deadline) as scope:
                await arrivals.until(1)
            if scope.cancelled_caught:
                raise trio.TooSlowError(f"not all were done after {self._timeout} seconds")
        return arrivals.done.popleft()

    def __del__(self) -> None:
        # This may run in any thread and in the middle of anything, so it only hands over.
        try:
            self._arrivals.token.run_sync_soon(self._arrivals.close)
        except (AttributeError, trio.RunFinishedError):  # it was never made, or is of no use
            pass

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            raise TypeError("they get done over time: write `async for`, not `for`")
