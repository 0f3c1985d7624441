"""The crew: Trio tasks that take one call after the other, instead of one task for each call."""

from __future__ import annotations

import abc
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from trio.lowlevel import enable_ki_protection, reschedule

from triopool._functions import check_callable, is_async, start_call
from triopool._jobs import SINGLE_CALL
from triopool._pace import Pace
from triopool._rows import TaskRows
from triopool._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    import trio

    from triopool._block import Block
    from triopool._jobs import Job
    from triopool._rows import Rows
    from triopool._series import Series
    from triopool.task import Task


# At some 4 KB each they must not pile up for ever.
MAX_IDLE = 256


@attrs.define(eq=False)
class Crew(abc.ABC):
    """The workers that run the calls of one pool. Where they run them, a subclass says."""

    block: Block
    nursery: trio.Nursery
    context: Context = attrs.field(factory=copy_context, init=False)  # of those that are idle
    dismissed: bool = attrs.field(default=False, init=False)

    @abc.abstractmethod
    def check(self, func: object) -> None:
        """Raise a TypeError that says what to do, unless it can be a function of this crew's."""

    @abc.abstractmethod
    def prepare(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any] | None:
        """The same for a call. If only a call could tell, this has made it, and returns it."""

    @abc.abstractmethod
    def begin(self, task: Task[Any], seat: object, context: Context | None = None) -> Worker:
        """Hand a call that has a slot to a worker, for ``context`` or a copy of the current one."""

    def hurry(self) -> None:  # noqa: B027  # they begin in the next pass of the loop
        """Have the calls begin now that were handed to workers, if that is possible."""

    @abc.abstractmethod
    def rows_of(self, series: Series[Any]) -> Rows:
        """How this crew runs the rows of a series."""

    @abc.abstractmethod
    def dismiss(self) -> None:
        """Send everyone home who is idle now, and who would be from now on."""

    def hire(self, worker: Worker, name: str, context: Context | None) -> None:
        """Start a new worker in ``context``, or else in a copy of the current one."""
        if context is None:
            self.nursery.start_soon(worker.main, name=name)
        else:
            context.run(partial(self.nursery.start_soon, worker.main, name=name))


@attrs.define(eq=False)
class TaskCrew(Crew):
    """Workers that run async functions, and do whatever else a pool needs Trio tasks for."""

    reuse: bool
    most_idle: int = attrs.field(init=False)  # so many are parked
    idle_name: str = attrs.field(init=False)  # of the Trio tasks of those that are parked
    # parked, the last one at the end
    idle: dict[Worker, None] = attrs.field(factory=dict["Worker", None], init=False)
    # Those whose call left a nursery open, each in a scope that it waits in.
    stranded: dict[Worker, trio.CancelScope] = attrs.field(
        factory=dict["Worker", "trio.CancelScope"], init=False
    )
    pace: Pace = attrs.field(factory=Pace, init=False)

    def __attrs_post_init__(self) -> None:
        self.most_idle = MAX_IDLE if self.reuse else 0
        self.idle_name = f"idle worker of {self.block._label}"

    @enable_ki_protection
    def assign(self, job: Job, name: str, context: Context | None = None) -> Worker:
        """Hand a job to a parked worker, or a new one. It begins in the next pass of the loop."""
        if self.idle:
            worker, _ = self.idle.popitem()
            try:
                worker.job = job
                task = worker.trio_task
                task.name = name
                task.context = copy_context() if context is None else context
                reschedule(task)
            except BaseException:  # there is no stack left
                worker.job = None
                self.idle[worker] = None
                raise
            return worker
        worker = Worker(self, job)
        self.hire(worker, name, context)
        return worker

    def check(self, func: object) -> None:
        check_callable(func)

    def prepare(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any] | None:
        return None if is_async(func) else start_call(func, args, kwargs)

    def begin(self, task: Task[Any], seat: object, context: Context | None = None) -> Worker:
        worker = self.assign(SINGLE_CALL, task.name, context)
        worker.task = task
        worker.seat = seat
        return worker

    def rows_of(self, series: Series[Any]) -> Rows:
        return TaskRows(series, self)

    @enable_ki_protection
    def dismiss(self) -> None:
        self.dismissed = True
        self.most_idle = 0
        for worker in self.idle:
            worker.job = None
            reschedule(worker.trio_task)
        self.idle.clear()
        for scope in self.stranded.values():
            scope.cancel()
