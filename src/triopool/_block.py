"""The block of a pool: its nursery, what it waits for, and what it raises when it is left."""

from __future__ import annotations

import enum
from threading import get_ident
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._call import OVER
from triopool._crew import TaskCrew
from triopool._failures import shown, sift
from triopool._forks import BLOCKS, FORKED
from triopool._functions import known_as
from triopool._inside import enclosing_workers
from triopool._leaving import compose
from triopool._ledger import Ledger
from triopool._line import Line
from triopool._refusals import check_in_trio, elsewhere, in_child, unusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context
    from types import TracebackType
    from typing import Self

    from trio.lowlevel import RaiseCancelT

    from triopool._crew import Crew
    from triopool._series import Series
    from triopool._slots import Slots
    from triopool._worker import Worker
    from triopool.task import Task


class State(enum.Enum):
    """A pool is entered once, may be closed to new calls, and is closed at the end."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"  # closed to new calls
    CLOSED = "closed"


NEW, OPEN, CLOSING, CLOSED = State.NEW, State.OPEN, State.CLOSING, State.CLOSED


@known_as("Pool")
class Block:
    """What every kind of pool is: a nursery with a crew in it.

    Two counts say when to stop waiting. `_busy` is what ``join`` waits for: calls that have a slot,
    whoever waits for one, and the feeders of maps and iterators that can advance. `_engaged` is
    what the end of the block waits for: all of these and more, but nothing that belongs to an
    iterator, for that may wait for its reader.
    """

    _slots: Slots
    _ledger: Ledger
    _report: Callable[[Task[Any]], None]
    _reuse: bool
    _label: str
    _state: State
    _manager: AbstractAsyncContextManager[trio.Nursery]
    _nursery: trio.Nursery
    _token: trio.lowlevel.TrioToken
    _thread: int  # the ident of the one in which this run of Trio is
    _crew: Crew  # runs the calls
    _clerks: TaskCrew  # pulls rows, waits for slots and calls back, in Trio tasks
    _members: dict[Worker, None]  # the workers that run a call now, in the order of their start
    _added: dict[Task[Any], object]  # {a task that another pool runs: the slot that it has here}
    _line: Line  # calls and feeders that wait for a slot in workers
    _background: dict[Task[Any], None]  # calls that need no slot
    _series: dict[Series[Any], None]  # maps and iterators that are open
    _fatal: list[BaseException]  # what links and the like have raised that takes the pool down
    _busy: int
    _engaged: int
    _joiners: dict[trio.lowlevel.Task, None]
    _leaver: trio.lowlevel.Task | None  # the task that leaves the block, or sits in `run`

    def _set_up(self, slots: Slots, reuse: bool) -> None:
        self._slots = slots
        self._reuse = reuse
        self._label = f"{type(self).__name__} at {id(self):#x}"
        self._ledger = Ledger(self._label)
        self._state = NEW
        self._members = {}
        self._added = {}
        self._line = Line()
        self._background = {}
        self._series = {}
        self._fatal = []
        self._busy = self._engaged = 0
        self._joiners = {}
        self._leaver = None

    # Entering and leaving

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        if self._state is not NEW:
            raise RuntimeError(f"a {type(self).__name__} can be entered only once; make a new one")
        check_in_trio(f"`async with {type(self).__name__}(...)`")
        self._manager = trio.open_nursery(strict_exception_groups=True)
        self._nursery = await self._manager.__aenter__()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = get_ident()
        self._clerks = TaskCrew(self, self._nursery, self._reuse)
        self._crew = self._hire_crew()
        self._state = OPEN
        BLOCKS[self] = None
        return self

    def _hire_crew(self) -> Crew:
        """The crew that runs the calls; they are async functions, so anyone can."""
        return self._clerks

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:  # type checkers take `bool` alone for "it may swallow"
        error = await self._leave(exc)
        if error is None or error is exc:
            return error is None
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context
            del error, exc

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the pool open in a task of its own: ``pool = await nursery.start(Pool(10).run)``.

        It ends with the last call after `close`, or when it is cancelled, and raises what leaving
        the block would raise.
        """
        async with self:
            task_status.started(self)
            while self._state is OPEN:
                await self._sit()

    @enable_ki_protection
    def close(self) -> None:
        """Let no new call in; those that run or wait go on.

        Later calls of ``spawn`` and its relatives raise `trio.ClosedResourceError`. Closing a pool
        that is closed does nothing.

        Raises:
          RuntimeError: the pool was not entered yet.
        """
        self._check(CLOSING, CLOSED)
        if self._state is OPEN:
            self._state = CLOSING
            self._stir()

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope of the pool's nursery. Cancelling it kills every call and ends the block."""
        if self._state is NEW:
            raise self._unusable()
        return self._nursery.cancel_scope

    async def _leave(self, exc: BaseException | None) -> BaseException | None:
        """Wait for the calls, or kill them, and return what is to be raised."""
        error = await self._wait_for_calls() if exc is None else exc
        aside = None  # what leaves the block beside what the nursery has
        self._state = CLOSING
        if error is not None:
            for series in list(self._series):
                series.kill(None, None)
            if not sift(error)[0]:
                aside, error = error, None
                self._nursery.cancel_scope.cancel(reason=f"{shown(aside)} left the block")
        self._crew.dismiss()
        self._clerks.dismiss()
        raised: tuple[BaseException, ...] = ()
        try:
            await self._manager.__aexit__(type(error) if error else None, error, None)
        except BaseExceptionGroup as group:
            raised = group.exceptions
        finally:
            self._sweep()
            del error
        try:
            return compose(self._ledger, self._label, exc, aside, (*self._fatal, *raised))
        finally:
            self._fatal.clear()
            del exc, aside, raised

    async def _wait_for_calls(self) -> BaseException | None:
        try:
            while self._engaged or self._series:
                if not self._engaged:
                    self._close_series()
                if self._engaged or self._series:
                    await self._sit()
        except BaseException as error:
            return error
        return None

    def _close_series(self) -> None:
        """Close the iterators that are open."""
        every_series = list(self._series)
        # Calls and inputs of one may read another: they are to be cancelled, not to fail.
        for series in every_series:
            series.stop("the block of the pool was left")
        for series in every_series:
            series.close("the block of the pool was left")

    def _take_down(self, error: BaseException) -> None:
        """End the block with an error that nobody collects, and that no worker is to raise."""
        if self._ledger.closed:  # it is over
            raise error
        self._fatal.append(error)
        self._nursery.cancel_scope.cancel(reason=f"a callback raised {shown(error)}")

    def _sweep(self) -> None:
        """Nothing runs any more: close everything, and let everyone go who waits for something."""
        self._state = CLOSED
        BLOCKS.pop(self, None)
        for task in list(self._added):
            self._let_go(task)
        self._close_series()
        self._slots.close()
        self._wake_joiners()

    async def _sit(self) -> None:
        self._leaver = current_trio_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._leaver = None
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def _stir(self) -> None:
        """Have the task that leaves the block look again."""
        if self._leaver is not None:
            reschedule(self._leaver)
            self._leaver = None

    # Whether it can be used

    def _check(self, *also: State) -> None:
        """Raise unless the pool is open, or in one of the other states that are named."""
        if self._state is not OPEN and self._state not in also:
            raise self._unusable()
        if get_ident() != self._thread:
            self._check_thread()

    def _check_thread(self, what: str | None = None, how: str | None = None) -> None:
        """Raise if the pool is open, but in another thread."""
        if self._state not in (OPEN, CLOSING):  # nothing can happen to it
            return
        if self._thread == FORKED:
            raise in_child(type(self).__name__)
        if get_ident() != self._thread:
            raise elsewhere(
                what or f"this {type(self).__name__} was used",
                how or "run_sync(pool.spawn_nowait, ...), or run(pool.spawn, ...),",
            )

    def _unusable(self) -> Exception:
        return unusable(type(self).__name__, self._state.value)

    def _is_inside(self) -> bool:
        """Whether the current Trio task runs a call of this pool, or is in a nursery below one."""
        return any(worker.crew.block is self for worker in enclosing_workers())

    # What runs, and counting it

    def _begin(
        self, task: Task[Any], seat: object | None = None, context: Context | None = None
    ) -> None:
        """Hand a call that has a slot to a worker; if nothing else is, the task is its seat."""
        if seat is None:
            seat = task
        if self._crew.dismissed or task._status in OVER:
            self._slots.release(seat)
            if task._status not in OVER:  # else somebody has killed it meanwhile
                task._die()
                raise self._unusable()
            return
        try:
            worker = self._crew.begin(task, seat, context)
        except BaseException:  # there is no memory left, or no stack
            self._slots.release(seat)
            task._die()
            raise
        self._members[worker] = None
        self._engage(worker)
        task._launch(worker)

    def _engage(self, worker: Worker) -> None:
        """The block waits for what the worker is about to do, and so does `join`."""
        worker.engaged = worker.counted = True
        self._engaged += 1
        self._busy += 1

    def _disengage(self) -> None:
        self._engaged -= 1
        if not self._engaged:
            self._stir()

    def _less_busy(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._wake_joiners()

    def _vacate(self, worker: Worker) -> None:
        """The worker's call, or its wait for a slot, is over: give back what it holds."""
        seat = worker.seat
        if seat is not None:
            self._members.pop(worker, None)
            if worker.lent is None and worker.loan is None:
                worker.seat = None
                self._slots.release(seat)
            else:
                self._pass_on(seat, worker)
        elif worker.task is not None:
            self._line.leave(worker, worker.task)
            self._background.pop(worker.task, None)
        if worker.counted:
            worker.counted = False
            self._less_busy()

    # The end of a job has two parts. What it held is given back before anybody is told, who may ask
    # for it; and the block does not hear of it before, for it could be left then.

    def _end(self, worker: Worker) -> None:
        """The worker's job is over. What comes of that is still to be told."""
        self._vacate(worker)
        worker.job = worker.task = worker.arg = None

    def _told(self, worker: Worker) -> None:
        """That is done, so the block need not wait for it any more."""
        if worker.engaged:
            worker.engaged = False
            self._disengage()

    @enable_ki_protection
    def _let_go(self, task: Task[Any]) -> None:
        """A task that another pool runs is over, or is no member here any more."""
        seat = self._added.pop(task, None)
        if seat is not None:
            self._slots.release(seat)
            self._less_busy()
            self._disengage()

    def _pass_on(self, seat: object, worker: Worker) -> None:
        """A worker gives its slot to a row that uses it already, its lender, or the limiter."""
        heir = None if worker.lent is None else worker.lent.close()
        loan = worker.loan
        worker.seat = worker.lent = worker.loan = None
        if heir is not None:
            if loan is not None:
                loan.user = heir
            if heir.feeder is not None:
                heir.feeder.inherit(seat, loan)
            else:
                heir.loan = loan
                if heir.series is not None:  # else its call was left behind
                    heir.series.feeder.go_on_with(loan)
        elif loan is not None:
            loan.give_back()
            self._slots.look_for_deadlock()
        else:
            self._slots.release(seat)

    def _wake_joiners(self) -> None:
        if self._joiners:
            joiners, self._joiners = self._joiners, {}
            for task in joiners:
                reschedule(task)
