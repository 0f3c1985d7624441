"""Calls that must type-check, and the types that come out of them."""

from collections.abc import AsyncIterator
from typing import assert_type

import trio

import triopool
from triopool import (
    GreenPile,
    GreenPool,
    GreenThread,
    Group,
    Pool,
    ResultIterator,
    Task,
    as_completed,
    current_task,
    wait,
)


async def length(text: str) -> int:
    return len(text)


async def repeat(text: str, times: int = 1, *, sep: str = "") -> str:
    return sep.join([text] * times)


async def texts() -> AsyncIterator[str]:
    yield "a"


async def calls(pool: Pool) -> None:
    task = await pool.spawn(length, "a")
    assert_type(task, Task[int])
    assert_type(await task, int)
    assert_type(await task.get(timeout=1), int)
    assert_type(task.value, int | None)
    assert_type(task.exception, BaseException | None)
    assert_type(await task.kill(ValueError, reason="enough"), bool)
    task.kill_nowait(ValueError("enough"))
    assert_type(pool.spawn_nowait(repeat, "a", 3, sep=","), Task[str])
    assert_type(await pool.apply(repeat, ("a",), {"times": 3}), str)
    assert_type(await pool.apply_cb(length, ["a"], callback=print), int)
    assert_type(pool.apply_async(length, ("a",), callback=print), Task[int])
    made = Task(length, "a")
    assert_type(made, Task[int])
    await pool.start(made, timeout=1)
    await pool.add(made, blocking=False)
    pool.discard(made)
    made.link(lambda done: print(done.value))
    assert_type(await pool.killone(made, timeout=1), bool)
    assert_type(await pool.kill(block=False), bool)
    assert_type(await pool.join(raise_error=True), bool)


async def maps(pool: Pool) -> None:
    assert_type(await pool.map(length, ["a"]), list[int])
    assert_type(await pool.map(length, texts()), list[int])
    assert_type(await pool.map(length, ["a"], return_exceptions=True), list[int | Exception])
    assert_type(await pool.map(repeat, ["a"], [1]), list[str])
    assert_type(await pool.map_cb(length, ["a"], print), list[int])
    assert_type(pool.map_async(length, ["a"]), Task[list[int]])
    results = pool.imap(length, ["a"], maxsize=3)
    assert_type(results, ResultIterator[int])
    async for number in results:
        assert_type(number, int)
    async with pool.imap_unordered(length, texts(), return_exceptions=True) as either:
        async for outcome in either:
            assert_type(outcome, int | Exception)
    assert_type(pool.starmap(repeat, [("a", 3)]), ResultIterator[str])


async def without_a_pool() -> None:
    assert_type(await triopool.map(length, ["a"], size=3), list[int])
    async with triopool.imap(length, ["a"], size=trio.CapacityLimiter(3)) as results:
        assert_type(results, ResultIterator[int])
    async with triopool.imap_unordered(repeat, ["a"], [1], maxsize=2) as words:
        assert_type(words, ResultIterator[str])


async def blocks() -> None:
    async with Group(on_error=lambda task: print(task.name)) as group:
        assert_type(group, Group)
    async with Pool(10, on_error="log", reuse_tasks=False) as pool:
        assert_type(pool, Pool)
        assert_type(pool.size, int | None)
        pool.size = None
    async with trio.open_nursery() as nursery:
        opened: Pool = await nursery.start(Pool(trio.CapacityLimiter(3)).run)
        opened.close()


async def green() -> None:
    async with GreenPool(10.0) as pool:
        thread = await pool.spawn(length, "a")
        assert_type(thread, GreenThread[int])
        assert_type(await thread.wait(), int)
        thread.link(print, "done", sep=" ")
        assert_type(thread.unlink(print, "done", sep=" "), bool)
        await pool.spawn_n(length, "a")
    pile: GreenPile[int] = GreenPile(3)
    async with pile:
        await pile.spawn(length, "a")
        async for number in pile:
            assert_type(number, int)


async def waiting(task: Task[int]) -> None:
    assert_type(await wait([task], count=1), list[Task[int]])
    async for done in as_completed([task], timeout=3):
        assert_type(done, Task[int])
    assert_type(current_task() is None, bool)
