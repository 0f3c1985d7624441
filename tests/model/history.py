"""A history of a pool: after each step it is what the model says."""

import functools
import logging
import math
import warnings

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from model.actors import CLOSED, DONE, FULL, Actor, Bang, Boom, shown
from model.loop import Loop
from model.parts import IDLE, KILLED, RUNNING, SUCCEEDED, WAITING
from triopool import GreenPool, Group

SHAPES = st.tuples(
    st.sampled_from(["return", "return", "fail", "obey"]),
    st.sampled_from([False, False, True]),  # it ends as soon as it begins
    st.sampled_from([False, False, True]),  # it is stubborn
)
LOGGER = logging.getLogger("triopool")
ON_ERROR = st.sampled_from(["collect", "collect", "call", "log", "cancel"])
TIMEOUTS = st.sampled_from([None, None, 1, 2])  # in seconds
PICKS = st.integers(0, 1 << 16)


def is_open(machine):
    return machine.left is None


def when(condition):
    """Let a rule do nothing unless this holds. It goes below ``rule``.

    What happens in threads does not repeat itself, so their rules must be drawn all the same.
    """

    def decorate(func):
        @functools.wraps(func)
        def checked(self, *args, **kwargs):
            if condition(self):
                func(self, *args, **kwargs)

        return precondition(lambda self: not self.repeats or condition(self))(checked)

    return decorate


class History(RuleBasedStateMachine):
    """What has happened to a pool, and how it is compared with the model after each step."""

    repeats = True  # the same steps have the same consequences

    def start(self, pool, model):
        self.pool = pool
        self.model = model
        self.actors = []
        self.now = 0
        self.begun = []
        self.broken = []  # series whose input has failed
        self.crowd = []  # how many slots were taken when a call began that had no right to one
        self.told = []
        self.gates = {}
        self.streams = {}  # {series: its iterator}
        self.read_out = set()  # those that have come to their end
        self.piles = []
        self.left = None  # how the block was left; `cut`, if an error in it did that
        self.over = False
        self.outcome = None  # of the block
        self.failed = False  # the pool is not what the model says
        self.loop = Loop(self.is_still)
        self.others = Group()
        self.leave_event = trio.Event()
        self.loop(lambda: self.loop.nursery.start_soon(self.live))

        LOGGER.addFilter(self.overhear)

    def overhear(self, record):
        """A filter of the log: what the pool writes there is for nobody else."""
        self.told.append(record.exc_info[1].args[0])
        return False

    def is_still(self):
        """Whether nothing moves where Trio does not see it."""
        return True

    def read_all(self):
        """Wait for one result more of whatever there is to be read."""

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
        broken, self.broken = self.broken, []
        cancelled = self.pool.cancel_scope.cancel_called
        if cancelled and model.on_error == "cancel" and self.left in (None, "normally"):
            self.left = "cut"
        if self.left == "cut":
            self.compare_when_cut()
            return
        model.settle(begun, broken)
        assert cancelled or not model.cut
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

    def compare_when_cut(self):
        """An error takes the pool down. Much of what comes of that is open, but nothing is lost."""
        if self.over or self.outcome is None:
            return
        self.over = True
        for actor in self.actors:
            unstarted = actor.name == "get" and actor.of.handle.status.value == IDLE
            elsewhere = actor.name.startswith("kill") and self.model.foreign
            assert actor.outcome or unstarted or elsewhere, "a waiter was forgotten"
        told = [shown(actor.outcome) for actor in self.actors if actor.name == "join with errors"]
        raised = [each for each in [shown(self.outcome), *told] if each[0] == "raised"]
        errors = [int(error.removeprefix("Boom ")) for _, errors in raised for error in errors]
        assert errors
        assert len(errors) == len(set(errors)), "an error was reported twice"
        assert self.model.unseen <= set(errors)
        failing = {call.number for call in self.model.calls if call.fate == "fail"}
        assert set(errors) <= failing | {
            series.flaw.number for series in self.model.series if series.flaw
        }
        books = self.pool.limiter.statistics()
        assert (books.tasks_waiting, len(self.pool)) == (0, 0)
        for call in self.handles():
            assert call.handle.status.value not in (WAITING, RUNNING)

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
        for call in [*self.handles(), *model.foreign]:
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
        if kwargs.get("timeout") is not None:
            actor.deadline = self.now + kwargs["timeout"]
        self.actors.append(actor)
        self.do(lambda: self.loop.nursery.start_soon(actor.run, func, args, kwargs))

    def wait_in_line(self, name, wait, result, func, *args, timeout=None, **more):
        """Do something that waits for a slot."""

        def expect():
            if actor.gave_up:
                return actor.gave_up
            if wait.given or (call and call.state == KILLED and not wait.guest):
                return result
            return CLOSED if self.over else None

        def cancel():
            if wait in self.model.line:
                self.model.withdraw(wait)

        async def run(timeout=None):
            if timeout is None:
                await func(*args)
            else:
                await func(*args, timeout=timeout)
            if wait.who is wait:
                self.begun.append(wait)

        call = wait.call
        actor = Actor(name, expect, cancel, late=FULL, **more)
        self.act(actor, run, timeout=timeout)

    # The end

    @rule(how=st.sampled_from(["normally", "error", "cancelled"]), chance=st.integers(0, 3))
    @when(is_open)
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

    @rule()
    @when(lambda self: self.over)
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
            LOGGER.removeFilter(self.overhear)
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
                self.get(index, None)
        while tidy and (self.running() or self.readable()):
            self.read_all()
            if self.running():
                self.release([self.tidy])
        if self.left is None:
            self.leave("normally", 0)
        if not self.over and self.left == "normally" and self.model.size < math.inf:
            self.resize(4)
        while self.running():
            self.release([0])
        assert self.over
        assert self.pool.limiter.borrowed_tokens == 0
