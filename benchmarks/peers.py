"""Those that `pools.py` compares: a function for each, with the cases that it can do.

`python peers.py gevent 20000 1` prints, as JSON, the seconds that each case of gevent takes for
20,000 items, with one checkpoint in each call.
"""

import asyncio
import gc
import json
import sys
from functools import partial
from time import perf_counter

SIZE = 100  # of every pool


def triopool(checkpoints):
    import trio

    from triopool import GreenPool, Pool

    call = trio_call(checkpoints)

    async def map(n):
        async with Pool(SIZE) as pool:
            await pool.map(call, range(n))

    async def imap(n):
        async with Pool(SIZE) as pool:
            async for _ in pool.imap(call, range(n), maxsize=SIZE):
                pass

    async def imap_unordered(n):
        async with Pool(SIZE) as pool:
            async for _ in pool.imap_unordered(call, range(n), maxsize=SIZE):
                pass

    async def green_imap(n):
        async with GreenPool(SIZE) as pool:
            async for _ in pool.imap(call, range(n)):
                pass

    async def spawn(n):
        async with Pool(SIZE) as pool:
            for item in range(n):
                await pool.spawn(call, item)
            await pool.join()

    async def spawn_nowait(n):
        async with Pool(SIZE) as pool:
            for batch in batches(n):
                for item in batch:
                    pool.spawn_nowait(call, item)
                await pool.join()

    return trio.run, [map, imap, imap_unordered, green_imap, spawn, spawn_nowait]


def gevent(checkpoints):
    from gevent import sleep
    from gevent.pool import Pool

    def call(item):
        for _ in range(checkpoints):
            sleep(0)
        return item

    def map(n):
        Pool(SIZE).map(call, range(n))

    def imap(n):
        for _ in Pool(SIZE).imap(call, range(n), maxsize=SIZE):
            pass

    def imap_unordered(n):
        for _ in Pool(SIZE).imap_unordered(call, range(n), maxsize=SIZE):
            pass

    def spawn(n):
        pool = Pool(SIZE)
        for item in range(n):
            pool.spawn(call, item)
        pool.join()

    def spawn_nowait(n):  # it does not block while there are free slots
        pool = Pool(SIZE)
        for batch in batches(n):
            for item in batch:
                pool.spawn(call, item)
            pool.join()

    return None, [map, imap, imap_unordered, spawn, spawn_nowait]


def eventlet(checkpoints):
    from eventlet import GreenPool, sleep

    def call(item):
        for _ in range(checkpoints):
            sleep(0)
        return item

    def green_imap(n):
        for _ in GreenPool(SIZE).imap(call, range(n)):
            pass

    def spawn(n):
        pool = GreenPool(SIZE)
        for item in range(n):
            pool.spawn(call, item)
        pool.waitall()

    def spawn_nowait(n):
        pool = GreenPool(SIZE)
        for batch in batches(n):
            for item in batch:
                pool.spawn(call, item)
            pool.waitall()

    return None, [green_imap, spawn, spawn_nowait]


def trio(checkpoints):
    import trio

    call = trio_call(checkpoints)

    async def map(n):  # workers that share an iterator
        results = [None] * n
        items = iter(range(n))

        async def work():
            for item in items:
                results[item] = await call(item)

        async with trio.open_nursery() as nursery:
            for _ in range(SIZE):
                nursery.start_soon(work)

    async def imap_unordered(n):  # such workers, and a memory channel
        items = iter(range(n))

        async def work(send):
            async with send:
                for item in items:
                    await send.send(await call(item))

        async with trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel(SIZE)
            for _ in range(SIZE):
                nursery.start_soon(work, send.clone())
            send.close()
            async for _ in receive:
                pass

    async def spawn(n):  # a task for each call, started when a limiter has a token for it
        limiter = trio.CapacityLimiter(SIZE)

        async def limited(item):
            try:
                await call(item)
            finally:
                limiter.release_on_behalf_of(item)

        async with trio.open_nursery() as nursery:
            for item in range(n):
                await limiter.acquire_on_behalf_of(item)
                nursery.start_soon(limited, item)

    async def spawn_nowait(n):
        for batch in batches(n):
            async with trio.open_nursery() as nursery:
                for item in batch:
                    nursery.start_soon(call, item)

    return trio.run, [map, imap_unordered, spawn, spawn_nowait]


def aiometer(checkpoints):
    import trio
    from aiometer import amap, run_all

    call = trio_call(checkpoints)

    async def map(n):
        await run_all([partial(call, item) for item in range(n)], max_at_once=SIZE)

    async def imap_unordered(n):
        async with amap(call, range(n), max_at_once=SIZE) as results:
            async for _ in results:
                pass

    return trio.run, [map, imap_unordered]


def asyncio_(checkpoints):
    async def call(item):
        for _ in range(checkpoints):
            await asyncio.sleep(0)
        return item

    async def map(n):  # gather and a semaphore
        semaphore = asyncio.Semaphore(SIZE)

        async def limited(item):
            async with semaphore:
                return await call(item)

        await asyncio.gather(*[limited(item) for item in range(n)])

    async def spawn_nowait(n):
        for batch in batches(n):
            async with asyncio.TaskGroup() as group:
                for item in batch:
                    group.create_task(call(item))

    return lambda main, *args: asyncio.run(main(*args)), [map, spawn_nowait]


def trio_call(checkpoints):
    from trio.lowlevel import checkpoint

    async def call(item):
        for _ in range(checkpoints):
            await checkpoint()
        return item

    return call


def batches(n):
    return (range(start, min(start + SIZE, n)) for start in range(0, n, SIZE))


def measure(run, case, n):
    """The seconds that a case takes, once it is warm; the start of an event loop does not count."""

    async def in_a_loop():
        await case(n // 10)
        gc.collect()
        start = perf_counter()
        await case(n)
        return perf_counter() - start

    if run is not None:
        return run(in_a_loop)
    case(n // 10)
    gc.collect()
    start = perf_counter()
    case(n)
    return perf_counter() - start


PEERS = {
    peer.__name__.strip("_"): peer
    for peer in (triopool, gevent, eventlet, trio, aiometer, asyncio_)
}

if __name__ == "__main__":
    name, n, checkpoints = sys.argv[1:]
    run, cases = PEERS[name](int(checkpoints))
    json.dump({case.__name__: measure(run, case, int(n)) for case in cases}, sys.stdout)
