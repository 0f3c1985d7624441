"""Calls of a pool: asking for one, starting it when there is a slot, and killing it."""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    enable_ki_protection,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._call import KILLED
from triopool._exceptions import PoolFull
from triopool._functions import arguments, call_back, check_callback, known_as
from triopool._host import ScopeHost
from triopool._in_place import run_in_place
from triopool._inside import enclosing_workers, own_worker
from triopool._jobs import QUEUED_CALL, SINGLE_CALL
from triopool._join import Join
from triopool._timeouts import check_timeout
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.lowlevel import RaiseCancelT

    from triopool._worker import Worker

P = ParamSpec("P")
T = TypeVar("T")


@known_as("Pool")
class Calls(Join):
    """What a pool does with single calls."""

    task_class: type[Task[Any]] = Task
    """The class of the tasks that it makes. It can be set, on an instance or in a subclass."""

    # Starting calls

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
        check_timeout(timeout)
        task._prepare(self._crew.prepare)
        task._report = self._report
        with trio.CancelScope() as scope:
            task._queue(self, ScopeHost(scope))
            try:
                self._let_go(task)  # it may have been added, and had a slot as such
                await self._take_slot(task, blocking, timeout)
            except BaseException:
                if not task.ready():
                    task._unqueue()
                raise
            self._begin(task)

    @enable_ki_protection
    async def _apply(self, func: Callable[..., Any], args: Any, kwds: Any) -> Any:
        """Run a call that ends with its caller, in place if that is a member."""
        task = self._new(func, *arguments(args, kwds))
        member = self._own_member()
        if member is not None:
            await run_in_place(task, member, takes_error=True)
        else:
            await self._run_for_caller(task)
        try:
            return task._result()
        finally:
            del task  # the error's traceback holds this frame

    @enable_ki_protection
    def _apply_async(
        self, func: Callable[..., Any], args: Any, kwds: Any, callback: Any
    ) -> Task[Any]:
        """Begin a call now or when there is a slot; then have the callback called."""
        check_callback(callback)
        task = self._new(func, *arguments(args, kwds))
        if callback is not None:
            context = copy_context()
            run = self._run_in_background
            task.link_value(lambda done: context.run(run, call_back, callback, done.value))
        self._begin_or_enqueue(task)
        return task

    @enable_ki_protection
    def _spawn_nowait(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        """Begin a call if there is a slot that nobody waits for."""
        task = self._new(func, args, kwargs)
        if not self._take_slot_nowait(task):
            task._die()
            raise self._full()
        self._begin(task)
        return task

    # How

    def _new(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Task[Any]:
        self._check()
        task: Task[Any] = self.task_class(func, *args, **kwargs)
        task._report = self._report
        task._block = self
        if task._func is not None:
            task._coro = self._crew.prepare(task._func, task._args, task._kwargs)
        return task

    @enable_ki_protection
    async def _start(self, task: Task[Any]) -> None:
        """Wait for a slot, and begin a call in it."""
        try:
            if self._take_slot_nowait(task):
                await checkpoint()
            else:
                await self._wait_for_slot(task)
        except BaseException:
            self._give_up(task)
            raise
        self._begin(task)

    def _give_up(self, task: Task[Any]) -> None:
        """Whoever asked for a call was cancelled, perhaps when it had a slot already."""
        with suppress(RuntimeError):  # it had none
            self._slots.release(task)
        task._die()

    def _full(self) -> PoolFull:
        return PoolFull(
            f"{self!r} has no free slot; spawn() waits for one, and apply_async() gets in line"
        )

    def _take_slot_nowait(self, seat: object) -> bool:
        """Take a slot, if there is one that nobody waits for or has asked for."""
        limiter = self._slots.limiter
        # A free slot goes to whoever waits at once: where there is one, nobody waits in the queue.
        if limiter.available_tokens <= (len(self._line) if self._line.asked else 0):
            return False
        limiter.acquire_on_behalf_of_nowait(seat)
        return True

    async def _take_slot(
        self, seat: object, blocking: bool = True, timeout: float | None = None
    ) -> None:
        """Take a slot, waiting for it if need be."""
        await checkpoint_if_cancelled()
        if self._take_slot_nowait(seat):
            await cancel_shielded_checkpoint()
        elif not blocking:
            await self._try_in_turn(seat)
        elif timeout is None:
            await self._wait_for_slot(seat)
        else:
            with trio.move_on_after(timeout) as scope:
                await self._wait_for_slot(seat)
            if scope.cancelled_caught:
                raise self._full()
        self._check_slot(seat)

    async def _try_in_turn(self, seat: object) -> None:
        """Take a slot if those who have asked before leave one."""
        if self._line.asked:
            await self._line.after_all()
        else:
            await cancel_shielded_checkpoint()
        if not self._slots.take_nowait(seat):
            raise self._full()

    async def _wait_for_slot(self, seat: object) -> None:
        """Wait in line for a slot, where there was none a moment ago."""
        slots = self._slots
        workers = enclosing_workers()
        self._busy += 1
        self._engaged += 1
        try:
            if workers or slots.shared:
                await self._wait_inside(seat, workers)
                return
            if self._line.asked:
                await self._line.after_all()
            slots.begin_wait()
            try:
                await slots.limiter.acquire_on_behalf_of(seat)
            finally:
                slots.end_wait()
        finally:
            self._less_busy()
            self._disengage()

    async def _wait_inside(self, seat: object, workers: list[Worker]) -> None:
        """The same, where a deadlock is possible, or the pool may be closed meanwhile."""
        slots = self._slots
        # What a feeder runs is the input of a map: whoever waits for that waits for this.
        feeders = [feeder for worker in workers if (feeder := worker.feeder_for(slots))]
        for feeder in feeders:
            feeder.input_waits += 1
            slots.look_for_deadlock()
        try:
            if self._line.asked:
                await self._line.after_all()
            await slots.wait(seat, workers)
        finally:
            for feeder in feeders:
                feeder.input_waits -= 1

    def _check_slot(self, seat: object) -> None:
        """Give a slot back, and raise, if the block was left meanwhile."""
        if self._crew.dismissed:
            self._slots.release(seat)
            raise self._unusable()

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
        task._queue(self, worker)

    @enable_ki_protection
    def _run_in_background(self, func: Callable[..., Awaitable[T]], /, *args: Any) -> Task[T]:
        """Run something that needs no slot, and is no call of the user's."""
        task_class: type[Task[Any]] = Task if self.task_class._has_own_run() else self.task_class
        task: Task[T] = task_class(func, *args)
        task._report = self._report
        task._block = self
        worker = self._clerks.assign(SINGLE_CALL, task.name)
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
        try:
            await checkpoint_if_cancelled()
            if not self._take_slot_nowait(task):  # this is no checkpoint, for it waits anyway
                await self._wait_for_slot(task)
        except BaseException:
            self._give_up(task)
            raise
        self._begin(task)
        self._crew.hurry()
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
