"""The handle of one call: Task, and the one that the running code is inside of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from triopool._call import FAILED, KILLED, OVER, SUCCEEDED, Call, TaskStatus
from triopool._exceptions import TaskKilled
from triopool._failures import as_verdict
from triopool._inside import HERE, enclosing_workers
from triopool._timeouts import check_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__all__ = ["Task", "TaskStatus", "current_task"]

T_co = TypeVar("T_co", covariant=True)


class Task(Call[T_co]):
    """The handle of one call: what became of it, and the means to wait for it or to kill it.

    Pools return tasks from ``spawn`` and its relatives. One made by hand, ``Task(func, *args,
    **kwargs)``, is unstarted until ``await pool.start(task)``. A subclass may override ``async def
    run(self)``, which is what a pool calls, and then needs no ``func``. It may not compare tasks by
    value.

    Once a pool has it, it can be killed and linked in Trio's thread only; what only looks is
    allowed in any. Each ``timeout`` is a number of seconds, 0 or more; any other value is a
    TypeError or a ValueError.

    ============ ============ =====================================================
    from         to           when
    ============ ============ =====================================================
    UNSTARTED    WAITING      a pool was asked to run it, and has no free slot
    UNSTARTED    RUNNING      a pool gave it a slot
    WAITING      RUNNING      a pool gave it a slot
    WAITING      UNSTARTED    whoever called ``start`` gave up
    these three  KILLED       it was killed before its first line, and never runs
    RUNNING      SUCCEEDED    it returned
    RUNNING      FAILED       it raised anything but a cancellation
    RUNNING      KILLED       `trio.Cancelled` left it: it was killed, or its pool was
    ============ ============ =====================================================

    Args:
      func: an async function, or a sync one for a `ThreadPool`.
      args: its positional arguments.
      kwargs: its keyword arguments.

    Differs from gevent: this is what gevent calls ``Greenlet``, but a handle, not the thing that
    runs.
    """

    __slots__ = ()

    @overload
    def __init__(
        self, func: Callable[..., Awaitable[T_co]] | None = None, /, *args: Any, **kwargs: Any
    ) -> None: ...

    @overload
    def __init__(self, func: Callable[..., T_co], /, *args: Any, **kwargs: Any) -> None: ...

    def __init__(
        self, func: Callable[..., Any] | None = None, /, *args: Any, **kwargs: Any
    ) -> None:
        if func is None and not self._has_own_run():
            raise TypeError("a Task needs an async function, or a subclass that overrides run()")
        self._set_up(func, args, kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__eq__ is not object.__eq__ or cls.__hash__ is not object.__hash__:
            raise TypeError(
                f"{cls.__name__} may not compare tasks by value: two calls are never one and the "
                "same to a pool; leave out __eq__ and __hash__ (with attrs, eq=False)"
            )

    @classmethod
    def _has_own_run(cls) -> bool:
        return cls.run is not cast("Any", Task).run

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.status.name} at {id(self):#x}>"

    @disable_ki_protection
    def run(self) -> Awaitable[T_co]:
        """Make the call. A subclass may override this, with an async method; a pool awaits it once.

        Returns:
          what becomes the task's value.
        """
        try:
            coro = self._coro
            if coro is not None:
                self._coro = None
                return coro
            assert self._func is not None
            return self._func(*self._args, **self._kwargs)
        finally:
            del self  # the error's traceback holds the frames that called

    # What it is

    @property
    def func(self) -> Callable[..., Awaitable[T_co]] | None:
        """The function, until the task is done and lets go of it."""
        return self._func

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, until the task is done."""
        return self._args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments, until the task is done."""
        return {**self._kwargs}

    @property
    def status(self) -> TaskStatus:
        """Where it stands, a `TaskStatus`."""
        return self._look()

    @property
    def started(self) -> bool:
        """Whether it ever got a slot."""
        return self._started or self._look() is TaskStatus.RUNNING

    def successful(self) -> bool:
        """Whether it returned a value.

        Differs from gevent: a killed call was not successful.
        """
        return self._status is SUCCEEDED

    @property
    def value(self) -> T_co | None:
        """What it returned; None until then, and for a call that failed or was killed."""
        return self._value

    @property
    @enable_ki_protection
    def exception(self) -> BaseException | None:
        """The error that it failed with, or None. Looking at an error counts as having seen it."""
        if self._failure is None:
            return None
        self._observe()
        return self._failure.error

    # Waiting for it

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.get().__await__()

    @enable_ki_protection
    async def get(self, timeout: float | None = None) -> T_co:
        """Wait until it is over and take its result.

        Cancelling ``get`` leaves the call running.

        Args:
          timeout: the longest wait, in seconds; None waits for ever.

        Returns:
          what the call returned.

        Raises:
          trio.TooSlowError: it is not over after ``timeout`` seconds.
          TaskKilled: it was killed (or the exception that ``kill`` was given).
          PoolDeadlock: waiting here would wait for ever.
          RuntimeError: it was called from inside of the call itself.
          Exception: whatever the call raised.

        Differs from gevent: ``gevent.Timeout`` is `trio.TooSlowError` here, and a killed call
        raises.
        """
        if not await self._wait(timeout, takes_error=True):
            raise trio.TooSlowError(f"{self.name} is not over after {timeout} seconds")
        if self._status is KILLED:
            # If whoever waits was cancelled as well, that is what it wants to hear of.
            await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return self._result()
        finally:
            del self  # the error's traceback holds this frame

    async def join(self, timeout: float | None = None) -> bool:
        """Wait until it is over, without taking its result or error.

        Cancelling ``join`` leaves the call running.

        Args:
          timeout: the longest wait, in seconds; None waits for ever.

        Returns:
          whether it is over.

        Raises:
          PoolDeadlock: waiting here would wait for ever.
          RuntimeError: it was called from inside of the call itself.
        """
        return await self._wait(timeout, takes_error=False)

    # Ending it

    async def kill(
        self,
        exception: type[Exception] | Exception = TaskKilled,
        block: bool = True,
        timeout: float | None = None,
        *,
        reason: str | None = None,
    ) -> bool:
        """Cancel the call, and wait until it is over.

        An async function sees `trio.Cancelled` at every checkpoint from now on, so that cleanup
        which awaits needs a shield. A sync one in a thread sees it only where it asks, with
        `trio.from_thread.check_cancelled`; so this may take as long as the call, unless the pool
        was told to leave such calls behind. What has not begun runs not one line. A call that
        returns or raises something else all the same has succeeded or failed with that. Killing a
        task that is over does nothing, and the first kill counts.

        Args:
          exception: what whoever waits for the task gets if it ends KILLED: an exception, or a
            class of them.
          block: wait until it is over. Not done for a task that one is inside of.
          timeout: the longest wait, in seconds; None waits for ever.
          reason: what the ``Cancelled`` shows; by default the exception.

        Returns:
          whether it is over.

        Raises:
          TypeError: ``exception`` is neither an `Exception` nor a class of them.

        Differs from gevent: the exception is not thrown into the call, which sees ``Cancelled``, at
        every checkpoint and not once.
        """
        check_timeout(timeout)
        self.kill_nowait(exception, reason=reason)
        inside = any(worker.runs(self) for worker in enclosing_workers())
        if not block or inside:
            await trio.lowlevel.checkpoint()
            return self._status in OVER
        return await self.join(timeout)

    @enable_ki_protection
    def kill_nowait(
        self,
        exception: type[Exception] | Exception = TaskKilled,
        *,
        reason: str | None = None,
    ) -> None:
        """Cancel the call without waiting for its end. The arguments are those of `kill`.

        Raises:
          TypeError: ``exception`` is neither an `Exception` nor a class of them.
          RuntimeError: this is another thread than Trio's; ``trio.from_thread.run_sync`` leads
            there.
        """
        verdict = as_verdict(exception)
        if self._status not in OVER:
            self._kill(verdict, reason)

    # Callbacks

    def link(self, callback: Callable[[Task[T_co]], object]) -> None:
        """Have ``callback(task)`` called when the task is over, or at once if it is.

        Links are called in the order of linking, before those who wait for the task run. They are
        sync functions. An error in one is reported with the unobserved errors of the pool, and the
        others still run.

        Args:
          callback: a sync function of one argument, the task.

        Raises:
          TypeError: ``callback`` cannot be called, or is an async function.
          RuntimeError: this is another thread than Trio's, and the task is neither unstarted nor
            over.
        """
        self._link(callback, None)

    def link_value(self, callback: Callable[[Task[T_co]], object]) -> None:
        """Like `link`, but only for a call that succeeds.

        Differs from gevent: there a killed greenlet counts as one that succeeded.
        """
        self._link(callback, SUCCEEDED)

    def link_exception(self, callback: Callable[[Task[T_co]], object]) -> None:
        """Like `link`, but only for a call that fails. A killed call did not fail."""
        self._link(callback, FAILED)

    def unlink(self, callback: Callable[[Task[T_co]], object]) -> bool:
        """Take back the first link with this callback. Returns whether there was one."""
        return self._unlink(callback)


def current_task() -> Task[Any] | None:
    """The task that one is inside of: the innermost call around the running code, or None.

    Being in a nursery that the call opened counts as inside, and so does being in the thread that a
    `ThreadPool` makes the call in. Other code is inside of none.
    """
    if not trio.lowlevel.in_trio_task():
        return None if HERE.current is None else HERE.current()
    for worker in enclosing_workers():
        task = worker.innermost()
        if task is not None:
            return task
    return None
