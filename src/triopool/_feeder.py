"""The feeder of a map or iterator: it waits for slots, pulls rows, and hands both to workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.lowlevel import (
    Abort,
    disable_ki_protection,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._failures import sift
from triopool._inputs import END
from triopool._inside import own_worker
from triopool._jobs import Job
from triopool._pace import BUDGET
from triopool._slots import Loan, deadlock

if TYPE_CHECKING:
    from trio.lowlevel import RaiseCancelT

    from triopool._block import Block
    from triopool._inputs import Inputs
    from triopool._series import Series
    from triopool._worker import Worker


@attrs.define(eq=False)
class Feeder(Job):
    """A job of the pool's crew, for as long as a series has more rows.

    It pulls a row when it has a slot for it, or, where input is awaited, before it waits for one. A
    member's own slot, lent for the rows of its maps, will do as well.
    """

    series: Series[Any]
    inputs: Inputs
    worker: Worker | None = None  # None before it begins and after it has ended
    asker: Worker | None = None  # the member that asked for the series
    loan: Loan | None = None  # its slot
    seat: object | None = None  # the slot for the next row: a loan, or what the limiter knows it by
    # what the limiter will know the slot by that it waits for; None while it waits for none
    awaited: object | None = None
    input_waits: int = 0  # how often the input itself waits for a slot of the same pool
    stalled: trio.lowlevel.Task | None = None  # its Trio task while there is no room
    nudged: bool = False  # it is to look at its rows instead of waiting for a slot
    scope: trio.CancelScope | None = None  # around such a wait

    @property
    def block(self) -> Block:
        """The pool."""
        return self.series.block

    def enlist(self) -> None:
        """Start: the first rows begin in a few passes of the loop."""
        block = self.block
        member = own_worker()
        if member is not None and member.seat is not None and member.crew.block is block:
            if member.lent is None:
                member.lent = Loan(member.seat)
            self.asker = member
            self.loan = member.lent
        worker = block._clerks.assign(self, f"feeder of {self.series.name}")
        worker.feeder = self
        self.worker = worker
        if not self.inputs.is_async:
            block._line.ask(self)
        self.series.count(worker)

    @disable_ki_protection
    async def start(self, worker: Worker) -> None:
        """Pull rows to the end, and close the input."""
        series = self.series
        cancelled = False
        fatal: BaseException | None = None
        for step in (self._pull_rows, self._close_input):
            try:
                await step()
            except BaseException as error:
                was_cancelled, rest = sift(error, (trio.Cancelled, GeneratorExit))
                cancelled |= was_cancelled
                if isinstance(rest, Exception):
                    series.fail_input(rest)
                elif rest is not None:
                    if fatal is not None:
                        rest.__context__ = fatal
                    fatal = rest
        try:
            if fatal is not None:
                raise fatal
        finally:
            del fatal
        if cancelled and not worker.hit:
            # From outside; or by a scope that an async generator had around its `yield`, which
            # closing it has closed, and of which nobody else must hear.
            await trio.lowlevel.checkpoint_if_cancelled()
            if series.input_failure is None:
                series.fail_input(
                    RuntimeError("the input was cancelled by a scope of its own around a yield")
                )

    async def _close_input(self) -> None:
        self._want_nothing()
        await self.inputs.aclose()

    async def _pull_rows(self) -> None:
        series = self.series
        rows = series.rows
        inputs = self.inputs
        pace = self.block._clerks.pace
        shy = inputs.direct and not rows.prefetches  # it begins with few workers
        burst = 2 if shy else BUDGET  # how many rows it may launch in one pass of the loop
        launched = 0
        taken = series.taken
        while True:
            self.nudged = False
            rows.prefetch()
            row: Any = END
            if rows.unserved <= 0 or not rows.grows:
                if series.exhausted and not rows.queued:
                    break
                if series.exhausted or not series.room() or not rows.grows:
                    await self._stall()
                    continue
                if inputs.is_async:
                    # No slot is held while input is awaited.
                    try:
                        row = await inputs.pull_async()
                    except Exception as error:
                        series.fail_input(error)
                    if row is END or series.exhausted:
                        series.exhausted = True
                        continue
                else:
                    await self._get_in_line()
                    if self._will_wait() and self._may_look():
                        row = rows.pull()
                        if row is END and rows.unserved <= 0:
                            continue
            await self._take_seat()
            if row is END and self._may_launch() and not inputs.is_async and rows.unserved <= 0:
                row = rows.pull() if series.room() else END
            if not self._may_launch() or (row is END and rows.unserved <= 0):
                self._free_seat()
                continue
            self._launch(row)
            del row
            launched += 1
            if launched >= burst:
                # If workers are back at once and have taken another row, few can do it all, and
                # more would only be more to wake. If they are not, all of them are needed soon.
                await pace.breathe()
                chained = series.taken - taken - launched
                quick = shy and 4 * chained > len(rows.workers)
                burst = 1 if quick else min(2 * burst, BUDGET)
                launched = 0
                taken = series.taken
        series.exhausted = True
        rows.prefetch()

    @enable_ki_protection
    async def _stall(self) -> None:
        """Wait for room. Meanwhile this is not something that `join` waits for."""
        assert self.worker is not None
        self.stalled = current_trio_task()
        self.worker.counted = False
        self.block._less_busy()
        self.block._slots.look_for_deadlock()

        def abort(_: RaiseCancelT) -> Abort:
            self.stalled = None
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def wake(self) -> None:
        """There may be room for more rows now."""
        if self.stalled is not None:
            assert self.worker is not None
            self.worker.counted = True
            self.block._busy += 1
            reschedule(self.stalled)
            self.stalled = None

    def nudge(self) -> None:
        """Threads want rows: pull some, before waiting for more slots."""
        self.nudged = True
        if self.scope is not None:
            self.scope.cancel()
        self.wake()

    @enable_ki_protection
    async def _take_seat(self) -> None:
        """Take a slot for the next row, or the member's own."""
        await self._get_in_line()
        seat = object()
        while self.seat is None and not self.nudged and self._has_rows():
            loan = self.loan
            if loan is not None and loan.free:
                loan.user = self.worker
                self.seat = loan
                return
            if self.block._slots.take_nowait(seat):
                self.seat = seat
            else:
                await self._wait_for_seat(seat, loan)

    @enable_ki_protection
    async def _get_in_line(self) -> None:
        """Let those come first who have asked before. If none did, this is no checkpoint."""
        if self.block._line.asked:
            await self.block._line.up(self)

    def _will_wait(self) -> bool:
        """Whether there is no slot for the next row yet."""
        if self.loan is not None and self.loan.free:
            return False
        return self.block._slots.limiter.available_tokens < 1

    def _may_look(self) -> bool:
        """Whether to look for the end of the input even without a slot.

        Where anyone may pull, rows are numbered in the order of pulling, so that none can be pulled
        ahead; but there one sees the end without pulling. Elsewhere one row is pulled ahead.
        """
        return not self.series.exhausted and (not self.inputs.direct or self.inputs.is_at_end())

    def worker_left(self) -> None:
        """A worker goes that could have found the end of the input, while this waits for a slot."""
        if self.awaited is None or self.series.exhausted:
            return
        inputs = self.inputs
        rows = self.series.rows
        if inputs.direct:
            if inputs.is_at_end():
                rows.pull()
                if not self._has_rows():  # else there was no room to pull
                    self.no_more()
        elif rows.prefetches and not (inputs.is_async or rows.queued or rows.workers):
            self.nudge()  # threads have taken the row that was pulled ahead

    def _has_rows(self) -> bool:
        return not self.series.exhausted or self.series.rows.unserved > 0

    def _may_launch(self) -> bool:
        return self.seat is not None and self._has_rows()

    async def _wait_for_seat(self, seat: object, loan: Loan | None) -> None:
        self.awaited = seat
        try:
            if self.block._slots.deadlocked():
                self.series.fail_input(deadlock())
                self.series.rows.withdraw()
            elif (loan is None or loan.seat is None) and not self.series.rows.prefetches:
                await self.block._slots.take(seat)
                self.seat = seat
            else:
                # Whichever comes first: a slot, the member's own, or a nudge.
                with trio.CancelScope() as scope:
                    self.scope = scope
                    if loan is not None:
                        loan.waiting[scope] = None
                    try:
                        await self.block._slots.take(seat)
                        self.seat = seat
                    finally:
                        self.scope = None
                        if loan is not None:
                            loan.waiting.pop(scope, None)
        finally:
            self.awaited = None

    def is_in_line(self) -> bool:
        """Whether it waits for a slot and has not just been given one. Takes its time."""
        awaited = self.awaited
        return awaited is not None and (
            awaited not in self.block._slots.limiter.statistics().borrowers
        )

    @enable_ki_protection
    def _want_nothing(self) -> None:
        """Be neither in the line nor on a slot."""
        self.block._line.drop(self)
        self._free_seat()

    @enable_ki_protection
    def _free_seat(self) -> None:
        seat, self.seat = self.seat, None
        if isinstance(seat, Loan):
            seat.give_back()
        elif seat is not None:
            self.block._slots.release(seat)

    @enable_ki_protection
    def _launch(self, row: Any) -> None:
        seat, self.seat = self.seat, None
        worker = self.series.launch(row)
        if isinstance(seat, Loan):
            worker.loan = seat
            worker.seat = seat.seat
            seat.user = worker
        else:
            worker.seat = seat

    def waiting_asker(self) -> Worker | None:
        """The member that asked for the series, while it is in that very call."""
        return None if self.loan is None or self.loan.seat is None else self.asker

    def no_more(self) -> None:
        """A worker has found the end of the input, while this waits for a slot, or for room."""
        if self.stalled is not None:
            self.wake()
        elif self.awaited is not None and self.worker is not None:
            self.worker.stop("there are no more rows")

    def inherit(self, seat: object, loan: Loan | None) -> None:
        """Keep the slot that was to be used on loan, since the member has ended."""
        self.seat = seat if loan is None else loan
        self.loan = loan
        self.asker = None

    def go_on_with(self, loan: Loan | None) -> None:
        """The member has ended while a row was on its slot: what that came from may be used."""
        self.loan = loan
        self.asker = None
        if self.scope is not None:
            self.scope.cancel()

    @enable_ki_protection
    def leave(self, worker: Worker, /) -> None:
        """It has ended."""
        self.worker = worker.feeder = None
        self._want_nothing()
        series = self.series
        del self.series  # which has this
        series.feeder_left()
        series.slots.look_for_deadlock()
