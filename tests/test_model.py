"""Random histories of a pool: after each step it is what a plain model of it says."""

import math
import os
import queue
import threading
import time
import warnings

import attrs
import hypothesis
import outcome
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import (
    FAILED,
    IDLE,
    KILLED,
    RUNNING,
    SUCCEEDED,
    Call,
    Model,
    Series,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from triopool import GreenPile, GreenPool, Group, Pool, PoolFull, Task, TaskKilled, ThreadPool

EXAMPLES = int(os.environ.get("TRIOPOOL_MODEL_EXAMPLES", "0"))
SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    max_examples=EXAMPLES or 50,
    stateful_step_count=int(os.environ.get("TRIOPOOL_MODEL_STEPS", "40")),
    suppress_health_check=list(hypothesis.HealthCheck),
)


class Boom(Exception):
    """What a call fails with that is to fail; its argument is the number of the call."""


class Bang(Exception):
    """What leaves a block that is left by an exception."""


class Verdict(Exception):
    """What a kill leaves behind that was given an exception."""


class Loop:
    """A run of Trio that goes on only when it is told to, until nothing moves any more."""

    def __init__(self, is_still):
        self._is_still = is_still  # whether nothing moves where Trio does not see it
        self._passes = queue.SimpleQueue()  # of Trio's loop, due now
        self._order = self._is_idle = self._ended = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._passes.put,
            done_callback=self._note_end,
            clock=MockClock(),
        )
        self._run()

    def _note_end(self, outcome):
        self._ended = outcome

    async def _main(self):
        async with trio.open_nursery() as self.nursery:
            while True:
                self._order = None
                self._is_idle = True
                while self._order is None:  # for the one pass in which the caller goes on
                    await trio.lowlevel.checkpoint()
                self._result = outcome.capture(self._order)
                await wait_all_tasks_blocked()
                while not self._is_still():
                    time.sleep(0)  # noqa: ASYNC251  # lets threads run
                    await wait_all_tasks_blocked()

    def _run(self):
        self._is_idle = False
        while not (self._is_idle or self._ended):
            self._passes.get()()

    def __call__(self, order):
        """Have Trio call a function, and go on until all is still. Returns what it returned."""
        self._order = order
        self._run()
        return self._result.unwrap()

    def close(self, last_order):
        self._order = lambda: (last_order(), self.nursery.cancel_scope.cancel())
        while not self._ended:
            self._passes.get()()


def shown(outcome):
    """An outcome as a test can compare it: errors by their class, and the calls they are of."""
    if outcome is None:
        return None
    kind, value = outcome
    if isinstance(value, list):
        return kind, [shown((kind, each))[1] for each in value]
    if isinstance(value, BaseExceptionGroup):
        return kind, sorted(shown((kind, each))[1] for each in value.exceptions)
    if isinstance(value, Boom):
        return kind, f"Boom {value.args[0]}"
    if isinstance(value, BaseException):
        return kind, type(value).__name__
    return kind, value


def became(call, return_exceptions=False):
    """What whoever waits for a call gets."""
    if call.state == SUCCEEDED:
        return "value", call.number
    error = f"Boom {call.number}" if call.state == FAILED else call.verdict
    return "value" if return_exceptions else "raised", error


def became_killed(series):
    return "value" if series.return_exceptions else "raised", "TaskKilled"


DONE = "value", None
CANCELLED = "cancelled", None
FULL = "raised", "PoolFull"
CLOSED = "raised", "ClosedResourceError"
END = "raised", "StopAsyncIteration"


