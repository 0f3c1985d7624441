"""Bare Trio: what one would write by hand for the purpose, and nothing more.

For `map`, workers that share an iterator; for `imap_unordered`, these with a memory channel. For
`spawn`, a task for each call, and a limiter. In threads, workers that call `to_thread.run_sync`.
"""

from time import process_time

import trio
from meters import LONG, batches, memory_in_use, without_gc
from trio.testing import wait_all_tasks_blocked


async def map(call, size, n):
    results = [None] * n
    items = iter(range(n))

    async def work():
        for item in items:
            results[item] = await call(item)

    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(work)


async def map_generator(call, size, n):
    results = {}
    items = enumerate(item for item in range(n))

    async def work():
        for index, item in items:
            results[index] = await call(item)

    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(work)
    results = [results[index] for index in range(n)]


async def imap_unordered(call, size, n):
    items = iter(range(n))

    async def work(send):
        async with send:
            for item in items:
                await send.send(await call(item))

    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel(size)
        for _ in range(size):
            nursery.start_soon(work, send.clone())
        send.close()
        async for _ in receive:
            pass


def limited(call, size):
    """The limiter that a spawner waits in, and a call that gives its token back."""
    limiter = trio.CapacityLimiter(size)

    async def call_with_token(item):
        try:
            await call(item)
        finally:
            limiter.release_on_behalf_of(item)

    return limiter, call_with_token


async def spawn(call, size, n):
    limiter, call = limited(call, size)
    async with trio.open_nursery() as nursery:
        for item in range(n):
            await limiter.acquire_on_behalf_of(item)
            nursery.start_soon(call, item)


async def spawn_full(call, size, n):
    limiter, call = limited(call, size)
    async with trio.open_nursery() as nursery, trio.open_nursery() as spawners:

        async def spawn_some(first):
            for item in range(first, n, 2 * size):
                await limiter.acquire_on_behalf_of(item)
                nursery.start_soon(call, item)

        for first in range(2 * size):
            spawners.start_soon(spawn_some, first)


async def spawn_nowait(call, size, n):
    for batch in batches(n, size):
        async with trio.open_nursery() as nursery:
            for item in batch:
                nursery.start_soon(call, item)


async def apply(call, size, n):
    limiter = trio.CapacityLimiter(size)
    for item in range(n):
        async with limiter:
            await call(item)


async def kill(call, size, n):
    with without_gc():
        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(trio.sleep, LONG)
            await wait_all_tasks_blocked()
            start = process_time()
            nursery.cancel_scope.cancel()
        return process_time() - start


async def memory(call, size, n):
    before = memory_in_use()
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(trio.sleep, LONG)
        await wait_all_tasks_blocked()
        used = memory_in_use() - before
        nursery.cancel_scope.cancel()
    return used


async def thread_map(call, size, n):
    limiter = trio.CapacityLimiter(size)
    results = [None] * n
    items = iter(range(n))

    async def work():
        for item in items:
            results[item] = await trio.to_thread.run_sync(call, item, limiter=limiter)

    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(work)


async def thread_apply(call, size, n):
    limiter = trio.CapacityLimiter(size)
    for item in range(n):
        await trio.to_thread.run_sync(call, item, limiter=limiter)
