"""What tests of threads share: calls that last until the test lets them go."""

import threading

import trio


class Gate:
    """Calls that tell Trio that they have begun, and last until they may end."""

    def __init__(self):
        self._token = trio.lowlevel.current_trio_token()
        self._change = threading.Condition()
        self._opened = set()
        self._is_open = False
        self._news = trio.lowlevel.ParkingLot()
        self.begun = []  # the arguments of those of which Trio has heard

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.open()

    def hold(self, x=None):
        self._token.run_sync_soon(self._hear, x)
        with self._change:
            self._change.wait_for(lambda: self._is_open or x in self._opened)
        return x

    def ask(self, x=None):
        self.hold(x)
        trio.from_thread.check_cancelled()
        return x

    def _hear(self, x):
        self.begun.append(x)
        self._news.unpark_all()

    def open(self, *xs):
        with self._change:
            self._opened.update(xs)
            self._is_open |= not xs
            self._change.notify_all()

    async def until(self, count):
        while len(self.begun) < count:
            await self._news.park()
