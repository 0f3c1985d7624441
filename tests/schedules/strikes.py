"""What strikes a run, and when: a deed at a moment."""

import contextlib
import re
import signal
import sys

import attrs
import trio

from schedules.actor import Actor

MOMENTS = ("step", "probe", "line")


@attrs.frozen
class Strike:
    """A deed at a moment.

    Moments: before a ``step`` of any Trio task, in a ``probe``, which is where the user's code is
    run (calls, inputs, links and callbacks), or at a ``line`` of the package.
    """

    deed: str
    moment: str
    at: int

    def __str__(self):
        return f"{self.deed}@{self.moment}{self.at}"

    @classmethod
    def parse(cls, text):
        match = re.fullmatch(rf"({'|'.join(DEEDS)})@({'|'.join(MOMENTS)})(\d+)", text)
        if match is None:
            raise ValueError(f"{text!r} is no strike")
        deed, moment, at = match.groups()
        return cls(deed, moment, int(at))

    def strike(self, run, who):
        """Do it. ``who`` is the Trio task, the actor, or the frame that it comes upon."""
        deed = DEEDS[self.deed]
        if self.deed in RAISED or trio.lowlevel.in_trio_run():
            deed(run, who, self.at)
        else:  # in a call of a thread
            trio.from_thread.run_sync(deed, run, who, self.at)


def cancel_a_caller(run, who, at):
    actor = who if isinstance(who, Actor) else run.actors[at % len(run.actors)]
    actor.hit = True
    actor.scope.cancel(reason="the strike")


def cancel_the_pool(run, *_):
    run.hit_all()
    with contextlib.suppress(RuntimeError):  # it was not entered yet
        run.pool.cancel_scope.cancel(reason="the strike")


def kill_a_call(run, _, at):
    """Which one depends on the moment."""
    books = run.books
    known = [task for task, _ in [*books.tasks, *books.found]]
    tasks = list(dict.fromkeys([*run.pool, *known]))
    tasks = [task for task in tasks if not task.ready() and task.status.name != "UNSTARTED"]
    if tasks:
        victim = tasks[at % len(tasks)]
        owner = books.owner(victim)
        if owner is None:
            run.hit_actors()
        else:
            owner.hit = True
        victim.kill_nowait(reason="the strike")


def kill_all_calls(run, *_):
    with contextlib.suppress(RuntimeError, trio.ClosedResourceError):
        run.pool.kill_nowait(reason="the strike")
    run.hit_actors()


def press_ctrl_c(run, *_):
    run.hit_all()
    if run.tracing:
        sys.settrace(None)
    signal.raise_signal(signal.SIGINT)


def raise_an_error(run, actor, _):
    actor.hit = True
    raise run.books.error("the strike", actor)


def end_the_program(run, *_):
    run.hit_all()
    raise SystemExit("the strike")


DEEDS = {
    "caller": cancel_a_caller,
    "pool": cancel_the_pool,
    "kill": kill_a_call,
    "killall": kill_all_calls,
    "interrupt": press_ctrl_c,
    "raise": raise_an_error,
    "exit": end_the_program,
}
RAISED = ("raise", "exit")  # where they strike, in the thread of a call, too
