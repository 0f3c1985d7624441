"""The worker: a Trio task of the pool's nursery that does one job after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    disable_ki_protection,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._inside import WORKERS
from triopool._jobs import BREATHE, GO, RENEW
from triopool._remains import NurseryLeftOpen, tasks_directly_in, wake_closer

if TYPE_CHECKING:
    from collections.abc import Container

    from trio.lowlevel import RaiseCancelT

    from triopool._block import Block
    from triopool._crew import TaskCrew
    from triopool._feeder import Feeder
    from triopool._jobs import Job
    from triopool._series import Series
    from triopool._slots import Loan, Slots
    from triopool.task import Task

_NONE_YET: Any = None


@attrs.define(eq=False)
class Worker:
    """A Trio task of the pool's nursery that does job after job: a call, or rows of a map.

    Its cancel scope lasts until a kill hits it; then the worker ends with the call that was killed,
    so that nothing of it can reach the next one.
    """

    crew: TaskCrew
    job: Job | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    trio_task: trio.lowlevel.Task = _NONE_YET
    in_scope: Container[object] = ()  # Trio tasks in which no scope is open within `scope`
    hit: bool = False  # its scope is cancelled
    engaged: bool = False  # the block waits for its job
    counted: bool = False  # `join` waits for its call
    # the call that it runs, unless that is a row which nobody has looked at
    task: Task[Any] | None = None
    seat: Any = None  # the slot that it holds
    loan: Loan | None = None  # where the slot came from, if it is another's
    lent: Loan | None = None  # what rows of its own maps may use of its slot
    inner: tuple[Task[Any], ...] = ()  # calls that its call runs in place
    series: Series[Any] | None = None  # what it runs a row of
    arg: Any = None  # what the job starts with: a row (END between two), the task, or itself
    feeder: Feeder | None = None  # what it pulls rows for
    index: int = 0

    @enable_ki_protection
    async def main(self) -> None:
        """Work until there is nothing left to do."""
        self.trio_task = current_trio_task()
        WORKERS[self.trio_task] = self
        error: BaseException | None = None
        try:
            with self.scope:
                self.in_scope = tasks_directly_in(self.trio_task, self.scope)
                try:
                    await self._work()
                    if not self.is_tidy() and self.trio_task.child_nurseries:
                        await self._strand()
                except BaseException as exc:
                    error = exc
                    raise
        except RuntimeError:
            if error is not None and not isinstance(error, trio.Cancelled):
                raise error from None
            # A call left a cancel scope open, so ours could not be closed in order. It is closed
            # all the same, but a cancellation from outside may have got lost with it.
            if not self.trio_task.child_nurseries:
                await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            self._leave()
            del error
        if self.trio_task.child_nurseries:
            raise NurseryLeftOpen

    @disable_ki_protection
    async def _work(self) -> None:
        """Do one job after the other. What is awaited here may be the user's."""
        while (job := self.job) is not None:
            step = job.begin(self)
            while step:
                if step == GO:
                    try:
                        value = await job.start(self.arg)
                    except BaseException as error:
                        step = job.failed(self, error)
                    else:
                        step = job.returned(self, value)
                        del value
                    continue
                if step == BREATHE:
                    await self.crew.pace.breathe()
                elif step == RENEW:
                    # The new context is in force from the next step of the Trio task on.
                    await cancel_shielded_checkpoint()
                job = self.job
                assert job is not None  # a queued call has become a call
                step = job.begin(self)
            del job  # it may hold on to much
            if not self._rest():
                break
            await wait_task_rescheduled(self._cancelled_while_idle)

    @enable_ki_protection
    def _rest(self) -> bool:
        """The job is over. Join those that are idle, if they are not too many."""
        if self.job is not None:
            self._done()
        crew = self.crew
        task = self.trio_task
        if self.hit or len(crew.idle) >= crew.most_idle or task not in self.in_scope:
            return False
        task.name = crew.idle_name
        task.context = crew.context  # that of the last call may hold on to much
        crew.idle[self] = None
        return True

    def _cancelled_while_idle(self, _: RaiseCancelT) -> Abort:
        # No exception is needed to go home.
        self.crew.idle.pop(self, None)
        self.job = None
        reschedule(self.trio_task)
        return Abort.FAILED

    async def _strand(self) -> None:
        # Trio lets no task end in peace that has a nursery open, so this one waits for the end of
        # the block. If an async generator is closed meanwhile that has the nursery in it, Trio
        # takes this task for the one that waits for the nursery's tasks.
        nurseries = self.trio_task.child_nurseries
        for nursery in nurseries:
            nursery.cancel_scope.cancel(reason="the call that opened this nursery has ended")
        with trio.CancelScope(shield=True) as scope:
            self.crew.stranded[self] = scope
            while not self.crew.dismissed:
                await wait_task_rescheduled(lambda _: Abort.SUCCEEDED)
                wake_closer(nurseries)

    def _done(self) -> None:
        """The job is over."""
        task = self.task
        if self.job is not None:
            self.job.leave(self)
        self.crew.block._end(self)
        try:
            if task is not None and not task.ready():
                task._die()
        finally:
            self.crew.block._told(self)

    def _leave(self) -> None:
        """The Trio task is about to end, maybe in the middle of anything."""
        del WORKERS[self.trio_task]
        self.crew.idle.pop(self, None)
        self.crew.stranded.pop(self, None)
        if self.job is not None:
            self._done()

    def is_tidy(self) -> bool:
        """Whether no call has left a cancel scope open in its Trio task."""
        return self.trio_task in self.in_scope

    @disable_ki_protection
    async def invoke(self, task: Task[Any]) -> Any:
        """Make a call in the middle of another. Threads, processes and clusters do it elsewhere."""
        try:
            return await task.run()
        finally:
            del task  # the error's traceback holds the frames that called

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        """Cancel what it does now. What it has not begun, it will not begin."""
        block = self.crew.block
        if self.task is not None and not self.task._begun and self.series is None:
            if self.seat is None:  # unless it has just been given one
                block._line.leave(self, self.task)
            else:
                block._vacate(self)
        self.hit = True
        self.scope.cancel(reason=reason)

    def withdraw(self) -> bool:
        """What has begun is known to the call itself."""
        return True

    def has_begun(self) -> bool:
        """Its task is told."""
        return False

    def holds_slot(self) -> bool:
        """Whether it has a slot."""
        return self.seat is not None

    def unseat(self) -> Worker | None:
        """Itself, if it has a slot."""
        return None if self.seat is None else self

    def is_of(self, block: Block) -> bool:
        """Whether it runs a call of this pool."""
        return self in block._members

    def seat_in(self, slots: Slots) -> object | None:
        """The slot of this very pool that it holds, if it does."""
        return self.seat if self.crew.block._slots is slots else None

    def seat_is_stuck(self, slots: Slots, stuck: set[Worker]) -> bool:
        """Whether its slot is of this pool, and all who use it are among those in ``stuck``."""
        if self.seat_in(slots) is None or self.loan is not None:
            return False
        user: Worker | None = self
        while user is not None:
            if user not in stuck:
                return False
            user = None if user.lent is None else user.lent.user
        return True

    def feeder_for(self, slots: Slots) -> Feeder | None:
        """The feeder of this pool that it runs, with its user's iterables, if it does."""
        feeder = self.feeder
        return feeder if feeder is not None and feeder.block._slots is slots else None

    def handle(self) -> Task[Any] | None:
        """The task for the call that it runs, made when somebody looks."""
        if self.task is None and self.series is not None:
            self.task = self.series.rows.handle(self)
        return self.task

    def innermost(self) -> Task[Any] | None:
        """The call that its Trio task is in the middle of."""
        return self.inner[-1] if self.inner else self.handle()

    def runs(self, task: object) -> bool:
        """Whether that call, or one around it, is ``task``."""
        return self.task is task or task in self.inner