@attrs.define(eq=False)
class Actor:
    """Somebody who does something to the pool, and perhaps waits, in a Trio task of his own."""

    name: str
    expect: object  # a function: what he must have got by now, None if he waits, or a choice
    cancel: object = None  # a function: what the model is to be told if he is cancelled
    of: object = None  # what he waits for
    accept: object = None  # a function that is told what he got
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    cancelled: bool = False
    outcome: object = None

    async def run(self, func, args, kwargs):
        with self.scope:
            try:
                self.outcome = "value", await func(*args, **kwargs)
            except (Exception, StopAsyncIteration) as error:
                # Its traceback would keep the pool's iterator alive.
                self.outcome = "raised", error.with_traceback(None)
        if self.scope.cancelled_caught:
            self.outcome = CANCELLED

    def check(self):
        """Returns whether he has got something."""
        expected = self.expect()
        choice = expected if isinstance(expected, list) else [expected]
        assert shown(self.outcome) in choice, (self.name, shown(self.outcome), choice)
        if self.outcome is not None and self.accept is not None:
            self.accept(shown(self.outcome))
        return self.outcome is not None


@attrs.define(eq=False)
class Pile:
    """A pile of the model, and the real one."""

    real: GreenPile
    return_exceptions: bool
    calls: list[Call] = attrs.field(factory=list)  # unread ones, in the order of their start
    coming: int = 0
    closed: bool = False


SHAPES = st.tuples(
    st.sampled_from(["return", "return", "fail", "obey"]),
    st.sampled_from([False, False, True]),  # it ends as soon as it begins
    st.sampled_from([False, False, True]),  # it is stubborn
)
PICKS = st.integers(0, 1 << 16)
VERDICTS = st.sampled_from(["TaskKilled", "TaskKilled", "Verdict"])
ERRORS = {"TaskKilled": TaskKilled, "Verdict": Verdict}


def is_open(machine):
    return machine.left is None


