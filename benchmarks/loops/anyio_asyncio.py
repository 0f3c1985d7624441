"""anyio on asyncio: the calls are the same as on Trio."""

import anyio

from loops.anyio_trio import checkpoint, none, socket

__all__ = ["checkpoint", "none", "run", "socket"]


def run(main):
    return anyio.run(main, backend="asyncio")
