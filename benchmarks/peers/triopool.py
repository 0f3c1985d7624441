"""triopool itself."""

from time import process_time

import trio
from meters import LONG, batches, memory_in_use, without_gc
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import GreenPile, GreenPool, Pool, ThreadPool


async def map(call, size, n):
    async with Pool(size) as pool:
        await pool.map(call, range(n))


async def map_generator(call, size, n):
    async with Pool(size) as pool:
        await pool.map(call, (item for item in range(n)))


async def imap(call, size, n):
    async with Pool(size) as pool:
        async for _ in pool.imap(call, range(n), maxsize=size):
            pass


async def imap_unordered(call, size, n):
    async with Pool(size) as pool:
        async for _ in pool.imap_unordered(call, range(n), maxsize=size):
            pass


async def green_imap(call, size, n):
    async with GreenPool(size) as pool:
        async for _ in pool.imap(call, range(n)):
            pass


async def pile(call, size, n):
    async with GreenPool(size) as pool:
        pile = GreenPile(pool)
        for item in range(n):
            await pile.spawn(call, item)
        async for _ in pile:
            pass


async def spawn(call, size, n):
    async with Pool(size) as pool:
        for item in range(n):
            await pool.spawn(call, item)
        await pool.join()


async def spawn_full(call, size, n):
    async with Pool(size) as pool, trio.open_nursery() as spawners:

        async def spawn_some(first):
            for item in range(first, n, 2 * size):
                await pool.spawn(call, item)

        for first in range(2 * size):
            spawners.start_soon(spawn_some, first)


async def spawn_nowait(call, size, n):
    async with Pool(size) as pool:
        for batch in batches(n, size):
            for item in batch:
                pool.spawn_nowait(call, item)
            await pool.join()


async def apply(call, size, n):
    async with Pool(size) as pool:
        for item in range(n):
            await pool.apply(call, (item,))


async def apply_async(call, size, n):
    async with Pool(size) as pool:
        for batch in batches(n, size):
            for task in [pool.apply_async(call, (item,)) for item in batch]:
                await task


async def kill(call, size, n):
    with without_gc():
        async with Pool(n) as pool:
            for _ in range(n):
                pool.spawn_nowait(trio.sleep, LONG)
            await wait_all_tasks_blocked()
            start = process_time()
            await pool.kill()
        return process_time() - start


async def memory(call, size, n):
    before = memory_in_use()
    async with Pool(n) as pool:
        for _ in range(n):
            pool.spawn_nowait(trio.sleep, LONG)
        await wait_all_tasks_blocked()
        used = memory_in_use() - before
        pool.cancel_scope.cancel()
    return used


async def thread_map(call, size, n):
    async with ThreadPool(size) as pool:
        await pool.map(call, range(n))


async def thread_apply(call, size, n):
    async with ThreadPool(size) as pool:
        for item in range(n):
            await pool.apply(call, (item,))


# These two need no loop, and do not mind one.


async def executor_map(call, size, n):
    with triopool.ThreadPoolExecutor(size) as executor:
        for _ in executor.map(call, range(n)):
            pass


async def executor_submit(call, size, n):
    with triopool.ThreadPoolExecutor(size) as executor:
        for item in range(n):
            executor.submit(call, item).result()
