"""What a history may do to end calls and waits: kill them, and cancel whoever waits."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from model.actors import Actor, Verdict
from model.history import PICKS, History, is_open
from triopool import TaskKilled

VERDICTS = st.sampled_from(["TaskKilled", "TaskKilled", "Verdict"])
ERRORS = {"TaskKilled": TaskKilled, "Verdict": Verdict}


class Kills(History):
    """Kills and cancellations."""

    @precondition(lambda self: self.left in (None, "normally") and self.handles())
    @rule(pick=PICKS, verdict=VERDICTS)
    def kill_task(self, pick, verdict):
        call = self.pick(pick, self.handles())
        self.model.kill(call, verdict)
        self.do(lambda: call.handle.kill_nowait(ERRORS[verdict]))

    def members(self):
        return [call for call in self.model.members() if not call.over]

    @precondition(lambda self: is_open(self) and self.members())
    @rule(pick=PICKS, verdict=VERDICTS)
    def killone(self, pick, verdict):
        """Any member: a row, a guest, or what `apply` waits for."""
        call = self.pick(pick, self.members())
        (task,) = [task for task in self.pool if task.args == (call,)]
        self.model.kill(call, verdict)
        actor = Actor("killone", lambda: self.all_over([call], []))
        self.act(actor, self.pool.killone, task, ERRORS[verdict])

    @precondition(is_open)
    @rule(verdict=VERDICTS, block=st.booleans())
    def kill(self, verdict, block):
        model = self.model
        queued = [wait.call for wait in model.line if wait.call and not wait.parked]
        calls = [*queued, *model.jobs, *(call for call in model.members() if not call.series)]
        every_series = [series for series in model.series if not series.over]
        model.kill_all(verdict)
        if block:
            actor = Actor("kill", lambda: self.all_over(calls, every_series))
            self.act(actor, self.pool.kill, ERRORS[verdict])
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

    @precondition(lambda self: self.waiting())
    @rule(pick=PICKS)
    def cancel(self, pick):
        """Cancel somebody who waits."""
        actor = self.pick(pick, self.waiting())
        actor.cancelled = True
        actor.cancel()
        actor.cancel = None
        self.do(actor.scope.cancel)
