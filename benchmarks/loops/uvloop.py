"""uvloop: the calls are those of asyncio."""

import asyncio

import uvloop

from loops.asyncio import checkpoint, none, socket

__all__ = ["checkpoint", "none", "run", "socket"]


def run(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
