"""asyncio: what one would write by hand, on its own loop or on uvloop.

For `map`, `gather` and a semaphore; for `imap`, a queue of at most `size` tasks, awaited in their
order; for `imap_unordered`, workers with a `Queue`; for `spawn`, a `TaskGroup` and a semaphore.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import process_time

from meters import LONG, batches, memory_in_use, without_gc


async def map(call, size, n):
    semaphore = asyncio.Semaphore(size)

    async def limited(item):
        async with semaphore:
            return await call(item)

    await asyncio.gather(*[limited(item) for item in range(n)])


async def imap(call, size, n):
    tasks = deque()
    for item in range(n):
        if len(tasks) == size:
            await tasks.popleft()
        tasks.append(asyncio.create_task(call(item)))
    for task in tasks:
        await task


async def imap_unordered(call, size, n):
    items = iter(range(n))
    results = asyncio.Queue(size)

    async def work():
        for item in items:
            await results.put(await call(item))

    async with asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(work())
        for _ in range(n):
            await results.get()


async def spawn(call, size, n):
    semaphore = asyncio.Semaphore(size)

    async def limited(item):
        try:
            await call(item)
        finally:
            semaphore.release()

    async with asyncio.TaskGroup() as group:
        for item in range(n):
            await semaphore.acquire()
            group.create_task(limited(item))


async def spawn_nowait(call, size, n):
    for batch in batches(n, size):
        async with asyncio.TaskGroup() as group:
            for item in batch:
                group.create_task(call(item))


async def apply(call, size, n):
    semaphore = asyncio.Semaphore(size)
    for item in range(n):
        async with semaphore:
            await call(item)


async def apply_async(call, size, n):
    for batch in batches(n, size):
        for task in [asyncio.create_task(call(item)) for item in batch]:
            await task


async def kill(call, size, n):
    with without_gc():
        tasks = [asyncio.create_task(asyncio.sleep(LONG)) for _ in range(n)]
        await asyncio.sleep(0)
        start = process_time()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return process_time() - start


async def memory(call, size, n):
    before = memory_in_use()
    tasks = [asyncio.create_task(asyncio.sleep(LONG)) for _ in range(n)]
    await asyncio.sleep(0)
    used = memory_in_use() - before
    for task in tasks:
        task.cancel()
    return used


async def thread_map(call, size, n):
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(size) as executor:
        await asyncio.gather(*[loop.run_in_executor(executor, call, item) for item in range(n)])


async def thread_apply(call, size, n):
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(size) as executor:
        for item in range(n):
            await loop.run_in_executor(executor, call, item)