class Histories(RuleBasedStateMachine):
    """What may happen to a pool, whatever its kind."""

    def set_size(self, size):
        self.pool.size = size

    @initialize(
        schedule=st.random_module(),
        kind=st.sampled_from(["Pool", "Pool", "GreenPool", "Group"]),
        size=st.sampled_from([1, 2, 3, 0]),
        on_error=st.sampled_from(["collect", "collect", "call"]),
        reuse_tasks=st.booleans(),
        tidy=st.sampled_from([None, 0, 1, 2]),
    )
    def open(self, schedule, kind, size, on_error, reuse_tasks, tidy):
        # Which call is released next, until all is read and released before the block is left.
        self.tidy = tidy
        how = {"on_error": self.hear if on_error == "call" else "collect"}
        if kind == "GreenPool":
            self.start(GreenPool(size, **how), Model(size, on_error))
        elif kind == "Pool":
            self.start(Pool(size, reuse_tasks=reuse_tasks, **how), Model(size, on_error))
        else:
            self.start(Group(reuse_tasks=reuse_tasks, **how), Model(math.inf, on_error))

    def start(self, pool, model):
        self.pool = pool
        self.model = model
        self.actors = []
        self.begun = []
        self.crowd = []  # how many slots were taken when a call began that had no right to one
        self.told = []
        self.gates = {}
        self.streams = {}  # {series: its iterator}
        self.read_out = set()  # those that have come to their end
        self.piles = []
        self.left = None  # how the block was left
        self.over = False
        self.outcome = None  # of the block
        self.failed = False  # the pool is not what the model says
        self.loop = Loop(self.is_still)
        self.others = Group()
        self.leave_event = trio.Event()
        self.loop(lambda: self.loop.nursery.start_soon(self.live))

    def is_still(self):
        return True

    def hear(self, task):
        self.told.append(task.exception.args[0])

    async def live(self):
        try:
            async with self.others:
                try:
                    async with self.pool:
                        await self.leave_event.wait()
                        if self.left == "error":
                            raise Bang
                except Exception as error:
                    self.outcome = "raised", error
                else:
                    self.outcome = DONE
        except* Boom:
            pass  # those of others

    async def run_call(self, call):
        return await self.run_async(call)

    async def run_async(self, call):
        limiter = self.pool.limiter
        if call in self.model.calls:
            self.begun.append(call)
            if limiter.borrowed_tokens > limiter.total_tokens:
                self.crowd.append(limiter.borrowed_tokens)
        if not call.instant:
            with trio.CancelScope(shield=call.stubborn):
                await self.gates[call].wait()
        if call.fate == "obey":
            await trio.lowlevel.checkpoint()
        if call.fate == "fail":
            raise Boom(call.number)
        return call.number

    def new_call(self, shape, **more):
        call = self.model.new(shape, **more)
        self.gates[call] = self.new_gate()
        return call

    def new_gate(self):
        return trio.Event()

    # One step

    def do(self, order=lambda: None):
        """Do to the real pool what was done to the model, and compare them."""
        result = self.loop(order)
        self.failed = True
        self.compare()
        self.failed = False
        return result

    def compare(self):
        model = self.model
        begun, self.begun = self.begun, []
        model.settle(begun)
        assert not self.crowd
        assert sorted(self.told) == sorted(model.told)
        was_over = self.over
        self.over = self.left is not None and not model.running() and not model.engaged()
        assert (self.outcome is not None) == self.over, (self.outcome, model)
        if self.left is None:
            model.check_use()
        if self.left in (None, "normally") or self.over:
            self.just_read = set()  # errors that were read from piles
            # Whoever spawns into a pile comes before its reader, and both before `join`.
            order = {"pile.spawn": 0, "join": 2, "join with errors": 2}
            self.actors.sort(key=lambda actor: order.get(actor.name, 1))
            still = [actor for actor in self.actors if not actor.check()]
            self.actors = still
        if self.left is None:
            self.check_books()
        if self.over and not was_over:
            self.check_end()

    def check_books(self):
        pool, model = self.pool, self.model
        members = model.members()
        books = pool.limiter.statistics()
        assert books.borrowed_tokens == len(members)
        assert books.total_tokens == model.size
        self.check_members(members)
        free = model.free()
        assert pool.full() == (free < 1)
        assert pool.free_count() == (1 if free == math.inf else max(0, free))
        if isinstance(pool, GreenPool):
            assert pool.running() == len(members)
            assert pool.free() == free
            if not model.series:
                assert pool.waiting() == len(model.line)
        for call in [call for call in [*model.calls, *model.foreign] if call.handle]:
            task = call.handle
            assert task.status.value == call.state, call
            assert task.ready() == call.over
            assert task.successful() == (call.state == SUCCEEDED)
            assert task.value == (call.number if call.state == SUCCEEDED else None)
            assert (task in pool) == (call in members and not call.over)
        for pile in self.piles:
            assert len(pile.real) == pile.coming

    def check_members(self, members):
        assert len(self.pool) == len(members)
        assert {task.args[0] for task in self.pool} == set(members)

    def check_end(self):
        """The block is over: it has raised what nobody has seen, and nothing else."""
        model = self.model
        for series in model.series:
            model.close_series(series)
        errors = [f"Boom {number}" for number in model.unseen]
        if self.left == "error":
            errors.append("Bang")
        alone = errors == ["Bang"]
        expected = ("raised", "Bang" if alone else sorted(errors)) if errors else DONE
        assert shown(self.outcome) == expected, (shown(self.outcome), expected)
        books = self.pool.limiter.statistics()
        left_behind = sum(call.seated for call in model.calls)
        assert books.borrowed_tokens == left_behind
        assert (books.tasks_waiting, len(self.pool)) == (0, 0)

    def act(self, actor, func, *args, **kwargs):
        self.actors.append(actor)
        self.do(lambda: self.loop.nursery.start_soon(actor.run, func, args, kwargs))

    def wait_in_line(self, name, wait, result, func, *args, **more):
        """Do something that waits for a slot."""

        def expect():
            if actor.cancelled:
                return CANCELLED
            if wait.given or (call and call.state == KILLED):
                return result
            return CLOSED if self.over else None

        def cancel():
            if wait in self.model.line:
                self.model.withdraw(wait)

        async def run():
            await func(*args)
            if wait.who is wait:
                self.begun.append(wait)

        call = wait.call
        actor = Actor(name, expect, cancel, **more)
        self.act(actor, run)

    # Single calls

    @precondition(is_open)
    @rule(shape=SHAPES)
    def spawn(self, shape):
        call = self.new_call(shape)

        async def spawn():
            call.handle = await self.pool.spawn(self.run_call, call)

        self.wait_in_line("spawn", self.model.ask(call), DONE, spawn)

    @precondition(is_open)
    @rule(shape=SHAPES)
    def spawn_nowait(self, shape):
        call = self.new_call(shape)
        free = self.model.free() >= 1
        if free:
            self.model.ask(call)

        def order():
            try:
                call.handle = self.pool.spawn_nowait(self.run_call, call)
            except PoolFull:
                assert not free
            else:
                assert free

        self.do(order)

    @precondition(is_open)
    @rule(shape=SHAPES)
    def apply_async(self, shape):
        call = self.new_call(shape)
        self.model.ask(call, parked=False)

        def order():
            call.handle = self.pool.apply_async(self.run_call, (call,))

        self.do(order)

    @precondition(is_open)
    @rule(shape=SHAPES, again=st.booleans(), blocking=st.sampled_from([True, True, False]))
    def start_task(self, shape, again, blocking):
        """A new task, or one whose first `start` was cancelled."""
        model = self.model
        old = [call for call in model.calls if call.handle and call.state == IDLE]
        call = old[0] if again and old else self.new_call(shape)
        if not call.handle:
            call.handle = Task(self.run_call, call)
        if not blocking and model.free() < 1:
            actor = Actor("start", lambda: FULL)
            self.act(actor, self.pool.start, call.handle, blocking=False)
        else:
            self.wait_in_line("start", model.ask(call), DONE, self.pool.start, call.handle)

    @precondition(is_open)
    @rule(shape=SHAPES)
    def apply(self, shape):
        call = self.new_call(shape, awaited=lambda: True)
        wait = self.model.ask(call)

        def expect():
            if actor.cancelled and (call.state == KILLED or not wait.given):
                return CANCELLED
            if call.over:
                return became(call)
            return CLOSED if self.over else None

        def cancel():
            if wait in self.model.line:
                self.model.withdraw(wait)
            else:
                self.model.kill(call)

        actor = Actor("apply", expect, cancel)
        self.act(actor, self.pool.apply, self.run_call, (call,))

    def pick(self, pick, calls):
        return calls[pick % len(calls)]

    def running(self):
        """The calls that may be released, those included that a kill has left behind."""
        calls = [call for call in self.model.foreign if not call.over]
        calls += [call for call in self.model.calls if call.seated or call.state == RUNNING]
        return [call for call in calls if not call.released]

    @precondition(lambda self: self.running())
    @rule(picks=st.lists(PICKS, min_size=1, max_size=2))
    def release(self, picks):
        """Let one or two calls end."""
        calls = {self.pick(pick, self.running()) for pick in picks}
        for call in calls:
            call.released = True
        self.do(lambda: [self.gates[call].set() for call in calls])

    def handles(self):
        return [call for call in self.model.calls if call.handle]

    @precondition(lambda self: is_open(self) and self.handles())
    @rule(pick=PICKS)
    def get(self, pick):
        call = self.pick(pick, self.handles())

        def expect():
            if actor.cancelled:
                return CANCELLED
            return became(call) if call.over else None

        actor = Actor("get", expect, of=call, accept=lambda _: self.model.see(call))
        call.awaited = lambda: any(
            other.of is call and not other.cancelled for other in self.actors
        )
        self.act(actor, call.handle.get)

    @precondition(lambda self: is_open(self) and self.handles())
    @rule(pick=PICKS)
    def look_at_the_error(self, pick):
        call = self.pick(pick, self.handles())
        error = call.handle.exception
        assert (error.args if error else ()) == ((call.number,) if call.state == FAILED else ())
        self.model.see(call)

    # Killing

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
        calls = [*queued, *(call for call in model.members() if not call.series)]
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

    # Members

    @precondition(is_open)
    @rule(shape=SHAPES)
    def call_elsewhere(self, shape):
        """A call of another pool, to be added to this one."""
        call = Call(1000 + len(self.model.foreign), *shape)
        call.instant = False
        call.state = RUNNING
        self.model.foreign.append(call)
        self.gates[call] = trio.Event()

        def order():
            call.handle = self.others.spawn_nowait(self.run_async, call)

        self.do(order)

    @precondition(lambda self: is_open(self) and self.model.foreign)
    @rule(pick=PICKS)
    def add(self, pick):
        call = self.pick(pick, self.model.foreign)
        if call.over or call in self.model.guests:
            self.act(Actor("add", lambda: DONE), self.pool.add, call.handle)
        else:
            wait = self.model.ask(call, guest=True)
            self.wait_in_line("add", wait, DONE, self.pool.add, call.handle)

    @precondition(lambda self: is_open(self) and self.handles())
    @rule(pick=PICKS)
    def discard(self, pick):
        call = self.pick(pick, [*self.handles(), *self.model.foreign])
        call.seated = False
        if call in self.model.guests:
            self.model.guests.remove(call)
        self.do(lambda: self.pool.discard(call.handle))

    @precondition(lambda self: self.left in (None, "normally") and self.model.size < math.inf)
    @rule(size=st.integers(0, 4))
    def resize(self, size):
        self.model.size = size
        self.do(lambda: self.set_size(size))

    @precondition(is_open)
    @rule(raise_error=st.booleans())
    def join(self, raise_error):
        def expect():
            if actor.cancelled:
                return CANCELLED
            got = shown(actor.outcome)
            if not (self.model.idle(surely=got is None) or self.over):
                return None
            if got is None and self.model.size == 0 and self.lingers():
                return None
            if got is None or got[0] == "value":
                others = [each for each in self.actors if each.name == "join with errors"]
                alone = others == [actor] or not raise_error
                # If the block is left it may be first.
                if alone and raise_error and unseen() and self.left is None:
                    return "raised", sorted(unseen())
                return "value", True
            # A reader of a pile may have been told of the same error, at the same time.
            fits = unseen() <= set(got[1]) <= unseen() | self.just_read
            if self.left is not None:  # some may have come after it
                fits = set(got[1]) <= unseen() | self.just_read
            return got if fits and raise_error else ("raised", sorted(unseen()))

        def unseen():
            return {f"Boom {number}" for number in self.model.unseen}

        def accept(got):
            if got[0] == "raised":
                self.model.unseen -= {int(text.removeprefix("Boom ")) for text in got[1]}

        name = "join with errors" if raise_error else "join"
        actor = Actor(name, expect, lambda: None, accept=accept)
        self.act(actor, self.pool.join, raise_error=raise_error)

    @precondition(is_open)
    @rule()
    def wait_available(self):
        async def wait():
            assert await self.pool.wait_available() >= 1

        self.wait_in_line("wait_available", self.model.ask(None), DONE, wait)

    # Maps and iterators

    def new_series(self, shapes, **more):
        series = Series([], **more)
        fails_fast = series.is_map and not series.return_exceptions
        if fails_fast and ("fail", True) in [shape[:2] for shape in shapes]:
            # Which of its rows have begun when one fails at once is open: none may matter then.
            first = [shape[:2] for shape in shapes].index(("fail", True))
            shapes = [
                ("fail" if at == first else "return", shape[1], False)
                for at, shape in enumerate(shapes)
            ]
        series.rows = [self.new_call(shape, series=series) for shape in shapes]
        self.model.series.append(series)
        return series

    @precondition(is_open)
    @rule(shapes=st.lists(SHAPES, max_size=5), return_exceptions=st.booleans(), form=st.data())
    def map(self, shapes, return_exceptions, form):
        series = self.new_series(shapes, is_map=True, return_exceptions=return_exceptions)

        def expect():
            if not series.over:
                return None
            failed = [row for row in series.failures if row.state == FAILED]
            if failed:
                first = series.failures[0]
                return became(first if first in failed else min(failed, key=number_of))
            if actor.cancelled:
                return CANCELLED
            if series.failures:
                return became(series.failures[0])
            if series.killed and self.left != "cancelled":
                return "raised", series.verdict
            values = "value", [became(row, return_exceptions)[1] for row in series.rows]
            if series.killed:  # or its calls, before it was
                return [("raised", series.verdict), values]
            return [values, None] if self.lingers(series) else values

        actor = Actor("map", expect, series.stop)
        series.noticed = lambda: actor.outcome is not None
        rows = in_some_form(series.rows, form)
        self.act(actor, self.pool.map, self.run_call, rows, return_exceptions=return_exceptions)

    @precondition(is_open)
    @rule(
        shapes=st.lists(SHAPES, max_size=6),
        ordered=st.booleans(),
        maxsize=st.sampled_from([None, 1, 2, 3]),
        return_exceptions=st.booleans(),
        form=st.data(),
    )
    def imap(self, shapes, ordered, maxsize, return_exceptions, form):
        limit = math.inf if maxsize is None else maxsize
        if maxsize is None and isinstance(self.pool, GreenPool):
            limit = max(1, self.model.size)
        series = self.new_series(
            shapes, ordered=ordered, maxsize=limit, return_exceptions=return_exceptions
        )
        rows = in_some_form(series.rows, form)
        imap = self.pool.imap if ordered else self.pool.imap_unordered

        def order():
            self.streams[series] = imap(
                self.run_call, rows, maxsize=maxsize, return_exceptions=return_exceptions
            )

        self.do(order)

    def readable(self):
        """Those of them that have not come to their end."""
        return [series for series in self.unwatched() if series not in self.read_out]

    def unwatched(self):
        """The iterators that nobody reads or closes now."""
        return [s for s in self.streams if not any(actor.of is s for actor in self.actors)]

    @precondition(lambda self: is_open(self) and self.unwatched())
    @rule(pick=PICKS)
    def read(self, pick):
        series = self.pick(pick, self.unwatched())
        series.touched = series.read = True

        def expect():
            if actor.cancelled:
                return CANCELLED
            if series.closed:
                return CLOSED
            if rows := series.results():
                return [became(row, series.return_exceptions) for row in rows]
            if not series.over:
                return None
            if series.closed is None:
                return [END, CLOSED]
            if series.killed is False:
                return [END, None] if self.lingers(series) else END
            killed = "raised", series.verdict
            if series.killed is None:
                return [END, killed, CLOSED, became_killed(series)]
            if self.over:  # the calls may hear of it before the iterator does, and so may its end
                return [killed, CLOSED, became_killed(series)]
            return killed

        def cancel():
            series.read = False

        def accept(got):
            series.read = False
            if got in (END, CLOSED) or not series.results():
                self.read_out.add(series)
            if not series.closed and not actor.cancelled:
                for row in series.results():
                    if became(row, series.return_exceptions) == got:
                        series.take(row)
                        break

        actor = Actor("read", expect, cancel, of=series, accept=accept)
        self.act(actor, self.streams[series].__anext__)

    @precondition(lambda self: is_open(self) and self.unwatched())
    @rule(pick=PICKS)
    def aclose(self, pick):
        series = self.pick(pick, self.unwatched())
        series.touched = True
        self.model.close_series(series)
        actor = Actor("aclose", lambda: DONE if series.over else None, of=series)
        self.act(actor, self.streams[series].aclose)

    @precondition(lambda self: is_open(self) and self.unwatched())
    @rule(pick=PICKS)
    def drop(self, pick):
        series = self.pick(pick, self.unwatched())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.streams.pop(series)
        wasted = len(caught) if series.touched is None else not series.touched
        assert [warning.category for warning in caught] == [ResourceWarning] * wasted
        self.model.close_series(series)
        self.do()

    # Piles

    @precondition(is_open)
    @rule(return_exceptions=st.booleans())
    def pile(self, return_exceptions):
        real = self.do(lambda: GreenPile(self.pool, return_exceptions=return_exceptions))
        self.piles.append(Pile(real, return_exceptions))

    def spawnable(self):
        waiting = [actor.of for actor in self.actors if actor.name == "pile.spawn"]
        return [pile for pile in self.piles if not (pile.closed or pile in waiting)]

    @precondition(lambda self: is_open(self) and self.spawnable())
    @rule(pick=PICKS, shape=SHAPES)
    def spawn_into_pile(self, pick, shape):
        pile = self.pick(pick, self.spawnable())
        seen = pile.return_exceptions
        call = self.new_call(shape, keeps_error=True, awaited=lambda: seen)
        pile.coming += 1

        async def spawn():
            call.handle = await pile.real.spawn(self.run_call, call)

        def accept(got):
            if got == DONE:
                pile.calls.append(call)
            else:
                pile.coming -= 1

        wait = self.model.ask(call)
        self.wait_in_line("pile.spawn", wait, DONE, spawn, of=pile, accept=accept)

    @precondition(lambda self: is_open(self) and self.piles)
    @rule(pick=PICKS)
    def close_pile(self, pick):
        pile = self.pick(pick, self.piles)
        pile.closed = True
        self.do(pile.real.close)

    @precondition(lambda self: is_open(self) and self.unread_piles())
    @rule(pick=PICKS)
    def read_pile(self, pick):
        pile = self.pick(pick, self.unread_piles())

        def expect():
            if actor.cancelled:
                return CANCELLED
            if pile.calls:
                call = pile.calls[0]
                return became(call, pile.return_exceptions) if call.over else None
            if pile.closed and not pile.coming:
                return END
            return ("raised", "ClosedResourceError") if self.over else None

        def accept(got):
            if pile.calls and not actor.cancelled:
                pile.coming -= 1
                self.model.see(pile.calls[0])
                self.just_read.add(f"Boom {pile.calls.pop(0).number}")

        actor = Actor("pile.next", expect, lambda: None, of=pile, accept=accept)
        self.act(actor, pile.real.next)

    def unread_piles(self):
        read = [actor.of for actor in self.actors if actor.name == "pile.next"]
        return [pile for pile in self.piles if pile not in read]

    # The end

    @precondition(is_open)
    @rule(how=st.sampled_from(["normally", "error", "cancelled"]), chance=st.integers(0, 3))
    def leave(self, how, chance):
        if chance:
            return
        self.left = how
        if how == "normally":
            self.model.leaving = True
            self.do(self.leave_event.set)
            return
        self.model.take_down()
        scope = self.pool.cancel_scope
        self.do(scope.cancel if how == "cancelled" else self.leave_event.set)

    @precondition(lambda self: self.over)
    @rule()
    def use_it_after_the_end(self):
        def order():
            with pytest.raises(trio.ClosedResourceError):
                self.pool.spawn_nowait(self.run_call)

        self.do(order)

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        try:
            if not self.failed:
                self.end()
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                self.streams.clear()
            self.loop.close(lambda: [gate.set() for gate in self.gates.values()])

    def end(self):
        """Whatever has happened: the pool can be used, and the block can be left."""
        if self.left is None and self.model.size < math.inf:
            self.resize(4)
        tidy = self.left is None and self.tidy is not None
        if tidy:
            for index in range(len(self.handles())):
                self.get(index)
        while tidy and (self.running() or self.readable()):
            for series in self.readable():
                self.read(self.unwatched().index(series))
            for pile in self.unread_piles():
                self.close_pile(self.piles.index(pile))
                self.read_pile(self.unread_piles().index(pile))
            if self.running():
                self.release([self.tidy])
        if self.left is None:
            self.leave("normally", 0)
        if not self.over and self.left == "normally" and self.model.size < math.inf:
            self.resize(4)
        while self.running():
            self.release([0])
        assert self.over


