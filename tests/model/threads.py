"""Histories of pools of threads."""

import threading

import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from model.actors import Boom
from model.calls import Calls
from model.history import ON_ERROR
from model.kills import Kills
from model.maps import Maps
from model.members import Members
from model.plain import Model
from triopool import ThreadPool


class ThreadHistories(Calls, Kills, Members, Maps):
    """What may happen to a ThreadPool: a running call ends when it is released, and not before."""

    repeats = False

    @initialize(
        schedule=st.random_module(),
        size=st.sampled_from([1, 2, 3, 0]),
        on_error=ON_ERROR,
        abandons=st.booleans(),
        tidy=st.sampled_from([None, 0, 1, 2]),
    )
    def open(self, schedule, size, on_error, abandons, tidy):
        self.tidy = tidy
        hear = self.hear if on_error == "call" else on_error
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
        pool = self.pool
        here = [call for call in self.heard if not (call.instant or call.released)]
        ending = [call for call in self.heard if call.discarded and call not in here]
        guests = [call for call in self.model.foreign if call.handle and call.handle in pool]
        seats = len(guests) + sum(not call.discarded for call in here)
        books = pool.limiter.statistics()
        if books.borrowed_tokens != seats or not all(call.handle.ready() for call in ending):
            return False
        discarded = [call for call in here if call.discarded and not call.handle.ready()]
        alive = len(pool) > len(guests) or discarded
        if self.left == "normally":
            alive = alive or guests or books.tasks_waiting
        return self.left is None or self.outcome is not None or alive

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
