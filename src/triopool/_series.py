"""Rows of calls: what feeds the workers of one map or iterator, and what they do between rows."""

from __future__ import annotations

import abc
from contextvars import copy_context
from operator import is_
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    disable_ki_protection,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._crew import ROWS
from triopool._exceptions import TaskKilled
from triopool._failures import Failure, caught, shown, sift
from triopool._feeder import Feeder
from triopool._functions import name_of, row_function
from triopool._inputs import END
from triopool._inside import own_worker
from triopool._pace import BUDGET
from triopool._remains import is_innermost
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from trio.lowlevel import RaiseCancelT

    from triopool._block import Block
    from triopool._crew import Worker
    from triopool._inputs import Inputs
    from triopool._slots import Slots

T = TypeVar("T")

# What a worker does after a row: begin the next one that it has just taken, end, let the loop pass,
# or get a fresh context first.
GO, LEAVE, BREATHE, RENEW = range(4)


@attrs.define(eq=False)
class Series(abc.ABC, Generic[T]):
    """One map or one iterator.

    Its feeder waits for a slot, pulls a row and hands both to a worker. Where anyone may pull, the
    worker then goes on by itself, row after row, as long as nobody else waits for its slot, and the
    feeder only waits for more slots. Where one task has to pull, the slot goes back after each row
    and the feeder takes it again.

    It is over when the feeder has ended and no worker is left. `exhausted` means that no more rows
    will come, `stopped` that the calls which run are being cancelled, too, and `killed` that it was
    not its user who asked for that.
    """

    block: Block
    func: Callable[..., Awaitable[T]]
    inputs: Inputs
    task_class: type[Task[Any]]
    return_exceptions: bool
    engages: bool  # the block waits for it
    name: str = attrs.field(init=False)
    call: Callable[..., Awaitable[T]] = attrs.field(init=False)  # func, checked
    slots: Slots = attrs.field(init=False)
    feeder: Feeder = attrs.field(init=False)
    context: Context = attrs.field(init=False, factory=copy_context)  # of whoever asked

    taken: int = 0  # rows pulled so far, so the index of the next one
    workers: dict[Worker, None] = attrs.field(factory=dict["Worker", None])  # those that run a row
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
        self.call = row_function(self.func)
        if self.task_class.run is not cast("Any", Task).run:
            self.call = _run_own_task
        self.slots = self.block._slots
        self.feeder = Feeder(self, self.inputs)

    # For those who use it

    def room(self) -> bool:
        """Whether one more row may begin."""
        return True

    @abc.abstractmethod
    def put(self, index: int, value: T) -> None:
        """Take the result of a row."""

    @abc.abstractmethod
    def put_failure(self, index: int, failure: Failure) -> None:
        """Take the error of a row."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Nothing of it runs any more."""

    @enable_ki_protection
    def begin(self) -> None:
        """Start feeding: the first rows begin in a few passes of the loop."""
        self.block._series[self] = None
        self.feeder.begin()

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        """Begin no more rows, and cancel those that run."""
        if not self.stopped:
            self.exhausted = self.stopped = True
            if self.feeder.worker is not None:
                self.feeder.worker.stop(reason)
            for worker in self.workers:
                worker.stop(reason)

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
        if not all(worker.seat for worker in self.workers):
            return False  # one was discarded, and needs no slot
        if feeder.worker is None or self.exhausted or feeder.stalled is not None:
            return bool(self.workers)
        return feeder.input_waits > 0 or (feeder.queued and not (feeder.loan and feeder.loan.free))

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

    def launch(self, row: Any) -> Worker:
        """Hand the next row to a worker, which still needs its slot."""
        worker = self.block._crew.assign(ROWS, self.name, self.context.copy())
        worker.series = self
        worker.row = row
        worker.index = self.taken
        self.taken += 1
        self.workers[worker] = None
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
        if not self.exhausted:
            self.exhausted = self.killed = True
        self._look_for_end()

    # The workers

    @disable_ki_protection
    async def work(self, worker: Worker) -> None:
        """Run the row that the worker has, and go on with others."""
        call = self.call
        starred = self.inputs.starred
        worker.crew.pace.last = worker
        while True:
            if worker.hit:  # killed before its first line
                self._row_killed(worker)
                return
            try:
                value = await (call(*worker.row) if starred else call(worker.row))
            except BaseException as error:
                further = self._row_failed(worker, error)
                try:
                    if further is error:
                        raise
                    if further is not None:
                        raise further from None
                finally:
                    del further
            else:
                self._row_returned(worker, value)
                del value
            while (step := self._step(worker)) != GO:
                if step == LEAVE:
                    return
                if step == BREATHE:
                    await worker.crew.pace.breathe()
                else:
                    # The new context is in force from the next step of the Trio task on.
                    await cancel_shielded_checkpoint()

    @enable_ki_protection
    def _step(self, worker: Worker) -> int:
        """Between two rows: decide how to go on, and take the next row if there is to be one."""
        crew = worker.crew
        if (
            self.exhausted
            or worker.hit
            or worker.seat is None
            or worker.lent is not None  # the seat may be another row's already
            or not self.inputs.direct
            or not crew.reuse
            or crew.closing
            or not self.room()
            or (worker.loan is None and self.slots.wanted(self.feeder.queued))
        ):
            return LEAVE
        task = worker.trio_task
        assert task is not None
        if not is_innermost(worker.mark, task):
            return LEAVE
        pace = crew.pace
        breathless = pace.last is worker and not pace.spend()
        if (breathless or not self.taken % BUDGET) and self.slots.look_around(self.feeder.queued):
            return LEAVE
        if breathless:
            # Calls that never checkpoint need no company; if others come, the feeder will see it.
            return LEAVE if len(self.workers) > 1 else BREATHE
        if touched(task.context, self.context):
            task.context = self.context.copy()
            return RENEW
        row: Any = END
        try:
            row = self.inputs.pull()
        except StopIteration:
            self.exhausted = True
        except Exception as error:
            self.fail_input(error)
        if self.exhausted:
            self.feeder.no_more()
            return LEAVE
        worker.row = row
        worker.index = self.taken
        self.taken += 1
        pace.last = worker
        return GO

    @enable_ki_protection
    def _row_returned(self, worker: Worker, value: T) -> None:
        error = worker.left_open(self.name)
        if error is not None:
            self._settle(worker, caught(error))
            return
        if worker.task is not None:
            task, worker.task = worker.task, None
            task._succeed(value)  # its links may raise
        worker.row = END
        self.put(worker.index, value)

    @enable_ki_protection
    def _row_failed(self, worker: Worker, error: BaseException) -> BaseException | None:
        """Take the error of a row. Returns what of it the worker must let go on."""
        cancelled, rest = sift(error)
        if rest is not None:
            self._settle(worker, caught(rest))
        else:
            self._row_killed(worker)
        return worker.goes_on(error, cancelled, rest)

    def _row_killed(self, worker: Worker) -> None:
        task = worker.task
        self._settle(worker, self.kill_failure() if task is None else task._outcome())

    def _settle(self, worker: Worker, failure: Failure) -> None:
        worker.row = END
        if worker.task is not None:
            task, worker.task = worker.task, None
            if failure.killed:
                task._die()
            else:
                task._observed = True  # its error is the reader's
                task._fail(failure.error)
        if not (failure.killed and self.stopped):
            self.put_failure(worker.index, failure)

    def handle(self, worker: Worker) -> Task[Any] | None:
        """A task for the row that a worker runs now."""
        if worker.row is END:
            return None
        row: Any = worker.row if self.inputs.starred else (worker.row,)
        if not isinstance(row, tuple | list):  # of `starmap`, and nothing to look into
            row = ()
        task = self.task_class(self.func, *cast("tuple[Any, ...]", row))
        task._report = self.block._report
        task._slots = self.slots
        task._launch(worker)
        task._begun = True
        return task

    @enable_ki_protection
    def leave(self, worker: Worker) -> None:
        """A worker has nothing more to do with it."""
        worker.series = None
        del self.workers[worker]
        if worker.row is not END:  # it ended in the middle of it
            self.killed = True
        worker.row = None
        self._look_for_end()

    def _look_for_end(self) -> None:
        if self.over or self.workers or self.feeder.worker is not None:
            return
        self.over = True
        self.finish()
        for task in self.closers:
            reschedule(task)
        self.closers.clear()
        self.block._stir()


def touched(context: Context, original: Context) -> bool:
    """Whether a call changed its copy of ``original``, by the identity of what is in it."""
    if not context and not original:
        return False
    return (
        len(context) != len(original)
        or not all(map(is_, context, original))
        or not all(map(is_, context.values(), original.values()))
    )


@disable_ki_protection
async def _run_own_task(*_: Any) -> Any:
    """Run a row whose task class has a `run` of its own."""
    worker = own_worker()
    assert worker is not None
    task = worker.handle()
    assert task is not None
    return await task.run()