def is_of_iterator(call):
    return call.series is not None and not call.series.is_map


def number_of(call):
    return call.number


def in_some_form(rows, data):
    """The same rows as a list, a generator, or an async generator."""
    form = data.draw(st.sampled_from(["list", "generator", "async generator"]), label="form")
    if form == "list":
        return rows
    if form == "generator":
        return (row for row in rows)

    async def pull():
        for row in rows:
            await trio.lowlevel.checkpoint()
            yield row

    return pull()


class ThreadHistories(Histories):
    """What may happen to a ThreadPool: a running call ends when it is released, and not before."""

    discard = pile = None
    abandons = False

    @initialize(
        schedule=st.random_module(),
        size=st.sampled_from([1, 2, 3, 0]),
        on_error=st.sampled_from(["collect", "collect", "call"]),
        abandons=st.just(False),
        tidy=st.sampled_from([None, 0, 1, 2]),
    )
    def open(self, schedule, size, on_error, abandons, tidy):
        self.tidy = tidy
        hear = self.hear if on_error == "call" else "collect"
        self.abandons = abandons
        self.heard = []
        pool = ThreadPool(size, on_error=hear, abandon_on_cancel=abandons)
        self.start(pool, Model(size, on_error, leaps=True))

    async def live(self):
        self.token = trio.lowlevel.current_trio_token()
        await super().live()

    def is_still(self):
        """Every thread that has a slot is in a call that has not been released.

        And if no more calls can come, the threads have ended.
        """
        held = [call for call in self.heard if not (call.instant or call.released)]
        held += [call for call in self.model.foreign if call.handle and call.handle in self.pool]
        left_behind = [
            call for call in held if call.leaves and (call.doomed or is_of_iterator(call))
        ]
        alive = len(held) > len(left_behind)
        full = self.left == "normally" and len(held) >= self.pool.maxsize
        stuck = full and (self.model.line or any(series.is_map for series in self.model.series))
        if self.left is not None and not (alive or stuck):
            return self.outcome is not None
        return self.pool.limiter.borrowed_tokens == len(held)

    def set_size(self, size):
        self.pool.maxsize = size

    def new_gate(self):
        return threading.Event()

    def new_call(self, shape, **more):
        fate, instant, _ = shape
        return super().new_call((fate, instant, not self.abandons), leaves=self.abandons, **more)

    def note_begin(self, call):
        self.begun.append(call)
        self.heard.append(call)

    def run_call(self, call):
        self.token.run_sync_soon(self.note_begin, call)
        if not call.instant:
            self.gates[call].wait()
        if call.fate == "obey":
            trio.from_thread.check_cancelled()
        if call.fate == "fail":
            raise Boom(call.number)
        return call.number

    def check_members(self, members):
        """Here, what waits counts as well, and rows that were pulled ahead."""
        queued = [wait.call for wait in self.model.line if wait.call and not wait.parked]
        members = {call for call in members if not call.over}
        if self.model.series:
            assert len(self.pool) >= len(members) + len(queued)
        else:
            assert len(self.pool) == len(members) + len(queued)
        assert {task.args[0] for task in self.pool} >= members


def test_pools_of_tasks_are_what_the_model_says():
    run_state_machine_as_test(Histories, settings=SETTINGS)


def test_pools_of_threads_are_what_the_model_says():
    settings = hypothesis.settings(SETTINGS, max_examples=EXAMPLES or 20)
    run_state_machine_as_test(ThreadHistories, settings=settings)
