"""What a history may do with single calls: begin them, wait for them, and let them end."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from model.actors import CANCELLED, CLOSED, DONE, FULL, LATE, Actor, became
from model.history import PICKS, SHAPES, TIMEOUTS, History, is_open, when
from model.parts import FAILED, IDLE, KILLED, RUNNING
from triopool import PoolFull, Task


class Calls(History):
    """Single calls."""

    @rule(shape=SHAPES)
    @when(is_open)
    def spawn(self, shape):
        call = self.new_call(shape)

        async def spawn():
            call.handle = await self.pool.spawn(self.run_call, call)

        self.wait_in_line("spawn", self.model.ask(call), DONE, spawn)

    @rule(shape=SHAPES)
    @when(is_open)
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

    @rule(shape=SHAPES)
    @when(is_open)
    def apply_async(self, shape):
        call = self.new_call(shape)
        self.model.ask(call, parked=False)

        def order():
            call.handle = self.pool.apply_async(self.run_call, (call,))

        self.do(order)

    @rule(
        shape=SHAPES,
        again=st.booleans(),
        blocking=st.sampled_from([True, True, False]),
        timeout=TIMEOUTS,
    )
    @when(is_open)
    def start_task(self, shape, again, blocking, timeout):
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
            start = self.pool.start
            self.wait_in_line("start", model.ask(call), DONE, start, call.handle, timeout=timeout)

    @rule(shape=SHAPES)
    @when(is_open)
    def apply(self, shape):
        call = self.new_call(shape, awaited=lambda: True)
        wait = self.model.ask(call)

        def expect():
            if actor.gave_up and (call.state == KILLED or not wait.given):
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
        if self.left == "cut":
            calls = [*self.model.calls, *self.model.foreign]
            return [call for call in calls if not call.released]
        calls = [call for call in self.model.foreign if not call.over]
        calls += [call for call in self.model.calls if call.seated or call.state == RUNNING]
        return [call for call in calls if not call.released]

    @rule(picks=st.lists(PICKS, min_size=1, max_size=2))
    @when(lambda self: self.running())
    def release(self, picks):
        """Let one or two calls end."""
        calls = dict.fromkeys(self.pick(pick, self.running()) for pick in picks)
        for call in calls:
            call.released = True
        self.do(lambda: [self.gates[call].set() for call in calls])

    def handles(self):
        return [call for call in [*self.model.calls, *self.model.jobs] if call.handle]

    @rule(pick=PICKS, timeout=TIMEOUTS)
    @when(lambda self: is_open(self) and self.handles())
    def get(self, pick, timeout):
        call = self.pick(pick, self.handles())

        def expect():
            if actor.gave_up:
                return actor.gave_up
            return became(call) if call.over else None

        actor = Actor("get", expect, of=call, accept=lambda _: self.model.see(call), late=LATE)
        call.awaited = lambda: any(other.of is call and not other.gave_up for other in self.actors)
        self.act(actor, call.handle.get, timeout=timeout)

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.handles())
    def look_at_the_error(self, pick):
        call = self.pick(pick, self.handles())
        error = call.handle.exception
        assert (error.args if error else ()) == ((call.number,) if call.state == FAILED else ())
        self.model.see(call)
