"""What lasts: very many calls of mixed fate in pools that stay open, and very many pools.

``python tests/soak.py --calls 1000000 --cycles 10000`` makes so many calls (a fifth of them fail, a
fifth are killed) and opens and closes so many pools. It looks for three things as it goes:

- what becomes of each call is what was meant to, and the books of each pool balance;
- memory stays where it was after a warm-up, in blocks of Python's allocator and in pages;
- between pools, the garbage collector knows no object of the package, or of Trio, that was not
  there at the beginning.

It prints its figures and ends with 0, or says what grew and ends with 1.
"""

import argparse
import contextlib
import gc
import os
import random
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio
from common import AsyncRows, imbalance
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import (
    GreenPile,
    GreenPool,
    Group,
    Pool,
    Task,
    TaskKilled,
    TaskStatus,
    ThreadPool,
    ThreadPoolExecutor,
    current_task,
)

HOME = str(Path(triopool.__file__).parent)

# What a call is to do. What is doomed is killed while somebody has its task, or else is dropped: it
# is killed with its map or its iterator.
GOOD, QUICK, BAD, DOOMED, DROPPED = "good", "quick", "bad", "doomed", "dropped"
FAILED, KILLED = [BAD], [DOOMED, DROPPED]

WARM_UP = 0.1  # of the calls, and of the pools
# A leak of the smallest object in each call is 16 bytes, and one block.
BYTES_A_CALL, BLOCKS_A_CALL = 8, 1 / 16
BYTES_A_CYCLE, BLOCKS_A_CYCLE = 64, 1 / 4
SLACK_BYTES = 3_000_000  # holes in the heap, caches of the C library's
SLACK_BLOCKS = 400  # caches of Python's


class Oops(Exception):
    """What a call fails with; its argument is the call's number."""


class Grown(Exception):
    """There is more of something than there was."""


class Tally:
    """How the calls ended."""

    def __init__(self, seed: int, leak: str | None = None) -> None:
        self.rng = random.Random(seed)
        self.leak = leak
        self.leaked: list[object] = []
        self.ends: Counter[str] = Counter()
        self.lock = threading.Lock()

    def calls(self) -> int:
        return self.ends.total()

    def end(self, fate: str) -> None:
        with self.lock:
            self.ends[fate] += 1
        if self.leak == "call":
            self.leaked.append(object())

    def share(self, fates: list[str]) -> float:
        return sum(self.ends[fate] for fate in fates) / self.calls()


# The functions that are called


class AsyncFuncs:
    """Functions for pools of tasks."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    async def call(self, x: int, fate: str) -> int:
        if fate != QUICK:
            await trio.lowlevel.checkpoint()
        if fate == BAD:
            raise Oops(x)
        if fate == DOOMED:
            await trio.sleep_forever()
        if fate == DROPPED:
            try:
                await trio.sleep_forever()
            finally:
                self.tally.end(DROPPED)
        return x

    async def row(self, row: tuple[int, str]) -> int:
        return await self.call(*row)

    async def nested(self, pool: Any, x: int) -> list[Any]:
        task = current_task()
        assert task is not None
        task.link(lambda _: None)
        assert await pool.apply(self.call, (x, GOOD)) == x
        return await pool.map(self.row, [(x, QUICK), (x + 1, GOOD)])

    async def hold(self, go: trio.Event) -> None:
        await go.wait()


class SyncFuncs:
    """Functions for pools of threads."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def call(self, x: int, fate: str) -> int:
        if fate == BAD:
            raise Oops(x)
        if fate == DOOMED:
            trio.from_thread.run(trio.sleep_forever)
        if fate == DROPPED:
            try:
                trio.from_thread.run(trio.sleep_forever)
            finally:
                self.tally.end(DROPPED)
        return x

    def row(self, row: tuple[int, str]) -> int:
        return self.call(*row)

    def nested(self, pool: Any, x: int) -> list[Any]:
        run = trio.from_thread.run
        assert run(pool.apply, self.call, (x, GOOD)) == x
        return run(pool.map, self.row, [(x, QUICK), (x + 1, GOOD)])

    def hold(self, go: trio.Event) -> None:
        trio.from_thread.run(go.wait)


# Calls, in pools that stay open


