"""What a history may do with a pool as a whole: its members, its size, and waiting for it."""

import math

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from model.actors import CANCELLED, DONE, NOT_YET, Actor, shown
from model.history import PICKS, SHAPES, TIMEOUTS, History, is_open, when
from model.parts import RUNNING, Call
from triopool import PoolFull


class Members(History):
    """Members, size and `join`."""

    @rule(shape=SHAPES)
    @when(is_open)
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

    @rule(pick=PICKS, timeout=TIMEOUTS)
    @when(lambda self: is_open(self) and self.model.foreign)
    def add(self, pick, timeout):
        call = self.pick(pick, self.model.foreign)
        if call.over or call in self.model.guests:
            self.act(Actor("add", lambda: DONE), self.pool.add, call.handle)
        else:
            wait = self.model.ask(call, guest=True)
            self.wait_in_line("add", wait, DONE, self.pool.add, call.handle, timeout=timeout)

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.handles())
    def discard(self, pick):
        call = self.pick(pick, [*self.handles(), *self.model.foreign])
        self.model.discard(call)
        self.do(lambda: self.pool.discard(call.handle))

    @rule(size=st.integers(0, 4))
    @when(lambda self: self.left in (None, "normally") and self.model.size < math.inf)
    def resize(self, size):
        self.model.size = size
        self.do(lambda: self.set_size(size))

    @rule(raise_error=st.booleans(), timeout=TIMEOUTS)
    @when(is_open)
    def join(self, raise_error, timeout):
        def expect():
            if actor.gave_up == CANCELLED:
                return CANCELLED
            got = shown(actor.outcome)
            idle = self.model.idle(surely=got is None) or self.over
            if not (idle or actor.gave_up):
                return None
            if actor.gave_up and got and got[0] == "value":
                return [NOT_YET, ("value", True)] if idle else NOT_YET
            if got is None and self.model.free() < 1 and self.lingers():
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
        actor = Actor(name, expect, lambda: None, accept=accept, late=NOT_YET)
        self.act(actor, self.pool.join, raise_error=raise_error, timeout=timeout)

    @rule(timeout=TIMEOUTS)
    @when(is_open)
    def wait_available(self, timeout):
        async def wait(timeout=None):
            if not await self.pool.wait_available(timeout):
                raise PoolFull

        self.wait_in_line("wait_available", self.model.ask(None), DONE, wait, timeout=timeout)
