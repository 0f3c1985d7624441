"""Runs the programs of `programs` on triopool."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from oracle.plain import NOW, Boom, plain, shown


def run(program: dict[str, Any], tolerated: set[str]) -> list[Any]:
    """What happened, step by step, and what the pool looked like after each."""
    return trio.run(Run(program, "imap-pool" in tolerated).run)


class Run:
    """One program. It has a method for each word that a program may use."""

    def __init__(self, program, imap_has_a_pool):
        self.imap_has_a_pool = imap_has_a_pool
        self.program = program
        self.calls = program["calls"]
        self.events = []
        self.handles = {}
        self.iterators = {}
        self.actors = {}
        self.linked = {}
        self.pile = None

    def log(self, *event):
        self.events.append(list(event))

    async def run(self):
        kind, size = self.program["kind"], self.program["size"]
        self.gates = [trio.Event() for _ in self.calls]
        self.green = kind == "GreenPool"
        self.pool = triopool.Group() if kind == "Group" else getattr(triopool, kind)(size)
        self.trace = []
        try:
            async with (
                trio.open_nursery() as self.nursery,
                triopool.Group() as self.elsewhere_pool,
                self.pool,
            ):
                await self.do_steps()
                self.nursery.cancel_scope.cancel()
        except* Boom:
            pass  # that a call has failed is in the trace
        return self.trace

    async def do_steps(self):
        for number, (name, *args) in enumerate(self.program["steps"]):
            if name == "cancel":
                if args[0] in self.actors:
                    self.actors[args[0]].cancel()
            elif name != "nothing":
                self.actors[number] = trio.CancelScope()
                self.nursery.start_soon(self.act, number, name, args)
            await wait_all_tasks_blocked()
            self.trace.append([sorted(self.events, key=str), self.look()])
            self.events = []

    def look(self):
        pool = self.pool
        if self.green:
            return {"running": pool.running(), "free": pool.free(), "waiting": pool.waiting()}
        tasks = {}
        for number, task in self.handles.items():
            good = task.successful()  # and nothing that would observe an error
            tasks[str(number)] = [task.ready(), good, plain(task.value), task in pool]
        return {"tasks": tasks, "len": len(pool), "free": pool.free_count(), "full": pool.full()}

    async def act(self, number, name, args):
        with self.actors[number]:
            try:
                word, kwargs = NOW.get(name, (name.replace(".", "_"), {}))
                outcome = "value", await getattr(self, word)(*args, **kwargs)
            except StopAsyncIteration:
                outcome = "error", StopIteration()
            except Exception as error:
                outcome = "error", error
            self.log("done", number, shown(outcome))

    async def call(self, number):
        """What the pool is to run."""
        fate = self.calls[number]
        self.log("begin", number)
        how = "returned"
        try:
            for word, *args in fate["inside"]:
                try:
                    outcome = "value", await self.inside(word, args)
                except Exception as error:
                    outcome = "error", error
                self.log("inside", number, word, shown(outcome))
            if fate["waits"]:
                await self.gates[number].wait()
            if fate["fails"]:
                how = "failed"
                raise Boom(number)
            return number
        except trio.Cancelled:
            how = "killed"
            raise
        finally:
            self.log("end", number, how)

    async def star(self, number, _):
        return await self.call(number)

    async def inside(self, word, args):
        if word == "map":
            return await self.pool.map(self.call, args)
        return await getattr(self, word)(*args)

    async def release(self, number):
        self.gates[number].set()

    async def spawn(self, number):
        self.handles[number] = await self.pool.spawn(self.call, number)

    async def spawn_n(self, number):
        await self.pool.spawn_n(self.call, number)

    async def apply(self, number):
        return await self.pool.apply(self.call, (number,))

    async def apply_async(self, number):
        self.handles[number] = self.pool.apply_async(self.call, (number,))

    async def start(self, number, **kwargs):
        task = triopool.Task(self.call, number)
        await self.pool.start(task, **kwargs)
        self.handles[number] = task

    async def map(self, numbers):
        return await self.pool.map(self.call, numbers)

    async def map_async(self, numbers):
        return await self.pool.map_async(self.call, numbers)

    async def imap(self, numbers, iterator, maxsize):
        pool = await self.pool_of_imap() if self.green else self.pool
        self.iterators[iterator] = pool.imap(self.call, numbers, maxsize=maxsize)

    async def imap_unordered(self, numbers, iterator, maxsize):
        results = self.pool.imap_unordered(self.call, numbers, maxsize=maxsize)
        self.iterators[iterator] = results

    async def starmap(self, numbers, iterator, _):
        rows = [(number, number) for number in numbers]
        pool = await self.pool_of_imap()
        self.iterators[iterator] = pool.starmap(self.star, rows)

    async def pool_of_imap(self):
        """Iterators of eventlet have a pool of their own."""
        if not self.imap_has_a_pool:
            return self.pool
        return await self.nursery.start(triopool.GreenPool(self.pool.size).run)

    async def next(self, iterator):
        if iterator in self.iterators:
            return await anext(self.iterators[iterator])
        return None

    async def get(self, number, **kwargs):
        return await self.handles[number].get(**kwargs) if number in self.handles else None

    async def join_task(self, number, **kwargs):
        return await self.handles[number].join(**kwargs) if number in self.handles else None

    async def kill_task(self, number, **kwargs):
        return await self.handles[number].kill(**kwargs) if number in self.handles else None

    async def cancel_task(self, number):
        if number in self.handles:
            self.handles[number].cancel()

    async def killone(self, number, **kwargs):
        if number in self.handles:
            return await self.pool.killone(self.handles[number], **kwargs)
        return None

    async def kill(self, **kwargs):
        return await self.pool.kill(**kwargs)

    async def join(self, **kwargs):
        if self.green:
            return await self.pool.waitall()
        return await self.pool.join(**kwargs)

    async def join_raising(self):
        await self.pool.join(raise_error=True)

    async def wait_available(self, **kwargs):
        return await self.pool.wait_available(**kwargs)

    async def resize(self, size):
        self.pool.resize(size)

    async def elsewhere(self, number):
        self.handles[number] = self.elsewhere_pool.spawn_nowait(self.call, number)

    async def add(self, number, **kwargs):
        if number in self.handles:
            await self.pool.add(self.handles[number], **kwargs)

    async def discard(self, number):
        if number in self.handles:
            self.pool.discard(self.handles[number])

    def _link(self, number, how):
        if number in self.handles:
            callback = self.linked[number] = lambda _: self.log("linked", number)
            getattr(self.handles[number], how)(callback)

    async def link(self, number):
        self._link(number, "link")

    async def link_value(self, number):
        self._link(number, "link_value")

    async def link_exception(self, number):
        self._link(number, "link_exception")

    async def unlink(self, number):
        if number in self.linked:
            self.handles[number].unlink(self.linked[number])

    async def pile_spawn(self, number):
        await self.tell_keeper("spawn", number)

    async def pile_next(self):
        await self.tell_keeper("next", None)

    async def tell_keeper(self, *letter):
        """One Trio task does what is to be done with the pile."""
        if self.pile is None:
            self.letters, self.post = trio.open_memory_channel(100)
            self.pile = "soon"
            self.nursery.start_soon(self.keep_pile)
        self.letters.send_nowait(letter)

    async def keep_pile(self):
        done = 0
        self.pile = triopool.GreenPile(self.pool)  # whose results it is to read
        async for word, number in self.post:
            try:
                if word == "spawn":
                    await self.pile.spawn(self.call, number)
                    outcome = "value", None
                else:
                    outcome = "value", await self.pile.next()
            except StopAsyncIteration:
                outcome = "error", StopIteration()
            except Exception as error:
                outcome = "error", error
            self.log("pile", done, word, shown(outcome))
            done += 1
