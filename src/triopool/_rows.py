"""How the rows of a map run in the Trio tasks of the crew, and what a worker does between two."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from triopool._failures import Failure, caught, sift
from triopool._functions import row_function
from triopool._inputs import END
from triopool._inside import own_worker
from triopool._jobs import BREATHE, GO, LEAVE, RENEW, Job, let_go_on
from triopool._pace import BUDGET
from triopool._remains import content_of, nursery_left_open, touched
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triopool._crew import TaskCrew
    from triopool._series import Series
    from triopool._slots import Slots
    from triopool._worker import Worker


@attrs.define(eq=False)
class Rows(abc.ABC):
    """The rows of one series that were pulled and are not over, and the workers that run them."""

    prefetches: ClassVar[bool] = False  # rows may be pulled ahead of the slots

    series: Series[Any] = attrs.field(repr=False)  # until it is over
    workers: dict[Worker, None] = attrs.field(factory=dict["Worker", None], init=False)

    @property
    def queued(self) -> int:
        """How many rows were pulled that no worker has yet."""
        return 0

    @property
    def unserved(self) -> int:
        """How many of these no worker is on its way for; perhaps less than none."""
        return 0

    @property
    def grows(self) -> bool:
        """Whether there may be one worker more."""
        return True

    def pull(self) -> Any:
        """The next row, for the feeder."""
        return self.series.pull()

    # Where rows are pulled ahead of the slots, there is more to do.

    def prefetch(self) -> None:  # noqa: B027
        """Pull rows ahead of the slots, if this is of any use. The feeder asks for it."""

    def withdraw(self) -> None:  # noqa: B027
        """Begin no rows any more that were pulled ahead of the slots."""

    def look_around(self) -> None:  # noqa: B027
        """Somebody has begun to wait for a slot, or the limit has changed."""

    @abc.abstractmethod
    def running(self) -> int:
        """How many rows were pulled and are not over."""

    @abc.abstractmethod
    def tasks(self) -> list[Task[Any]]:
        """A task for each of these."""

    @abc.abstractmethod
    def launch(self, row: Any) -> Worker:
        """Hand the next row to a worker, which still needs its slot."""

    @abc.abstractmethod
    def stop(self, reason: str) -> None:
        """Cancel all of them."""

    @abc.abstractmethod
    def leave(self, worker: Worker, /) -> None:
        """A worker has nothing more to do with it."""

    @abc.abstractmethod
    def handle(self, worker: Worker) -> Task[Any] | None:
        """A task for the row that a worker runs now."""

    def close(self) -> None:
        """The series is over, and has this."""
        del self.series


@attrs.define(eq=False)
class TaskRows(Rows, Job):
    """Rows of async functions.

    The feeder hands the first ones to workers. Where anyone may pull, a worker then goes on by
    itself, row after row, as long as nobody else waits for its slot. Where one task has to pull,
    the slot goes back after each row.
    """

    crew: TaskCrew
    start: Callable[[Any], Awaitable[Any]] = attrs.field(init=False)  # of a row
    goes_on: bool = attrs.field(init=False)  # a worker may take row after row
    slots: Slots = attrs.field(init=False)
    content: object = attrs.field(init=False)  # of the context that the rows begin in

    def __attrs_post_init__(self) -> None:
        self.slots = self.series.slots
        self.content = content_of(self.series.context)
        self.start = row_function(self.series.func, self.series.inputs.starred)
        if self.series.task_class._has_own_run():
            self.start = _run_own_task
        self.goes_on = self.series.inputs.direct and self.crew.reuse

    # For the series

    def running(self) -> int:
        return len(self.workers)

    def tasks(self) -> list[Task[Any]]:
        if not self.workers:
            return []
        counted = self.series.block._members  # not those that were discarded
        return [task for w in self.workers if w in counted and (task := w.handle()) is not None]

    def launch(self, row: Any) -> Worker:
        series = self.series
        worker = self.crew.assign(self, series.name, series.context.copy())
        worker.arg = row
        worker.index = series.taken
        series.taken += 1
        self.workers[worker] = None
        return worker

    def stop(self, reason: str) -> None:
        for worker in self.workers:
            worker.stop(reason)

    def leave(self, worker: Worker, /) -> None:
        worker.series = None
        del self.workers[worker]
        if worker.arg is not END:  # it ended in the middle of it
            self.series.killed = True
        self.series.feeder.worker_left()
        self.series.look_for_end()

    def handle(self, worker: Worker) -> Task[Any] | None:
        if worker.arg is END:
            return None
        task = self.series.make_task(worker.arg)
        task._launch(worker)
        task._begun = True
        return task

    # The workers

    @enable_ki_protection
    def begin(self, worker: Worker, /) -> int:
        if worker.arg is END:  # it is back from a pause
            return self._step(worker)
        self.crew.pace.last = worker
        if worker.hit:  # killed before its first line
            self._row_killed(worker)
            return LEAVE
        return GO

    @enable_ki_protection
    def _step(self, worker: Worker) -> int:
        """Between two rows: decide how to go on, and take the next row if there is to be one."""
        series = self.series
        index = series.taken
        if (
            series.exhausted
            or index >= series.limit
            or worker.hit
            or worker.seat is None
            or worker.lent is not None  # the seat may be another row's already
            or not self.goes_on
            or (worker.loan is None and self.slots.wanted(series.feeder.awaited is not None))
        ):
            return LEAVE
        pace = self.crew.pace
        breathless = pace.last is worker and not pace.spend()
        if breathless or not index % BUDGET:  # now and then, for it takes its time
            if self.slots.look_around(series.feeder.awaited is not None):
                return LEAVE
            if breathless:
                # One worker is as quick as many with calls that never checkpoint. If these begin
                # to, the feeder starts more.
                return LEAVE if len(self.workers) > 1 else BREATHE
        task = worker.trio_task
        if touched(task.context, series.context, self.content):
            task.context = series.context.copy()
            return RENEW
        try:
            worker.arg = series.inputs.pull()
        except Exception as end:
            series.end_input(end)
            series.feeder.no_more()
            return LEAVE
        worker.index = index
        series.taken = index + 1
        pace.last = worker
        return GO

    @enable_ki_protection
    def returned(self, worker: Worker, value: Any, /) -> int:
        if worker.task is None and worker.trio_task in worker.in_scope:
            worker.arg = END
            self.series.put(worker.index, value)
            return self._step(worker)
        return self._returned_with_more(worker, value)

    def _returned_with_more(self, worker: Worker, value: Any) -> int:
        """The same, where somebody has looked at the row, or it has left something open."""
        if not worker.is_tidy() and worker.trio_task.child_nurseries:
            self._settle(worker, caught(nursery_left_open(self.series.name)))
            return LEAVE
        if worker.task is not None:
            task, worker.task = worker.task, None
            task._succeed(value)  # its links may raise, or leave a scope open
        worker.arg = END
        self.series.put(worker.index, value)
        return self._step(worker) if worker.is_tidy() else LEAVE

    @enable_ki_protection
    def failed(self, worker: Worker, error: BaseException, /) -> int:
        cancelled, rest = sift(error)
        try:
            if rest is not None:
                self._settle(worker, caught(rest))
            else:
                self._row_killed(worker)
            let_go_on(worker, error, cancelled, rest)
        finally:
            del error, rest
        return self._step(worker) if worker.is_tidy() else LEAVE

    def _row_killed(self, worker: Worker) -> None:
        task = worker.task
        self._settle(worker, self.series.kill_failure() if task is None else task._outcome())

    def _settle(self, worker: Worker, failure: Failure) -> None:
        worker.arg = END
        task, worker.task = worker.task, None
        self.series.settle(worker.index, task, failure)


@disable_ki_protection
async def _run_own_task(*_: Any) -> Any:
    """Run a row whose task class has a `run` of its own."""
    worker = own_worker()
    assert worker is not None
    task = worker.handle()
    assert task is not None
    return await task.run()
