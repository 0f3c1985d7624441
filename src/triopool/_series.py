"""Rows of calls: the state of one map or iterator, whoever runs its rows."""

from __future__ import annotations

import abc
import math
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs
import trio
from trio.lowlevel import (
    Abort,
    checkpoint,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._exceptions import TaskKilled
from triopool._failures import Failure, caught, shown
from triopool._feeder import Feeder
from triopool._functions import name_of
from triopool._inputs import END
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from trio.lowlevel import RaiseCancelT

    from triopool._block import Block
    from triopool._inputs import Inputs
    from triopool._rows import Rows
    from triopool._slots import Slots
    from triopool._worker import Worker

T = TypeVar("T")


@attrs.define(eq=False)
class Series(abc.ABC, Generic[T]):
    """One map or one iterator.

    Its feeder waits for a slot, pulls a row and has it run by a worker; `rows` are those that run.
    The crew knows of which kind they are.

    It is over when the feeder has ended and no worker is left. What leads there:

    =========================================  =========  =======  ======
    what has happened                          exhausted  stopped  killed
    =========================================  =========  =======  ======
    nothing yet: rows come and are run         no         no       no
    the input has ended, or a row of a map     yes        no       no
    has failed: what runs goes on
    its user, or the end of the block, closed  yes        yes      no
    it: what runs is cancelled
    a kill                                     yes        yes      yes
    a cancellation from outside ended a row    -          -        yes
    or the feeder
    =========================================  =========  =======  ======

    None of them is ever taken back. Whoever waits for one that was killed gets `TaskKilled`.
    """

    block: Block
    func: Callable[..., Awaitable[T]]
    inputs: Inputs
    task_class: type[Task[Any]]
    return_exceptions: bool
    engages: bool  # the block waits for it
    name: str = attrs.field(init=False)
    slots: Slots = attrs.field(init=False)
    feeder: Feeder = attrs.field(init=False)
    rows: Rows = attrs.field(init=False)
    context: Context = attrs.field(init=False, factory=copy_context)  # of whoever asked

    taken: int = 0  # rows pulled so far, so the index of the next one
    limit: float = math.inf  # the row with this index, and those after it, may not begin
    exhausted: bool = False
    stopped: bool = False
    killed: bool = False
    over: bool = False
    verdict: Exception | None = None
    reason: str | None = None
    input_failure: Failure | None = None

    # tasks that wait for its end
    closers: dict[trio.lowlevel.Task, None] = attrs.field(factory=dict["trio.lowlevel.Task", None])

    def __attrs_post_init__(self) -> None:
        self.name = name_of(self.func)
        self.slots = self.block._slots
        self.feeder = Feeder(self, self.inputs)
        self.rows = self.block._crew.rows_of(self)

    # For those who use it

    def room(self) -> bool:
        """Whether one more row may begin."""
        return self.taken < self.limit

    def is_bounded(self) -> bool:
        """Whether there may be no room."""
        return self.limit != math.inf

    def fails_fast(self) -> bool:
        """Whether no row is to begin after one has failed."""
        return False

    @abc.abstractmethod
    def put(self, index: int, value: T) -> None:
        """Take the result of a row."""

    def put_all(self, results: list[tuple[int, Any]]) -> None:
        """Take the results of many rows."""
        for index, value in results:
            self.put(index, value)

    @abc.abstractmethod
    def put_failure(self, index: int, failure: Failure) -> None:
        """Take the error of a row."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Nothing of it runs any more."""

    @enable_ki_protection
    def begin(self) -> None:
        """Start feeding: the first rows begin in a few passes of the loop."""
        self.feeder.enlist()  # which may fail, for want of memory or stack
        self.block._series[self] = None

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        """Begin no more rows, and cancel those that run."""
        if not self.stopped:
            self.exhausted = self.stopped = True
            if self.feeder.worker is not None:
                self.feeder.worker.stop(reason)
            self.rows.stop(reason)

    def kill(self, verdict: Exception | None, reason: str | None) -> None:
        """Stop it, so that whoever waits for it gets TaskKilled or ``verdict``."""
        if not self.stopped and not self.over:
            self.killed = True
            self.verdict = verdict
            self.reason = reason
            self.stop(reason or shown(verdict))

    def kill_failure(self) -> Failure:
        """What whoever waits for it gets after `kill`."""
        error = self.verdict
        if error is None:
            why = f": {self.reason}" if self.reason else ""
            error = TaskKilled(f"{self.name} was killed{why}")
        return Failure(error, None, killed=True)

    @enable_ki_protection
    async def until_over(self) -> None:
        """Wait until nothing of it runs any more."""
        task = current_trio_task()

        def abort(_: RaiseCancelT) -> Abort:
            del self.closers[task]
            return Abort.SUCCEEDED

        if self.over:
            await checkpoint()
        else:
            self.closers[task] = None
            await wait_task_rescheduled(abort)

    def in_vain(self) -> bool:
        """Whether it cannot advance, unless one of the rows that run does, or a slot comes free."""
        feeder = self.feeder
        workers = self.rows.workers
        if any(worker.seat is None for worker in workers):
            return False  # one was discarded, and needs no slot
        if self.exhausted or feeder.stalled is not None:
            return bool(workers)
        return feeder.input_waits > 0 or (
            feeder.awaited is not None and not (feeder.loan and feeder.loan.free)
        )

    def close(self, reason: str) -> None:
        """Its user wants no more of it."""
        self.stop(reason)

    # For the feeder

    def fail_input(self, error: Exception) -> None:
        """The input raised."""
        self.exhausted = True
        if self.input_failure is None:
            self.input_failure = caught(error)
        else:
            self.block._ledger.add_failure(f"the input of {self.name}", caught(error))

    def pull(self) -> Any:
        """The next row; if there is none, it is exhausted."""
        try:
            return self.inputs.pull()
        except Exception as end:
            self.end_input(end)
            return END

    def end_input(self, end: Exception) -> None:
        """There is no next row."""
        if isinstance(end, StopIteration):
            self.exhausted = True
        else:
            self.fail_input(end)

    @enable_ki_protection
    def launch(self, row: Any) -> Worker:
        """Hand the next row to a worker, which still needs its slot."""
        worker = self.rows.launch(row)
        worker.series = self
        self.block._members[worker] = None
        self.count(worker)
        return worker

    def count(self, worker: Worker) -> None:
        """Let `join`, and the block if it has to, wait for what the worker is about to do."""
        worker.counted = True
        self.block._busy += 1
        if self.engages:
            worker.engaged = True
            self.block._engaged += 1

    def feeder_left(self) -> None:
        """The feeder has ended; if nobody had told it to, it was cancelled from outside."""
        if not self.exhausted or self.rows.queued:
            self.exhausted = self.killed = True
            self.rows.withdraw()
        self.look_for_end()

    # For the rows

    def settle(self, index: int, task: Task[Any] | None, failure: Failure) -> None:
        """A row failed, or was killed. ``task`` stands for it if somebody has looked at it."""
        if task is not None:
            if failure.killed:
                task._die()
            else:
                task._observed = True  # its error is the reader's
                task._fail(failure.error)
        if not (failure.killed and self.stopped):
            self.put_failure(index, failure)

    def make_task(self, row: Any) -> Task[Any]:
        """A task for a row that somebody looks at."""
        args: Any = row if self.inputs.starred else (row,)
        if not isinstance(args, tuple | list):  # of `starmap`, and nothing to look into
            args = ()
        task = self.task_class(self.func, *cast("tuple[Any, ...]", args))
        task._report = self.block._report
        task._block = self.block
        return task

    def look_for_end(self) -> None:
        """Find out whether it is over."""
        if self.over or self.rows.workers or self.feeder.worker is not None:
            return
        self.over = True
        self.finish()
        self.rows.close()
        for task in self.closers:
            reschedule(task)
        self.closers.clear()
        self.block._stir()
