"""What a history may do with piles on the pool."""

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import rule

from model.actors import DONE, END, Actor, became
from model.history import PICKS, SHAPES, History, is_open, when
from model.parts import Call
from triopool import GreenPile


@attrs.define(eq=False)
class Pile:
    """A pile of the model, and the real one."""

    real: GreenPile
    return_exceptions: bool
    calls: list[Call] = attrs.field(factory=list)  # unread ones, in the order of their start
    coming: int = 0
    closed: bool = False


class Piles(History):
    """Piles."""

    @rule(return_exceptions=st.booleans())
    @when(is_open)
    def pile(self, return_exceptions):
        real = self.do(lambda: GreenPile(self.pool, return_exceptions=return_exceptions))
        self.piles.append(Pile(real, return_exceptions))

    def spawnable(self):
        waiting = [actor.of for actor in self.actors if actor.name == "pile.spawn"]
        return [pile for pile in self.piles if not (pile.closed or pile in waiting)]

    @rule(pick=PICKS, shape=SHAPES)
    @when(lambda self: is_open(self) and self.spawnable())
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

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.piles)
    def close_pile(self, pick):
        pile = self.pick(pick, self.piles)
        pile.closed = True
        self.do(pile.real.close)

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.unread_piles())
    def read_pile(self, pick):
        pile = self.pick(pick, self.unread_piles())

        def expect():
            if actor.gave_up:
                return actor.gave_up
            if pile.calls:
                call = pile.calls[0]
                return became(call, pile.return_exceptions) if call.over else None
            if pile.closed and not pile.coming:
                return END
            return ("raised", "ClosedResourceError") if self.over else None

        def accept(got):
            if pile.calls and not actor.gave_up:
                pile.coming -= 1
                self.model.see(pile.calls[0])
                self.just_read.add(f"Boom {pile.calls.pop(0).number}")

        actor = Actor("pile.next", expect, lambda: None, of=pile, accept=accept)
        self.act(actor, pile.real.next)

    def read_all(self):
        super().read_all()
        for pile in self.unread_piles():
            self.close_pile(self.piles.index(pile))
            self.read_pile(self.unread_piles().index(pile))

    def unread_piles(self):
        read = [actor.of for actor in self.actors if actor.name == "pile.next"]
        return [pile for pile in self.piles if pile not in read]
