"""asyncio's loop."""

import asyncio
from contextlib import asynccontextmanager


def run(main):
    return asyncio.run(main())


async def none(item):
    return item


async def checkpoint(item):
    await asyncio.sleep(0)
    return item


@asynccontextmanager
async def socket(port, size):
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(size)]

    async def call(item):
        reader, writer = stream = streams.pop()
        writer.write(b"?")
        await writer.drain()
        await reader.read(1)
        streams.append(stream)
        return item

    yield call
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()
