"""A run of Trio, as the guest of a test that lets it go on step by step."""

import queue
import time

import outcome
import trio
from trio.testing import MockClock, wait_all_tasks_blocked


class Loop:
    """A run of Trio that goes on only when it is told to, until nothing moves any more."""

    def __init__(self, is_still):
        self._is_still = is_still  # whether nothing moves where Trio does not see it
        self._passes = queue.SimpleQueue()  # of Trio's loop, due now
        self.clock = MockClock()
        self._order = self._is_idle = self._ended = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._passes.put,
            done_callback=self._note_end,
            clock=self.clock,
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
