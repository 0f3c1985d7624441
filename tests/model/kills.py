"""What a history may do to end calls and waits: kill them, and cancel whoever waits."""

import math

from hypothesis import strategies as st
from hypothesis.stateful import rule

from model.actors import CANCELLED, NOT_YET, Actor, Verdict
from model.history import PICKS, TIMEOUTS, History, is_open, when
from triopool import TaskKilled

VERDICTS = st.sampled_from(["TaskKilled", "TaskKilled", "Verdict"])
ERRORS = {"TaskKilled": TaskKilled, "Verdict": Verdict}


class Kills(History):
    """Kills and cancellations."""

    @rule(pick=PICKS, verdict=VERDICTS)
    @when(lambda self: self.left in (None, "normally") and self.handles())
    def kill_task(self, pick, verdict):
        call = self.pick(pick, self.handles())
        self.model.kill(call, verdict)
        self.do(lambda: call.handle.kill_nowait(ERRORS[verdict]))

    def members(self):
        return [call for call in self.model.members() if not call.over]

    @rule(pick=PICKS, verdict=VERDICTS, timeout=TIMEOUTS)
    @when(lambda self: is_open(self) and self.members())
    def killone(self, pick, verdict, timeout):
        """Any member: a row, a guest, or what `apply` waits for."""
        call = self.pick(pick, self.members())
        (task,) = [task for task in self.pool if task.args == (call,)]
        self.model.kill(call, verdict)
        actor = Actor("killone", lambda: self.all_over([call], []) or actor.gave_up, late=NOT_YET)
        self.act(actor, self.pool.killone, task, ERRORS[verdict], timeout=timeout)

    @rule(verdict=VERDICTS, block=st.booleans(), timeout=TIMEOUTS)
    @when(is_open)
    def kill(self, verdict, block, timeout):
        model = self.model
        queued = [wait.call for wait in model.line if wait.call and not wait.parked]
        calls = [*queued, *model.jobs, *(call for call in model.members() if not call.series)]
        every_series = [series for series in model.series if not series.over]
        model.kill_all(verdict)
        if block:

            def expect():
                return self.all_over(calls, every_series) or actor.gave_up

            actor = Actor("kill", expect, late=NOT_YET)
            self.act(actor, self.pool.kill, ERRORS[verdict], timeout=timeout)
        else:
            self.do(lambda: self.pool.kill_nowait(ERRORS[verdict]))

    def all_over(self, calls, every_series):
        over = all(call.over for call in calls) and all(series.over for series in every_series)
        return ("value", True) if over else None

    def lingers(self, *every_series):
        """Whether one of these may be over without having noticed."""
        return any(self.model.may_linger(s) for s in every_series or self.model.series)

    def waiting(self):
        return [actor for actor in self.actors if actor.cancel and actor.outcome is None]

    @rule(pick=PICKS)
    @when(lambda self: self.waiting())
    def cancel(self, pick):
        """Cancel somebody who waits."""
        actor = self.pick(pick, self.waiting())
        actor.gave_up = CANCELLED
        actor.cancel()
        actor.cancel = None
        self.do(actor.scope.cancel)

    def hurried(self):
        return [a for a in self.actors if a.deadline < math.inf and a.outcome is None]

    @rule(seconds=st.integers(1, 2))
    @when(lambda self: self.left in (None, "normally") and self.hurried())
    def let_time_pass(self, seconds):
        """Those whose time is over get nothing, and wait no more."""
        self.now += seconds
        for actor in self.hurried():
            if actor.deadline <= self.now:
                actor.gave_up = actor.late
                if actor.cancel:
                    actor.cancel()
                    actor.cancel = None
        self.do(lambda: self.loop.clock.jump(seconds))
