"""anyio: what one would write by hand, in the manner of bare Trio, on either loop.

For `map` and `spawn`, a task for each call, and a limiter; for `imap_unordered`, workers with a
memory object stream. In threads, workers that call `to_thread.run_sync`.
"""

from time import process_time

import anyio
from anyio import to_thread
from meters import LONG, batches, memory_in_use, without_gc


async def map(call, size, n):
    limiter = anyio.CapacityLimiter(size)
    results = [None] * n

    async def limited(item):
        async with limiter:
            results[item] = await call(item)

    async with anyio.create_task_group() as group:
        for item in range(n):
            group.start_soon(limited, item)


async def imap_unordered(call, size, n):
    items = iter(range(n))

    async def work(send):
        async with send:
            for item in items:
                await send.send(await call(item))

    async with anyio.create_task_group() as group:
        send, receive = anyio.create_memory_object_stream(size)
        for _ in range(size):
            group.start_soon(work, send.clone())
        send.close()
        async with receive:
            async for _ in receive:
                pass


async def spawn(call, size, n):
    limiter = anyio.CapacityLimiter(size)

    async def limited(item):
        try:
            await call(item)
        finally:
            limiter.release_on_behalf_of(item)

    async with anyio.create_task_group() as group:
        for item in range(n):
            await limiter.acquire_on_behalf_of(item)
            group.start_soon(limited, item)


async def spawn_nowait(call, size, n):
    for batch in batches(n, size):
        async with anyio.create_task_group() as group:
            for item in batch:
                group.start_soon(call, item)


async def kill(call, size, n):
    with without_gc():
        async with anyio.create_task_group() as group:
            for _ in range(n):
                group.start_soon(anyio.sleep, LONG)
            await anyio.wait_all_tasks_blocked()
            start = process_time()
            group.cancel_scope.cancel()
        return process_time() - start


async def memory(call, size, n):
    before = memory_in_use()
    async with anyio.create_task_group() as group:
        for _ in range(n):
            group.start_soon(anyio.sleep, LONG)
        await anyio.wait_all_tasks_blocked()
        used = memory_in_use() - before
        group.cancel_scope.cancel()
    return used


async def thread_map(call, size, n):
    limiter = anyio.CapacityLimiter(size)
    results = [None] * n
    items = iter(range(n))

    async def work():
        for item in items:
            results[item] = await to_thread.run_sync(call, item, limiter=limiter)

    async with anyio.create_task_group() as group:
        for _ in range(size):
            group.start_soon(work)


async def thread_apply(call, size, n):
    limiter = anyio.CapacityLimiter(size)
    for item in range(n):
        await to_thread.run_sync(call, item, limiter=limiter)
