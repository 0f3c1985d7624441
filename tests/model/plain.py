"""A plain model of a pool: its slots, who waits for them, what runs, and the errors nobody saw.

It knows nothing of Trio. A test tells it what is done to a real pool and, when that is still, which
calls have begun. The model says whether they may have, and what must be true now. It leaves open
what the contract leaves open: which of two maps gets a slot that came free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.parts import FAILED, IDLE, KILLED, RUNNING, SUCCEEDED, WAITING, Call, Series, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable


@attrs.define(eq=False)
class Model:
    """A pool of which everything is known."""

    size: float
    on_error: str = "collect"
    leaps: bool = False  # the rows of a map may begin in any order
    line: list[Wait] = attrs.field(factory=list)
    calls: list[Call] = attrs.field(factory=list)
    jobs: list[Call] = attrs.field(factory=list)  # those that stand for a map, and have no slot
    foreign: list[Call] = attrs.field(factory=list)  # those of another pool
    guests: list[Call] = attrs.field(factory=list)  # those of them that were added
    series: list[Series] = attrs.field(factory=list)
    unseen: set[int] = attrs.field(factory=set)  # errors that the block is going to raise
    told: list[int] = attrs.field(factory=list)  # errors that went to `on_error`, or into the log
    cut: bool = False  # an error is to take the pool down
    leaving: bool = False  # the block was left normally
    step: int = 0

    # Looking

    def running(self) -> list[Call]:
        return [call for call in self.calls if call.state == RUNNING]

    def members(self) -> list[Call]:
        return [*(call for call in self.calls if call.seated), *self.guests]

    def free(self) -> float:
        return self.size - len(self.members())

    def idle(self, surely: bool = True) -> bool:
        """Whether `join` is over, or may be."""
        waits = any(wait.call for wait in self.line)
        members = any(not call.over for call in self.members())
        advances = any(s.wants_slot and (surely or not s.rests) for s in self.series)
        return not (members or waits or advances)

    def engaged(self) -> bool:
        """Whether the end of the block has to wait, be it without iterators."""
        calls = [call for call in self.running() if not call.series or call.series.is_map]
        waits = any(wait.call for wait in self.line)
        maps = any(s.is_map and (not s.over or self.may_linger(s)) for s in self.series)
        return bool(calls or waits or maps or self.guests)

    def may_linger(self, series: Series) -> bool:
        """Whether a series that is over may not have noticed it."""
        unnoticed = series.over and not (series.stopped or series.broken or series.noticed())
        return unnoticed and (len(series.begun) >= series.limit or series.rests)

    # What is done to it

    def new(self, shape: tuple[str, bool, bool], **more: Any) -> Call:
        call = Call(len(self.calls), *shape, **more)
        self.calls.append(call)
        return call

    def ask(self, call: Call | None, **how: bool) -> Wait:
        """Come to the end of the line."""
        wait = Wait(call, **how)
        if call is not None and not wait.guest:
            call.state = WAITING
        self.line.append(wait)
        return wait

    def withdraw(self, wait: Wait) -> None:
        self.line.remove(wait)
        if wait.call is not None and not wait.guest:
            wait.call.state = IDLE

    def discard(self, call: Call) -> None:
        """Let a call go on without a slot."""
        if call.seated and not call.over:
            call.seated = False
            call.discarded = True
        if call in self.guests:
            self.guests.remove(call)

    def kill(self, call: Call, verdict: str = "TaskKilled") -> None:
        """What runs hears of it; what waits is over at once."""
        if call.over:
            return
        if not call.doomed:
            call.doomed = True
            call.verdict = verdict
        if call.whole:
            call.whole.stop()
        if call.state != RUNNING:
            call.state = KILLED
            self.line = [wait for wait in self.line if wait.call is not call or wait.guest]

    def kill_all(self, verdict: str = "TaskKilled") -> None:
        """Kill what runs, and what waits without anybody waiting in it."""
        queued = [wait.call for wait in self.line if wait.call and not wait.parked]
        for call in [*queued, *self.jobs, *(c for c in self.members() if not c.series)]:
            self.kill(call, verdict)
        for series in self.series:
            self.kill_series(series, verdict)

    def kill_series(self, series: Series, verdict: str = "TaskKilled") -> None:
        lingers = self.may_linger(series)
        unsure = lingers and not series.is_map
        if not series.over or series.leftovers():
            series.touched = True
        elif unsure:
            series.touched = series.touched or None
        if not series.stopped and (lingers or not series.over):
            series.killed = None if unsure else True
            series.verdict = verdict
            series.stop()

    def close_series(self, series: Series) -> None:
        """The user of an iterator wants no more of it."""
        if not (series.closed or series.is_map) and (series.leftovers() or not series.over):
            for row in series.leftovers():
                self._lose(series, row)
            series.closed = True
            series.stop()
        elif self.may_linger(series) and not series.is_map:
            series.closed = series.closed or None
            series.stop()

    def _lose(self, series: Series, row: Call) -> None:
        """A result that nobody will read."""
        series.told |= row is series.flaw
        if row.state == FAILED and (row is series.flaw or not series.return_exceptions):
            self.unseen.add(row.number)

    def see(self, call: Call) -> None:
        if call.state == FAILED:
            self.unseen.discard(call.number)

    def take_down(self) -> None:
        """The block is left by an exception, or was cancelled."""
        self.guests.clear()
        for call in self.jobs:
            self.kill(call)
        for series in self.series:
            self.kill_series(series)
        for wait in list(self.line):
            if wait.call is None or wait.parked:
                self.withdraw(wait)  # it hears so at the end
            else:
                self.kill(wait.call)
        for call in self.running():
            self.kill(call)

    # What follows from it

    def settle(self, begun: Iterable[Call | Wait], broken: Iterable[Series] = ()) -> None:
        """Bring it up to date.

        ``begun`` are those who got a slot, in the order of their news, and ``broken`` those whose
        input has failed.
        """
        self.step += 1
        waiting = dict.fromkeys(begun)
        flaws = list(broken)
        before = list(self.line)
        rows = {series: len(series.begun) for series in self.series}
        while (
            self._begin_some(waiting)
            or self._end_some()
            or self._break_some(flaws)
            or self._close_some()
        ):
            pass
        assert not waiting, f"these should not have begun: {list(waiting)}"
        assert not flaws, "an input was pulled too far ahead"
        for job in self.jobs:
            self._end_job(job)
        for series in self.series:
            series.failing = False
        for wait in [wait for wait in before if wait in self.line]:
            for series, earlier in rows.items():
                overtaken = wait.overtaken.get(series, 0) + len(series.begun) - earlier
                assert overtaken <= 1, "a map has pushed in front of somebody who waits"
                wait.overtaken[series] = overtaken

    def check_use(self) -> None:
        """No slot is free that somebody could use."""
        if self.free() >= 1:
            assert not self.line, "a slot is free, and somebody waits for one"
            vain = [each for each in self.series if each.wants_slot and not each.rests]
            assert not vain, "a row waits in vain"

    def _begin_some(self, begun: dict[Any, None]) -> bool:
        """Let the first of those begin that have, and may."""
        if self.free() < 1:
            return False
        may: dict[Any, Series | None] = {}  # {who is next in the line, or in a series: which}
        if self.line:
            may[self.line[0].who] = None
        for series in self.series:
            if series.wants_slot or series.failing:
                rows = [row for row in series.rows if row.state == IDLE]
                any_row = self.leaps or series.failing or (series.is_map and series.flaw)
                for row in rows if any_row else rows[:1]:
                    if series.rows.index(row) < series.limit:
                        may[row] = series
        # News may overtake each other, so those begin first who give their slot back at once, or
        # have such behind them.
        lanes = {None: [wait.who for wait in self.line]} | {s: s.rows for s in self.series}
        hurried = {
            which for which, lane in lanes.items() if any(w.instant and w in begun for w in lane)
        }
        order = sorted(begun, key=lambda w: not w.instant)
        order.sort(key=lambda w: not w.instant and may.get(w, ...) not in hurried)
        who = next((each for each in order if each in may), None)
        if who is None:
            return False
        del begun[who]
        series = may[who]
        if series is None:
            wait = self.line.pop(0)
            wait.given = True
            if wait.guest and not wait.call.over and wait.call not in self.guests:
                self.guests.append(wait.call)
        else:
            who.doomed = series.stopped
        if isinstance(who, Call):
            who.state = RUNNING
            who.seated = True
        return True

    def _end_some(self) -> bool:
        due = [call for call in self.running() if call.due]
        for call in due:
            self._end(call)
        back = [call for call in self.calls if call.over and call.seated and call.released]
        for call in back:
            call.seated = False
        for call in [call for call in self.foreign if not call.over and call.due]:
            call.state = call.final_state()
        gone = [guest for guest in self.guests if guest.over]
        self.guests = [guest for guest in self.guests if not guest.over]
        failed = [series for series in self.series if series.failures and not series.stopped]
        if not due:  # all that failed together are known
            for series in failed:
                series.failures.sort(key=lambda row: (row.state == KILLED, row.number))
                series.failing = True
                series.stop()
        return bool(due or back or gone or failed)

    def _break_some(self, flaws: list[Series]) -> bool:
        """Inputs fail: of a map that is an error like those of its rows, but comes after them."""
        some = [series for series in flaws if self._may_break(series)]
        for series in some:
            flaws.remove(series)
            series.broken = True
            if series.is_map and series.flaw:
                series.failures.append(series.flaw)
        unread = [s for s in self.series if s.closed and not s.is_map and s.last_words()]
        for series in unread:
            for flaw in series.last_words():
                self._lose(series, flaw)
        return bool(some or unread)

    def _may_break(self, series: Series) -> bool:
        """Whether all of its rows have been pulled."""
        ahead = series.is_map or self.leaps  # some do not begin, or not yet
        return ahead or series.stopped or len(series.begun) == len(series.rows)

    def _close_some(self) -> bool:
        """The block closes its iterators when all else is over."""
        closable = self.leaving and not self.engaged()
        some = [series for series in self.series if closable and not series.closed]
        for series in some:
            self.close_series(series)
        return any(series.closed for series in some)

    def _end(self, call: Call) -> None:
        call.state = call.final_state()
        call.seated &= call.leaves and not (call.instant or call.released)
        call.ended_in = self.step
        series = call.series
        if series is None:
            self._report(call)
            return
        call.void = call.state == KILLED and series.stopped
        if series.is_map:
            bad = call.state != SUCCEEDED and not call.void
            if bad and not series.return_exceptions:
                series.failures.append(call)
        elif series.closed:
            self._lose(series, call)
        elif not series.ordered and not call.void:
            series.unread.append(call)

    def _end_job(self, job: Call) -> None:
        """End a call that stands for a map, if that is over."""
        series = job.whole
        if series is None or job.over or not series.over or self.may_linger(series):
            return
        failure = series.failure()
        if failure and failure.state == FAILED:
            job.state = FAILED
            job.number = failure.number
            self._report(job)
        elif failure or job.doomed:
            job.state = KILLED
            job.verdict = job.verdict if failure is None or job.doomed else failure.verdict
        else:
            job.state = SUCCEEDED
            job.number = [row.number for row in series.rows]

    def _report(self, call: Call) -> None:
        """An error is kept for the block, or told, unless somebody waits for it."""
        if call.state == FAILED and not call.awaited():
            if call.keeps_error or self.on_error == "collect":
                self.unseen.add(call.number)
            elif self.on_error == "cancel":
                self.unseen.add(call.number)
                self.cut = True
            else:
                self.told.append(call.number)
