"""Calls of pools of threads that must type-check, and the types that come out of them."""

import functools
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import assert_type

import trio

from triopool import ResultIterator, Task, ThreadPool, ThreadPoolExecutor, as_completed, wait
from triopool._futures import Future as AwaitableFuture


def length(text: str) -> int:
    return len(text)


def repeat(text: str, times: int = 1, *, sep: str = "") -> str:
    return sep.join([text] * times)


async def texts() -> AsyncIterator[str]:
    yield "a"


def more_texts() -> Iterator[str]:
    yield "a"


async def note(value: object) -> None:
    print(value)


async def calls(pool: ThreadPool) -> None:
    task = await pool.spawn(length, "a")
    assert_type(task, Task[int])
    assert_type(await task, int)
    assert_type(await task.get(timeout=1), int)
    assert_type(task.value, int | None)
    assert_type(await task.kill(ValueError, reason="enough"), bool)
    assert_type(pool.spawn_nowait(repeat, "a", 3, sep=","), Task[str])
    assert_type(await pool.spawn(functools.partial(repeat, "a"), times=3), Task[str])
    assert_type(await pool.apply(repeat, ("a",), {"times": 3}), str)
    assert_type(await pool.apply(lambda: 3), int)
    assert_type(await pool.apply_cb(length, ["a"], callback=print), int)
    assert_type(await pool.apply_cb(length, ["a"], callback=note), int)
    assert_type(pool.apply_async(length, ("a",), callback=note), Task[int])
    made = Task(length, "a")
    assert_type(made, Task[int])
    await pool.start(made, timeout=1)
    await pool.add(made, blocking=False)
    pool.discard(made)
    assert_type(await pool.killone(made, timeout=1), bool)
    assert_type(await pool.kill(block=False), bool)
    assert_type(pool.kill_nowait(KeyError("x"), reason="enough"), None)
    assert_type(await pool.join(raise_error=True), bool)
    assert_type(await pool.wait_available(timeout=1), int)


async def maps(pool: ThreadPool) -> None:
    assert_type(await pool.map(length, ["a"]), list[int])
    assert_type(await pool.map(length, more_texts()), list[int])
    assert_type(await pool.map(length, texts()), list[int])
    assert_type(await pool.map(length, ["a"], return_exceptions=True), list[int | Exception])
    assert_type(await pool.map(repeat, ["a"], [1]), list[str])
    assert_type(await pool.map_cb(length, ["a"], print), list[int])
    assert_type(pool.map_async(length, texts(), note), Task[list[int]])
    results = pool.imap(length, ["a"], maxsize=3)
    assert_type(results, ResultIterator[int])
    async for number in results:
        assert_type(number, int)
    async with pool.imap_unordered(length, texts(), return_exceptions=True) as either:
        async for outcome in either:
            assert_type(outcome, int | Exception)
    assert_type(pool.imap_unordered(repeat, ["a"], texts(), maxsize=3), ResultIterator[str])
    assert_type(pool.starmap(repeat, [("a", 3)]), ResultIterator[str])
    assert_type(
        pool.starmap(repeat, [("a", 3)], 5, return_exceptions=True),
        ResultIterator[str | Exception],
    )


def inside(pool: ThreadPool) -> None:
    assert_type(trio.from_thread.run(pool.apply, length, ("a",)), int)
    assert_type(trio.from_thread.run_sync(pool.free_count), int)


async def blocks() -> None:
    async with ThreadPool() as pool:
        assert_type(pool, ThreadPool)
        assert_type(pool.maxsize, int | None)
        assert_type(pool.size, int)
        assert_type(pool.limiter, trio.CapacityLimiter)
        pool.maxsize = 3
        pool.size = 2
    async with ThreadPool(10, on_error="log", abandon_on_cancel=True) as pool:
        assert_type(len(pool), int)
        for task in pool:
            print(task.name, task in pool)
    async with ThreadPool(trio.CapacityLimiter(3), on_error=lambda task: print(task.name)):
        pass
    async with trio.open_nursery() as nursery:
        opened: ThreadPool = await nursery.start(ThreadPool(1).run)
        opened.close()


async def waiting(pool: ThreadPool) -> None:
    tasks = [await pool.spawn(length, "a")]
    assert_type(await wait(tasks, count=1), list[Task[int]])
    async for done in as_completed(tasks, timeout=3):
        assert_type(done, Task[int])
    future: Future[str] = Future()
    awaitable = ThreadPoolExecutor().submit(length, "a")
    assert_type(await awaitable, int)
    assert_type(await wait([awaitable]), list[AwaitableFuture[int]])
    both: list[Task[int] | Future[str]] = [*tasks, future]
    assert_type(await wait(both), list[Task[int] | Future[str]])
    async for either in as_completed(both):
        assert_type(either, Task[int] | Future[str])
    # A mixed list is accepted as it is. What its type is, mypy and pyright do not agree on.
    for mixed in await wait([tasks[0], future, awaitable], timeout=3):
        print(mixed.value if isinstance(mixed, Task) else mixed.result())
    async for mixed in as_completed((future, tasks[0]), timeout=3):
        print(mixed.value if isinstance(mixed, Task) else mixed.result())
