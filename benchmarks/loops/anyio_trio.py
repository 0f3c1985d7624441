"""anyio on Trio."""

from contextlib import asynccontextmanager

import anyio


def run(main):
    return anyio.run(main, backend="trio")


async def none(item):
    return item


async def checkpoint(item):
    await anyio.lowlevel.checkpoint()
    return item


@asynccontextmanager
async def socket(port, size):
    streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(size)]

    async def call(item):
        stream = streams.pop()
        await stream.send(b"?")
        await stream.receive(1)
        streams.append(stream)
        return item

    yield call
    for stream in streams:
        await stream.aclose()
