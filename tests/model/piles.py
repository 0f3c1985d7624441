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
    ordered: bool
    return_exceptions: bool
    calls: list[Call] = attrs.field(factory=list)  # unread ones, in the order of their start
    coming: int = 0
    closed: bool = False

    def results(self):
        """The calls of which one is the next result; none if there is none yet."""
        calls = self.calls[:1] if self.ordered else self.calls
        over = [call for call in calls if call.over]
        first = min((call.ended_in for call in over), default=0)
        return [call for call in over if call.ended_in == first]


class Piles(History):
    """Piles."""

    @rule(ordered=st.booleans(), return_exceptions=st.booleans())
    @when(is_open)
    def pile(self, ordered, return_exceptions):
        how = {"ordered": ordered, "return_exceptions": return_exceptions}
        self.piles.append(Pile(self.do(lambda: GreenPile(self.pool, **how)), **how))

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
            if calls := pile.results():
                return [became(call, pile.return_exceptions) for call in calls]
            if pile.calls:
                return None
            if pile.closed and not pile.coming:
                return END
            return ("raised", "ClosedResourceError") if self.over else None

        def accept(got):
            for call in pile.results():
                if became(call, pile.return_exceptions) == got and not actor.gave_up:
                    pile.coming -= 1
                    pile.calls.remove(call)
                    self.model.see(call)
                    self.just_read.add(f"Boom {call.number}")
                    break

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
