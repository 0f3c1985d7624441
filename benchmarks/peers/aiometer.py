"""aiometer, on Trio."""

from functools import partial

from aiometer import amap, run_all


async def map(call, size, n):
    await run_all([partial(call, item) for item in range(n)], max_at_once=size)


async def imap_unordered(call, size, n):
    async with amap(call, range(n), max_at_once=size) as results:
        async for _ in results:
            pass
