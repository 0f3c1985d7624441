"""Trio's loop: for triopool, bare Trio and aiometer."""

from contextlib import asynccontextmanager

import trio


def run(main):
    return trio.run(main)


async def none(item):
    return item


async def checkpoint(item):
    await trio.lowlevel.checkpoint()
    return item


@asynccontextmanager
async def socket(port, size):
    streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(size)]

    async def call(item):
        stream = streams.pop()
        await stream.send_all(b"?")
        await stream.receive_some(1)
        streams.append(stream)
        return item

    yield call
    for stream in streams:
        await stream.aclose()
