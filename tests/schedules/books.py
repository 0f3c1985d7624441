"""The books of a scenario: what it started, what it saw, and whether that balances at the end."""

import attrs

from schedules.looking import counted


class Broken(Exception):
    """What a call of a scenario fails with, or a strike."""

    def __init__(self, text, actor):
        super().__init__(text)
        self.actor = actor  # whose call it was


class Killed(Exception):
    """What `kill` is given."""


def leaves(error):
    """All that is in an error, if that is a group."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    elif error is not None:
        yield error


def contexts(error):
    """What was on its way when a KeyboardInterrupt took its place."""
    for leaf in leaves(error):
        if isinstance(leaf, KeyboardInterrupt) and leaf.__context__ is not None:
            yield from leaves(leaf.__context__)


@attrs.define(eq=False)
class Books:
    """What happened in a run."""

    error_class = Broken

    down: bool = False  # the pool itself was struck
    nurseries: bool = False  # of the user's, which put all errors in groups
    kills: bool = False  # what a scenario does kills calls, too
    slotless: bool = False  # calls may run without a slot of a limiter that is known
    logs: bool = False  # errors go to the log
    pools: list = attrs.field(factory=list)
    # Theirs: `check_slots` runs no line of the package, at which Ctrl-C could cut it short.
    limiters: list = attrs.field(factory=list)
    calls: dict = attrs.field(factory=dict)  # {(actor, number): what became of it, "runs" at first}
    tasks: list = attrs.field(factory=list)  # (task, (actor, number))
    found: list = attrs.field(factory=list)  # the same, of those that a call was inside of
    linked: dict = attrs.field(factory=dict)  # {task: how often its link was called}
    results: list = attrs.field(factory=list)  # that somebody was handed
    errors: list = attrs.field(factory=list)  # all that were raised
    seen: list = attrs.field(factory=list)  # of these, what somebody was handed
    kept: list = attrs.field(factory=list)  # what is to live as long as the pool
    complaints: list = attrs.field(factory=list)

    def watch(self, *pools):
        """Pools whose own books are to balance."""
        self.pools += pools
        self.limiters += [pool.limiter for pool in pools]

    def error(self, text, actor):
        """An error to raise, of which somebody has to hear."""
        self.errors.append(error := Broken(f"{text}, error {len(self.errors)}", actor))
        return error

    def owner(self, task):
        """The actor whose call a task is; None if that cannot be told."""
        for known, (actor, _) in [*self.tasks, *self.found]:
            if known is task:
                return actor
        owner = getattr(task.func, "__self__", None)
        return owner if getattr(owner, "books", None) is self else None

    def hear(self, task, *_):
        """A task is over."""
        self.linked[task] += 1

    def running(self):
        """The calls that run now."""
        return [call for call, fate in self.calls.items() if fate == "runs"]

    def check_slots(self):
        """No call runs without a slot."""
        slots = sum(limiter.borrowed_tokens for limiter in self.limiters)
        if not self.slotless and len(running := self.running()) > slots:
            self.complaints.append(f"{len(running)} calls on {slots} slots")

    def forget(self):
        """Let go of all objects of the package."""
        self.tasks.clear()
        self.found.clear()
        self.linked.clear()
        self.kept.clear()
        self.pools.clear()
        self.limiters.clear()
        self.errors.clear()
        self.seen.clear()
        self.calls.clear()
        self.results.clear()

    # At the end

    def balance(self, deeds, ends, logged):
        """All that is wrong, after these deeds.

        ``ends`` are the errors that came out, and ``logged`` the others.
        """
        yield from self.complaints
        for limiter in self.limiters:
            books = limiter.statistics()
            if (books.borrowed_tokens, books.tasks_waiting) != (0, 0):
                yield f"slots are lost: {books}"
        for pool in self.pools:
            if left := counted(pool):
                yield f"{pool!r} is over, but still counts {left}"
        for actor, number in self.running():
            yield f"call {actor.name}{number} runs for ever"
        yield from self.balance_tasks(deeds)
        for result in {each for each in self.results if self.results.count(each) > 1}:
            yield f"the result of {result} came twice"
        yield from self.balance_errors(ends, logged)

    def balance_tasks(self, deeds):
        fits = {"returned": "SUCCEEDED", "raised": "FAILED", "cancelled": "KILLED"}
        interrupted = {"SUCCEEDED", "FAILED", "KILLED", "UNSTARTED"}
        for task, call in [*self.tasks, *self.found]:
            fate = self.calls.get(call)
            good = {fits[fate]} if fate in fits else {"KILLED", "UNSTARTED"}
            if task.status.name not in (interrupted if self.down else good):
                yield f"{task!r}, whose call {fate or 'never began'}"
            owned = (task, call) in self.tasks
            harmless = owned and (not call[0].hit or set(deeds) <= {"caller"})
            if task.status.name == "KILLED" and harmless and not self.kills:
                yield f"{task!r}, though nobody did that"
            told = self.linked.get(task)
            if told is not None and told != task.ready() and not self.down:
                yield f"the link of {task!r} was called {told} times"

    def balance_errors(self, ends, logged):
        for error in self.errors:
            at_end = sum(each is error for each in ends)
            in_log = sum(each is error for each in logged)
            handed = sum(each is error for each in self.seen)
            named = any(
                str(error) in note
                for each in [*ends, *self.seen, *logged]
                for note in getattr(each, "__notes__", ())
            )
            forgiven = error.actor.reads_errors and error.actor.hit
            told = any(each is error for end in ends for each in contexts(end))
            if not (at_end or in_log or handed or named or told or forgiven):
                yield f"lost: {error!r}"
            if at_end + in_log + bool(handed) + named > 1:
                yield (
                    f"more than once: {error!r}, raised at the end {at_end} times, logged {in_log} "
                    f"times, handed over {handed} times, {'named' if named else 'not named'} in a "
                    "note"
                )
