"""Runs the programs of `thread_programs` on triopool's threads."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from oracle.books import Books
from oracle.plain import Boom, shown


def run(program: dict[str, Any]) -> dict[str, Any]:
    """What came of each step, and what was seen after it."""
    return trio.run(Run(program).run)


class Run:
    """One program. It has a method for each word that a program may use."""

    def __init__(self, program):
        self.steps = program["steps"]
        self.books = Books(program, ours=True)
        self.pool = triopool.ThreadPool(program["size"])
        self.handles = {}
        self.known = [trio.Event() for _ in program["calls"]]  # handles
        self.iterators = {}

    async def run(self):
        trace = []
        try:
            async with trio.open_nursery() as self.nursery, self.pool:
                for number, (name, *args) in enumerate(self.steps):
                    self.books.note(number)
                    if name in ("imap", "imap_unordered"):
                        await self.act(number, name, args)
                    elif name == "next" and args[0] in self.iterators:
                        self.iterators[args[0]][1].send_nowait(number)
                    else:
                        self.nursery.start_soon(self.act, number, name, args)
                    await self.settle()
                    trace.append(self.books.look())
                self.books.open()
                await self.settle()
                self.nursery.cancel_scope.cancel()
        except* Boom:
            pass  # that a call has failed is in the trace
        return self.books.sum_up(trace)

    async def settle(self):
        await wait_all_tasks_blocked()
        while not self.books.is_calm(len(self.pool), self.pool.size):
            await trio.lowlevel.checkpoint()

    async def act(self, number, name, args):
        try:
            outcome = "value", await getattr(self, name)(*args)
        except StopAsyncIteration:
            outcome = "error", StopIteration()
        except Exception as error:
            outcome = "error", error
        self.books.done[number] = shown(outcome)

    def keep(self, iterator, results):
        """One Trio task reads an iterator, for two at once are another matter there."""
        letters, post = trio.open_memory_channel(100)
        self.iterators[iterator] = results, letters
        self.nursery.start_soon(self.keep_reading, iterator, post)

    async def keep_reading(self, iterator, post):
        async for number in post:
            await self.act(number, "read", [iterator])

    async def read(self, iterator):
        return await anext(self.iterators[iterator][0])

    async def nothing(self, *_):
        pass

    release = open = next = nothing

    async def spawn(self, number):
        self.handles[number] = await self.pool.spawn(self.books.call, number)
        self.known[number].set()

    async def apply(self, number):
        return await self.pool.apply(self.books.call, (number,))

    async def apply_async(self, number):
        back = self.books.called_back.append
        self.handles[number] = self.pool.apply_async(self.books.call, (number,), None, back)
        self.known[number].set()

    async def map(self, rows):
        return await self.pool.map(self.books.call, rows)

    async def imap(self, rows, iterator, maxsize):
        self.keep(iterator, self.pool.imap(self.books.call, rows, maxsize=maxsize))

    async def imap_unordered(self, rows, iterator, maxsize):
        self.keep(iterator, self.pool.imap_unordered(self.books.call, rows, maxsize=maxsize))

    async def get(self, number):
        await self.known[number].wait()
        return await self.handles[number].get()

    async def get_now(self, number):
        return await self.handles[number].get(timeout=0) if number in self.handles else None

    async def join(self):
        return await self.pool.join()

    async def maxsize(self, maxsize):
        self.pool.maxsize = maxsize

    async def size(self, size):
        self.pool.size = size