class Round:
    """Things to do with one pool that is open; after each it is idle."""

    def __init__(self, pool: Any, tally: Tally) -> None:
        self.pool = pool
        self.tally = tally
        self.rng = tally.rng
        self.funcs: Any = (SyncFuncs if isinstance(pool, ThreadPool) else AsyncFuncs)(tally)
        self.deeds = [self.spawned, self.killed, self.cancelled, self.mapped, self.in_place]
        self.deeds += [self.failed_fast, self.iterated, self.dropped, self.unobserved]
        if isinstance(pool, Pool):
            self.deeds.append(self.piled)

    async def run(self) -> None:
        for deed in self.rng.sample(self.deeds, len(self.deeds)):
            try:
                await deed()
                await self.pool.join(raise_error=True)
                assert not imbalance(self.pool), imbalance(self.pool)
            except BaseException as error:
                error.add_note(f"in {deed.__name__} of {self.pool!r}")
                raise

    async def fill(self) -> None:
        """Leave behind as many idle workers as are kept, so that it is always as many."""
        go = trio.Event()
        for _ in range(300):
            self.pool.apply_async(self.funcs.hold, (go,))
        await wait_all_tasks_blocked()
        go.set()
        await self.pool.join()
        await wait_all_tasks_blocked()

    def rows(self, count: int, fates: dict[str, int]) -> list[tuple[int, str]]:
        chosen = self.rng.choices(list(fates), list(fates.values()), k=count)
        return list(enumerate(chosen))

    def source(self, rows: list[Any]) -> Any:
        return self.rng.choice([list, iter, generator, AsyncRows])(rows)

    def maxsize(self) -> int | None:
        return self.rng.choice([None, 1, 5, 20])

    async def some_passes(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await trio.lowlevel.checkpoint()

    def expect(self, row: tuple[int, str], result: object) -> None:
        x, fate = row
        if fate == BAD:
            assert isinstance(result, Oops), result
            assert result.args == (x,)
        else:
            assert result == x
        self.tally.end(fate)

    async def over(self, task: Task[Any], row: tuple[int, str]) -> None:
        if row[1] == DOOMED:
            try:
                await task
            except (TaskKilled, KeyError):
                assert task.status is TaskStatus.KILLED
                self.tally.end(DOOMED)
            else:
                raise AssertionError(f"{task!r} was not killed")
        else:
            try:
                self.expect(row, await task)
            except Oops as error:
                self.expect(row, error)

    async def spawned(self) -> None:
        """Calls of all fates, some of which wait for their slot."""
        pool, rng, call = self.pool, self.rng, self.funcs.call
        rows = self.rows(60, {GOOD: 1, QUICK: 1, BAD: 1, DOOMED: 3})
        tasks: list[Task[Any]] = []
        for row in rows:
            if pool.full():
                tasks.append(pool.apply_async(call, row))
            elif rng.random() < 0.5:
                tasks.append(pool.spawn_nowait(call, *row))
            else:
                task = Task(call, *row)
                await pool.start(task)
                tasks.append(task)
        await self.some_passes()
        for task, (_, fate) in zip(tasks, rows, strict=True):
            if fate == DOOMED:
                await self.kill(task)
        for task, row in zip(tasks, rows, strict=True):
            await self.over(task, row)

    async def kill(self, task: Task[Any]) -> None:
        how = self.rng.randrange(4)
        if how == 0:
            await task.kill(KeyError("mine"))
        elif how == 1 and task in self.pool:
            await self.pool.killone(task, block=False)
        else:
            task.kill_nowait(reason="enough")

    async def killed(self) -> None:
        """All of the pool is killed: what runs, what waits, and an iterator."""
        rows = self.rows(30, {DOOMED: 1})
        tasks = [self.pool.apply_async(self.funcs.call, row) for row in rows]
        dropped = self.rows(10, {DROPPED: 1})
        results = self.pool.imap_unordered(self.funcs.row, self.source(dropped), maxsize=5)
        await self.some_passes()
        await self.pool.kill()
        for task, row in zip(tasks, rows, strict=True):
            await self.over(task, row)
        with contextlib.suppress(TaskKilled):
            await anext(results)

    async def cancelled(self) -> None:
        """Whoever called `map` or `apply` is cancelled."""
        rows = self.rows(20, {DROPPED: 1})
        pool, funcs = self.pool, self.funcs
        for func, *args in (
            (pool.map, funcs.row, self.source(rows)),
            (pool.apply, funcs.call, rows[0]),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(func, *args)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

    async def mapped(self) -> None:
        rows = self.rows(120, {GOOD: 4, QUICK: 4, BAD: 2})
        results = await self.pool.map(self.funcs.row, self.source(rows), return_exceptions=True)
        for row, result in zip(rows, results, strict=True):
            self.expect(row, result)

    async def failed_fast(self) -> None:
        """One row of a map fails, and so the others are dropped."""
        rows = self.rows(12, {DROPPED: 1})
        rows[self.rng.randrange(3)] = bad = (99, BAD)
        try:
            await self.pool.map(self.funcs.row, self.source(rows))
        except Oops as error:
            self.expect(bad, error)

    async def iterated(self) -> None:
        """An iterator is read to its end; errors are raised at their place."""
        rows = self.rows(120, {GOOD: 4, QUICK: 4, BAD: 2})
        results = self.pool.imap(self.funcs.row, self.source(rows), maxsize=self.maxsize())
        for row in rows:
            try:
                self.expect(row, await anext(results))
            except Oops as error:
                self.expect(row, error)
        assert [x async for x in results] == []

    async def dropped(self) -> None:
        """Iterators are read a bit, and then dropped, left, or closed."""
        pool, rng = self.pool, self.rng
        for make, func in ((pool.imap, self.funcs.row), (pool.starmap, self.funcs.call)):
            read = self.rows(rng.randrange(1, 8), {GOOD: 2, QUICK: 1, BAD: 1})
            rows = [*read, *self.rows(15, {GOOD: 1, BAD: 1, DROPPED: 8})]
            results = make(func, self.source(rows), maxsize=self.maxsize(), return_exceptions=True)
            for row in read:
                self.expect(row, await anext(results))
            if rng.random() < 0.5:
                await wait_all_tasks_blocked()
            how = rng.randrange(4)
            if how == 0:
                await results.aclose()
            elif how == 1:
                async with results:
                    pass
            del results

    async def piled(self) -> None:
        """A pile is read a bit, and left."""
        rows = self.rows(30, {GOOD: 2, QUICK: 1, BAD: 1})
        pile: GreenPile[Any] = GreenPile(self.pool, return_exceptions=True)
        async with pile:
            for row in rows:
                await pile.spawn(self.funcs.call, *row)
            for row in rows[:25]:
                self.expect(row, await pile.next())

    async def in_place(self) -> None:
        x = self.rng.randrange(100)
        task = await self.pool.spawn(self.funcs.nested, self.pool, x)
        assert await task == [x, x + 1]
        for _ in range(4):
            self.tally.end(GOOD)

    async def unobserved(self) -> None:
        """Calls fail, and nobody waits for them."""
        rows = self.rows(10, {BAD: 1})
        for row in rows:
            self.pool.apply_async(self.funcs.call, row)
        try:
            await self.pool.join(raise_error=True)
        except* Oops as group:
            by_number = sorted(group.exceptions, key=lambda error: error.args)
            for row, error in zip(rows, by_number, strict=True):
                self.expect(row, error)


def generator(rows: list[Any]) -> Iterator[Any]:
    yield from rows


STAY_OPEN: list[Callable[[], Any]] = [
    lambda: Pool(10),
    Group,
    lambda: GreenPool(3),
    lambda: Pool(5, reuse_tasks=False),
    lambda: ThreadPool(4),
]


async def make_calls(tally: Tally, calls: int, say: Callable[[str], None]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        rounds = [Round(await stack.enter_async_context(make()), tally) for make in STAY_OPEN]
        before: Memory | None = None
        while tally.calls() < calls:
            for each in rounds:
                await each.run()
            if before is None and tally.calls() >= WARM_UP * calls:
                before, since = await settled(rounds), tally.calls()
        after = await settled(rounds)
    assert before is not None
    count = tally.calls() - since
    say(
        f"{tally.calls():,} calls, of which {tally.share(FAILED):.0%} failed and "
        f"{tally.share(KILLED):.0%} were killed"
    )
    say(f"memory in {count:,} calls after the warm-up: {after.since(before)}")
    after.check(before, BLOCKS_A_CALL * count, BYTES_A_CALL * count)
    assert tally.share(FAILED) > 0.18, tally.ends
    assert tally.share(KILLED) > 0.18, tally.ends


async def settled(rounds: list[Round]) -> "Memory":
    for each in rounds:
        await each.fill()
    return Memory()


# Pools


class Cycle:
    """Ways to open a pool, to use it, and to leave it."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.rng = tally.rng
        self.ways = [
            self.returns, self.fails, self.body_fails, self.is_cancelled, self.is_killed,
            self.lies_open, self.runs, self.waits_in_line, self.adds, self.links,
            self.one_shot, self.pile, self.thread_pool, self.leaves_behind, self.executor,
            self.never_entered,
        ]  # fmt: skip

    async def run(self, count: int) -> None:
        for number in range(count):
            way = self.ways[number % len(self.ways)]
            try:
                await way()
            except BaseException as error:
                error.add_note(f"in {way.__name__}")
                raise

    def pool(self) -> Any:
        kind = self.rng.choice([Group, Pool, lambda **kw: Pool(2, **kw), lambda **kw: GreenPool(2)])
        pool = kind(reuse_tasks=self.rng.random() < 0.7)
        if self.tally.leak == "pool":
            self.tally.leaked.append(pool)
        return pool

    async def returns(self) -> None:
        async with self.pool() as pool:
            await pool.spawn(self.call, 1)
            assert await pool.map(self.call, range(3)) == [0, 1, 2]

    async def call(self, x: int) -> int:
        await trio.lowlevel.checkpoint()
        return x

    async def fail(self, *_: object) -> None:
        raise Oops

    async def fails(self) -> None:
        try:
            async with self.pool() as pool:
                await pool.spawn(self.fail)
                await pool.apply_async(self.fail).join()
                results = pool.imap(self.fail, range(4))
                with contextlib.suppress(Oops):
                    await anext(results)
                await wait_all_tasks_blocked()
        except* Oops:
            pass

    async def body_fails(self) -> None:
        try:
            async with self.pool() as pool:
                await pool.spawn(trio.sleep_forever)
                pool.apply_async(self.fail)
                raise Oops
        except* Oops:
            pass

    async def is_cancelled(self) -> None:
        with trio.CancelScope() as scope:
            async with self.pool() as pool:
                await pool.spawn(trio.sleep_forever)
                async for _ in pool.imap(self.call, range(5)):
                    scope.cancel()
        assert scope.cancelled_caught

    async def is_killed(self) -> None:
        async with self.pool() as pool:
            await pool.spawn(trio.sleep_forever)
            pool.apply_async(trio.sleep_forever)
            await pool.kill()

    async def lies_open(self) -> None:
        """The block is left while iterators are open, which may be in a cycle."""
        async with self.pool() as pool:
            kept = [pool.imap(self.call, range(9), maxsize=2)]
            kept.append(kept)
            assert await anext(kept[0]) == 0

    async def runs(self) -> None:
        async with trio.open_nursery() as nursery:
            pool = await nursery.start(self.pool().run)
            task = await pool.spawn(self.call, 1)
            pool.close()
            assert await task == 1

    async def waits_in_line(self) -> None:
        async with Pool(0) as pool:
            task = pool.apply_async(self.call, (1,))
            with trio.move_on_after(0):
                await pool.spawn(self.call, 2)
            pool.size = 1
            assert await task == 1

    async def adds(self) -> None:
        async with self.pool() as pool:
            task = await pool.spawn(trio.sleep_forever)
            async with Group([task]) as other:
                assert task in other
                await other.kill()

    async def links(self) -> None:
        async with self.pool() as pool:
            task = await pool.spawn(self.call, 1)
            task.link(lambda _: (task, pool))

    async def one_shot(self) -> None:
        assert await triopool.map(self.call, range(3)) == [0, 1, 2]
        async with triopool.imap(self.call, range(3), size=2) as results:
            assert await anext(results) == 0

    async def pile(self) -> None:
        async with GreenPile[int](2) as pile:
            for x in range(3):
                await pile.spawn(self.call, x)
            assert await pile.next() == 0

    async def thread_pool(self) -> None:
        async with ThreadPool(2) as pool:
            task = await pool.spawn(trio.from_thread.run, trio.sleep_forever)
            assert await pool.map(abs, range(5)) == [0, 1, 2, 3, 4]
            assert await pool.map(int, ["x"], return_exceptions=True)
            task.kill_nowait()

    async def leaves_behind(self) -> None:
        gate = threading.Event()
        limiter = trio.CapacityLimiter(1)
        async with ThreadPool(limiter, abandon_on_cancel=True) as pool:
            await (await pool.spawn(gate.wait)).kill()
            gate.set()
        async with limiter:  # the thread is free
            pass

    async def executor(self) -> None:
        async with ThreadPoolExecutor(1) as executor:
            gate = threading.Event()
            first = executor.submit(gate.wait)
            second = executor.submit(int)
            third = executor.submit(int, "x")
            assert second.cancel()
            gate.set()
            assert await first
            assert isinstance(third.exception(), ValueError)
            assert list(executor.map(abs, range(3))) == [0, 1, 2]

    async def never_entered(self) -> None:
        pool = self.pool()
        Task(self.call, 1).kill_nowait()
        assert len(pool) == 0


async def open_and_close(tally: Tally, cycles: int, say: Callable[[str], None]) -> None:
    cycle = Cycle(tally)
    rest = cycles - max(len(cycle.ways), int(WARM_UP * cycles))
    await cycle.run(cycles - rest)
    before = Memory()
    await cycle.run(rest)
    after = Memory()
    say(f"{cycles:,} pools opened and closed")
    say(f"memory in {rest:,} pools after the warm-up: {after.since(before)}")
    after.check(before, BLOCKS_A_CYCLE * rest, BYTES_A_CYCLE * rest)


# What there is


class Memory:
    """How much there is now, once the garbage is gone."""

    def __init__(self) -> None:
        for _ in range(3):
            gc.collect()
        self.blocks = sys.getallocatedblocks()
        self.bytes = resident()

    def since(self, before: "Memory") -> str:
        return f"{self.blocks - before.blocks:+,} blocks, {self.bytes - before.bytes:+,} bytes"

    def check(self, before: "Memory", blocks: float, size: float) -> None:
        if self.blocks - before.blocks > blocks + SLACK_BLOCKS:
            raise Grown(f"more than {blocks + SLACK_BLOCKS:,.0f} blocks: {self.since(before)}")
        if self.bytes - before.bytes > size + SLACK_BYTES:
            raise Grown(f"more than {size + SLACK_BYTES:,.0f} bytes: {self.since(before)}")


def resident() -> int:
    """The bytes of this process that are in memory; 0 where nobody says."""
    path = Path("/proc/self/statm")
    if not path.exists():
        return 0
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# What else is the package's: what runs its code, by where it says so
CODE: dict[type, str] = {
    types.FunctionType: "__code__",
    types.FrameType: "f_code",
    types.CoroutineType: "cr_code",
    types.GeneratorType: "gi_code",
    types.AsyncGeneratorType: "ag_code",
}
# Threads that are idle, for some seconds; and a mark for each function that was told of Ctrl-C.
TRIO_KEEPS = {"WorkerThread", "_IdRef"}


def census() -> Counter[str]:
    """What the garbage collector knows of that is the package's own, or Trio's, by type."""
    for _ in range(3):
        gc.collect()
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        package = kind.__module__.partition(".")[0]
        if package in ("triopool", "trio") and kind.__name__ not in TRIO_KEEPS:
            found[f"{kind.__module__}.{kind.__qualname__}"] += 1
        elif attribute := CODE.get(kind):
            code = getattr(each, attribute)
            if code.co_filename.startswith(HOME):
                found[f"{kind.__name__} of {code.co_qualname}"] += 1
    return found


def check_census(before: Counter[str], say: Callable[[str], None]) -> None:
    more = census() - before
    if more:
        raise Grown(f"objects that were left: {dict(more)}")
    say("no object of the package is left, and none of Trio's")


# All of it


async def soak(
    calls: int, cycles: int, seed: int = 0, leak: str | None = None, say: Any = print
) -> None:
    """Make so many calls, and so many pools."""
    tally = Tally(seed, leak)
    await Cycle(tally).run(100)
    before = census()
    started = time.perf_counter()
    for work, count in ((make_calls, calls), (open_and_close, cycles)):
        await work(tally, count, say)
        check_census(before, say)
        say(f"{time.perf_counter() - started:.1f} s")
        started = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description="Soak the pools.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leak", choices=["call", "pool"], help="to see that it is found")
    options = parser.parse_args()
    try:
        trio.run(lambda: soak(**vars(options)))
    except Grown as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
