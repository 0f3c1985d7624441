"""Calls of a pool: asking for one, starting it when there is a slot, and killing it."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import trio
from trio.lowlevel import (
    Abort,
    checkpoint,
    checkpoint_if_cancelled,
    enable_ki_protection,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._block import Block
from triopool._call import KILLED, ScopeHost
from triopool._crew import CALL, QUEUED_CALL
from triopool._exceptions import PoolFull
from triopool._functions import call_back, check_callback
from triopool._in_place import run_in_place
from triopool._inside import enclosing_workers, own_worker
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextvars import Context

    from trio.lowlevel import RaiseCancelT

    from triopool._crew import Worker

P = ParamSpec("P")
T = TypeVar("T")


class Calls(Block):
    """What a pool does with single calls."""

    task_class: type[Task[Any]] = Task
    """The class of the tasks that it makes. It can be set, on an instance or in a subclass."""

    # Starting calls

    @enable_ki_protection
    async def spawn(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[T]:
        """Wait for a free slot and start a call in it.

        The call's first line runs after ``spawn`` has returned. A cancelled ``spawn`` has started
        nothing and holds no slot.

        Args:
          func: an async function.
          args: its positional arguments.
          kwargs: its keyword arguments.

        Returns:
          the `Task` that stands for the call.

        Raises:
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not an async function.

        Differs from gevent: an endless wait for a slot inside of a full pool is an error.
        """
        task = self._new(func, args, kwargs)
        await self._start(task)
        return task

    @enable_ki_protection
    def spawn_nowait(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[T]:
        """Start a call if there is a free slot and nobody waits for one; like `spawn`, but sync.

        Raises:
          PoolFull: there is none.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not an async function.
        """
        task = self._new(func, args, kwargs)
        if not self._take_slot_nowait(task):
            task._die()
            raise self._full()
        self._begin(task)
        return task

    @enable_ki_protection
    async def start(
        self, task: Task[Any], blocking: bool = True, timeout: float | None = None
    ) -> None:
        """Wait for a free slot and start a task that was made by hand.

        If it is killed while it waits, it never runs, and ``start`` returns.

        Args:
          task: an unstarted `Task`.
          blocking: wait for a slot.
          timeout: the longest wait, in seconds; None waits for ever.

        Raises:
          PoolFull: there was no slot, or none in time; the task is still unstarted.
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.
          RuntimeError: the task was started before, or is over.
        """
        if not isinstance(task, Task):
            raise TypeError(
                f"start() takes an unstarted Task, not {task!r}: spawn(func, *args) runs a function"
            )
        self._check()
        task._prepare()
        task._report = self._report
        with trio.CancelScope() as scope:
            task._queue(self._slots, ScopeHost(scope))
            try:
                await checkpoint()
                self._let_go(task)
                await self._take_slot(task, blocking, timeout)
            except BaseException:
                if not task.ready():
                    task._unqueue()
                raise
            if task.ready():
                self._slots.release(task)
            else:
                self._begin(task)

    async def apply(
        self,
        func: Callable[..., Awaitable[T]],
        /,
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> T:
        """Run one call and return its result.

        Cancelling ``apply`` cancels its call and waits for its end. In a call of the same pool, the
        function runs in place, on the slot which that call holds, in a context and a cancel scope
        of its own; so it never waits for a slot there.

        Args:
          func: an async function.
          args: its positional arguments.
          kwds: its keyword arguments.

        Returns:
          what the call returned.

        Raises:
          TaskKilled: the call was killed.
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not an async function.
          Exception: whatever the call raised.

        Differs from gevent: cancelling the caller ends the call, too.
        """
        task = self._new(
            func, () if args is None else tuple(args), {} if kwds is None else {**kwds}
        )
        member = self._own_member()
        if member is not None:
            await run_in_place(task, member, takes_error=True)
        else:
            await self._run_for_caller(task)
        try:
            return task._result()
        finally:
            del task  # the error's traceback holds this frame

    async def apply_cb(
        self,
        func: Callable[..., Awaitable[T]],
        /,
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
    ) -> T:
        """Like `apply`, but if the call succeeded, ``callback(result)`` runs before it returns.

        The callback may be sync or async, and has no slot.

        Differs from gevent: there the callback runs some time later.
        """
        check_callback(callback)
        result = await self.apply(func, args, kwds)
        if callback is not None:
            await call_back(callback, result)
        return result

    @enable_ki_protection
    def apply_async(
        self,
        func: Callable[..., Awaitable[T]],
        /,
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
    ) -> Task[T]:
        """Have a call started as soon as there is a slot for it: sync, and never blocks.

        Args:
          func: an async function.
          args: its positional arguments.
          kwds: its keyword arguments.
          callback: called with the result if the call succeeds; sync or async, and without a slot.
            The block and `join` wait for it, and an error of it is reported like that of a call.

        Returns:
          the `Task` that stands for the call; it is WAITING while the pool is full.

        Raises:
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not an async function, or ``callback`` cannot be called.

        Differs from gevent: the callback may be async, and `join` waits for it.
        """
        check_callback(callback)
        task = self._new(
            func, () if args is None else tuple(args), {} if kwds is None else {**kwds}
        )
        if callback is not None:
            call = callback
            task.link_value(lambda done: self._run_in_background(call_back, call, done.value))
        self._begin_or_enqueue(task)
        return task

    # How

    def _new(
        self, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[T]:
        self._check()
        task: Task[T] = self.task_class(func, *args, **kwargs)
        task._report = self._report
        task._slots = self._slots
        task._prepare()
        return task

    @enable_ki_protection
    async def _start(self, task: Task[Any]) -> None:
        """Wait for a slot, and begin a call in it."""
        try:
            await checkpoint()
            await self._take_slot(task)
        except BaseException:
            task._die()
            raise
        self._begin(task)

    def _full(self) -> PoolFull:
        return PoolFull(f"{self!r} has no free slot")

    def _take_slot_nowait(self, seat: object) -> bool:
        """Take a slot, if there is one that nobody waits for or has asked for."""
        limiter = self._slots.limiter
        if self._line and limiter.available_tokens <= len(self._line):
            return False
        try:
            limiter.acquire_on_behalf_of_nowait(seat)
        except trio.WouldBlock:
            return False
        return True

    async def _take_slot(
        self, seat: object, blocking: bool = True, timeout: float | None = None
    ) -> None:
        slots = self._slots
        if self._line:
            await self._line.after_all()
        if not self._take_slot_nowait(seat):
            if not blocking:
                raise self._full()
            self._busy += 1
            self._engaged += 1
            # What a feeder runs is the input of a map: whoever waits for that waits for this.
            feeders = [feeder for w in enclosing_workers() if (feeder := w.feeder_for(slots))]
            for feeder in feeders:
                feeder.input_waits += 1
                slots.look_for_deadlock()
            try:
                with (
                    trio.CancelScope() if timeout is None else trio.move_on_after(timeout) as scope
                ):
                    await slots.take(seat)
                if scope.cancelled_caught:
                    raise self._full()
            finally:
                for feeder in feeders:
                    feeder.input_waits -= 1
                self._less_busy()
                self._disengage()
        if self._crew.dismissed:
            slots.release(seat)
            raise self._unusable()

    def _begin(
        self, task: Task[Any], seat: object | None = None, context: Context | None = None
    ) -> None:
        """Hand a call that has a slot to a worker; if nothing else is, the task is its seat."""
        worker = self._crew.begin(task, task if seat is None else seat, context)
        self._members[worker] = None
        self._engage(worker)
        task._launch(worker)

    @enable_ki_protection
    def _begin_or_enqueue(self, task: Task[Any]) -> None:
        """Begin a call if there is a slot, or hand it to a worker that waits for one first."""
        if self._take_slot_nowait(task):
            self._begin(task)
            return
        context = copy_context()
        worker = self._clerks.assign(QUEUED_CALL, task.name, context)
        worker.task = task
        self._line.enqueue(task, worker, context)
        self._engage(worker)
        task._queue(self._slots, worker)

    @enable_ki_protection
    def _run_in_background(self, func: Callable[..., Awaitable[T]], /, *args: Any) -> Task[T]:
        """Run something that needs no slot, and is no call of the user's."""
        own_run = self.task_class.run is not cast("Any", Task).run
        task: Task[T] = Task(func, *args) if own_run else self.task_class(func, *args)
        task._report = self._report
        task._slots = self._slots
        worker = self._clerks.assign(CALL, task.name)
        worker.task = task
        self._background[task] = None
        self._engage(worker)
        task._launch(worker)
        return task

    def _own_member(self) -> Worker | None:
        """The worker that the current Trio task is, if it runs a call of this pool on a slot."""
        worker = own_worker()
        if worker is None or worker.crew.block is not self or worker.seat is None:
            return None
        return worker

    @enable_ki_protection
    async def _run_for_caller(self, task: Task[Any]) -> None:
        """Run a call that ends with its caller."""
        await self._start(task)
        raise_cancel: RaiseCancelT | None = None

        def abort(raiser: RaiseCancelT) -> Abort:
            nonlocal raise_cancel
            raise_cancel = raiser
            task._kill(None, "its caller was cancelled")
            return Abort.FAILED

        with task._ticket():
            while not task.ready():
                if task._waiters is None:
                    task._waiters = {}
                task._waiters[current_trio_task()] = True
                await wait_task_rescheduled(abort)
            if task.status is KILLED:
                if raise_cancel is not None:
                    raise_cancel()
                await checkpoint_if_cancelled()
