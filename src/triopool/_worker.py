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

from triopool._call import OVER
from triopool._failures import bare_cancelled, sift
from triopool._inside import WORKERS
from triopool._remains import tasks_directly_in, wake_closer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container
    from typing import TypeAlias

    from trio.lowlevel import RaiseCancelT

    from triopool._block import Block
    from triopool._crew import TaskCrew
    from triopool._feeder import Feeder
    from triopool._series import Series
    from triopool._slots import Loan, Slots
    from triopool.task import Task

    Job: TypeAlias = Callable[["Worker"], Awaitable[None]]

# As many parked workers are kept for the next calls; at some 4 KB each they must not pile up for
# ever.
MAX_IDLE = 256


_NONE_YET: Any = None


class NurseryLeftOpen(Exception):
    """Ends a worker whose call left a nursery open. Trio will complain; the call failed already."""


def nursery_left_open(name: str) -> RuntimeError:
    """The error for a call that did so."""
    return RuntimeError(
        f"{name} ended with a nursery still open, perhaps in an async generator that was "
        "not closed; its tasks were cancelled"
    )


@attrs.define(eq=False)
class Worker:
    """A Trio task of the pool's nursery that does job after job: a call, or rows of a map.

    Its cancel scope lasts until a kill hits it; then the worker ends with the call that was killed,
    so that nothing of it can reach the next one.
    """

    crew: TaskCrew
    job: Job | None
    name: str
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    trio_task: trio.lowlevel.Task = _NONE_YET
    unscoped: Container[object] = ()  # Trio tasks that no call has left a scope open in
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
    row: Any = None
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
                self.unscoped = tasks_directly_in(self.trio_task, self.scope)
                try:
                    if self.job is None:
                        await self._work()
                    while self.job is not None:
                        await self.job(self)
                        self._done()
                        if self.trio_task not in self.unscoped:
                            if self.trio_task.child_nurseries:
                                await self._strand()
                            break
                        if not self._rest():
                            break
                        await wait_task_rescheduled(self._cancelled_while_idle)
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

    if TYPE_CHECKING:

        async def _work(self) -> None:
            """What a worker does that gets no jobs, for it hosts a thread."""

    def _rest(self) -> bool:
        """Join those that are idle, if they are not too many."""
        crew = self.crew
        if self.hit or crew.dismissed or not crew.reuse or len(crew.idle) >= MAX_IDLE:
            return False
        task = self.trio_task
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
        self.job = None
        if self.series is not None:
            self.series.leave(self)
        if self.feeder is not None:
            feeder, self.feeder = self.feeder, None
            feeder.leave()
        if self.counted or self.task is not None or self.seat is not None:
            self.crew.block._vacate(self)
        if self.engaged:
            self.engaged = False
            self.crew.block._disengage()

    def _leave(self) -> None:
        """The Trio task is about to end, maybe in the middle of anything."""
        del WORKERS[self.trio_task]
        self.crew.idle.pop(self, None)
        self.crew.stranded.pop(self, None)
        task = self.task
        self._done()
        if task is not None and not task.ready():
            task._die()
        self.task = None

    def is_tidy(self) -> bool:
        """Whether no call has left a cancel scope open in its Trio task."""
        return self.trio_task in self.unscoped

    # Calls

    @disable_ki_protection
    async def call(self) -> None:
        """Run the call that `task` stands for."""
        task = self.task
        assert task is not None
        if task._begun or task._status in OVER:  # killed before its first line
            self.over()
            return
        task._begun = True
        try:
            value = await task.run()
        except BaseException as error:
            further = self.failed(task, error)
            try:
                if further is error:
                    raise
                if further is not None:
                    raise further from None
            finally:
                del further
        else:
            self.returned(task, value)
        finally:
            del task  # the error's traceback holds the frames that called

    @enable_ki_protection
    async def wait_and_call(self) -> None:
        """Wait for a slot, then run the call that has waited longest."""
        block = self.crew.block
        slots = block._slots
        await block._line.up(self)
        seat = object()
        await slots.take(seat)
        if self.hit or self.crew.dismissed:
            slots.release(seat)
            return
        context = block._line.next(self)
        if block._crew is not self.crew:  # which runs calls elsewhere
            call, self.task = self.task, None
            assert call is not None
            # This task may still be in that context when the call is to be.
            block._begin(call, seat, context.copy())
            return
        self.seat = seat
        block._members[self] = None
        task = self.trio_task
        if task.context is not context:
            task.context = context
            await cancel_shielded_checkpoint()
        await self.call()

    @disable_ki_protection
    async def invoke(self, task: Task[Any]) -> Any:
        """Make a call in the middle of another. Threads, processes and clusters do it elsewhere."""
        try:
            return await task.run()
        finally:
            del task  # the error's traceback holds the frames that called

    @enable_ki_protection
    def returned(self, task: Task[Any], value: Any) -> None:
        """The call returned."""
        self.crew.block._vacate(self)
        self.task = None
        if self.trio_task not in self.unscoped and self.trio_task.child_nurseries:
            task._fail(nursery_left_open(task.name))
        else:
            task._succeed(value)

    @enable_ki_protection
    def failed(self, task: Task[Any], error: BaseException) -> BaseException | None:
        """The call raised. Returns what of it the worker must let go on."""
        self.over()
        cancelled, rest = sift(error)
        if rest is None:
            task._die()
        elif task._series is not None and task._series.raises_kill:
            task._die_with(rest)
        else:
            task._fail(rest)
        return self.goes_on(error, cancelled, rest)

    def goes_on(
        self, error: BaseException, cancelled: bool, rest: BaseException | None
    ) -> BaseException | None:
        """What leaves the worker after a call has raised ``error``, which was sifted."""
        if rest is not None and not isinstance(rest, Exception):
            return rest
        if not cancelled or self.hit:
            return None
        # Cancelled from outside; or by something stale, of which nobody else must hear.
        self.hit = True
        self.scope.cancel()
        return bare_cancelled(error)

    @enable_ki_protection
    def over(self) -> None:
        """The call is over: it has no slot from now on."""
        self.crew.block._vacate(self)
        self.task = None

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
