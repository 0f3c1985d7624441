"""What the tests share with the programs beside them, which run without pytest."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import trio

from triopool import Group, ThreadPool


def nothing(*_: object) -> None:
    pass


class AsyncRows:
    """An async iterator that is no generator; it calls ``probe`` wherever it runs.

    Trio keeps async generators in a WeakSet, and in a callback of that Python loses a Ctrl-C.
    """

    def __init__(self, rows: Iterable[Any], probe: Callable[[], object] = nothing) -> None:
        self.rows = iter(rows)
        self.probe = probe

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self.probe()
        await trio.lowlevel.checkpoint()
        self.probe()
        for row in self.rows:
            return row
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.probe()
        await trio.lowlevel.checkpoint()


def imbalance(pool: Group) -> str:
    """What an idle pool still counts, in words; nothing if its books balance."""
    books = pool.limiter.statistics()
    counts = {"calls": len(pool)}
    if not isinstance(pool, ThreadPool):  # whose threads keep their slot while they are idle
        counts |= {"slots": books.borrowed_tokens, "waits": books.tasks_waiting}
    left = {name: count for name, count in counts.items() if count}
    return f"{pool!r} still has {left}" if left else ""
