"""What a history may do with a pool as a whole: its members, its size, and waiting for it."""

import math

import trio
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from model.actors import CANCELLED, DONE, Actor, shown
from model.history import PICKS, SHAPES, History, is_open
from model.parts import RUNNING, Call


class Members(History):
    """Members, size and `join`."""

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
        self.model.discard(call)
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
        actor = Actor(name, expect, lambda: None, accept=accept)
        self.act(actor, self.pool.join, raise_error=raise_error)

    @precondition(is_open)
    @rule()
    def wait_available(self):
        async def wait():
            assert await self.pool.wait_available() >= 1

        self.wait_in_line("wait_available", self.model.ask(None), DONE, wait)
