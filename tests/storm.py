"""Ctrl-C at random moments of a program that does a bit of everything, again and again.

``python tests/storm.py tasks --storms 100`` has another process press Ctrl-C at a random moment of
a run of Trio that would not end by itself, a hundred times; with ``--presses 3`` up to three times
in a run. After each run one `KeyboardInterrupt` must have come out and nothing else, and the books
must balance. What is wrong is printed; then it ends with 1.

With ``--once`` there is one run, somebody else presses Ctrl-C, and nobody catches what comes out.
"""

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import trio
from common import AsyncRows, imbalance, nothing
from soak import census
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from triopool import (
    GreenPile,
    GreenPool,
    Group,
    Pool,
    PoolFull,
    Task,
    ThreadPool,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

HANG = 100  # seconds: far beyond what any of this takes

# In `await f()` Python may handle a signal between the call and the await.
warnings.filterwarnings("ignore", "coroutine '.*' was never awaited")

# Whoever presses Ctrl-C: for each line it waits some seconds, then presses as often as it says.
PRESSER = """
import os, signal, sys, time
for line in sys.stdin:
    for delay in line.split():
        time.sleep(float(delay))
        os.kill(int(sys.argv[1]), signal.SIGINT)
    print(flush=True)
"""

pools: dict[Any, bool] = {}  # {a pool: whether it leaves threads behind, which go on a while}
presses = 1  # of Ctrl-C in a run, at most
# One for all runs: when a thread goes away, which Python keeps in a WeakSet, it may lose a Ctrl-C.
executor: list[ThreadPoolExecutor] = []
wrong: list[str] = []


# What is interrupted
#
# Between the call of `__aexit__` and its await Python may handle a signal, and then no block is
# left in order, Trio's own neither. So whoever has a block open here is protected from Ctrl-C; what
# is done in it is not.


async def call(x: int) -> int:
    await trio.lowlevel.checkpoint()
    if x % 7 == 6:
        raise ValueError(x)
    return x


async def quick(x: int) -> int:
    return x


async def cleans_up() -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()


async def nested(pool: Any, n: int) -> None:
    if n:
        await pool.apply(nested, (pool, n - 1))
        await pool.map(quick, range(3))


@disable_ki_protection
async def use(pool: Any) -> None:
    await pool.map(quick, range(20))
    await pool.map(call, AsyncRows(range(9)), return_exceptions=True)
    async with pool.imap(call, range(6), maxsize=2, return_exceptions=True) as results:
        async for _ in results:
            pass
    results = pool.imap_unordered(quick, iter(range(9)))
    await anext(results)
    del results
    tasks = [pool.apply_async(call, (x,), callback=nothing) for x in range(5)]
    async for task in as_completed(tasks[:3]):
        task.link(nothing)
    await wait(tasks)
    victims = [await pool.spawn(cleans_up) for _ in range(2)]
    victims.append(pool.apply_async(cleans_up))
    victims[0].kill_nowait()
    await pool.killone(victims[1])
    await pool.kill()
    try:
        pool.spawn_nowait(call, 1)
    except PoolFull:
        pass
    await pool.start(Task(quick, 1))
    await pool.apply(nested, (pool, 2))
    with trio.move_on_after(0):
        await pool.map(call, range(20))
    try:
        await pool.map(call, range(9))
    except ValueError:
        pass
    if isinstance(pool, Pool):
        pile: GreenPile[int] = GreenPile(pool)
        for x in range(4):
            await pile.spawn(call, x)
        await pile.next()
        del pile
    await pool.join()


@enable_ki_protection
async def tasks() -> None:
    kinds: list[Callable[[], Any]] = [
        lambda: Pool(3),
        lambda: Pool(2, reuse_tasks=False),
        Group,
        lambda: GreenPool(2),
    ]
    for make in kinds:
        pool = make()
        pools[pool] = False
        async with pool:
            await use(pool)


def sync_call(x: int) -> int:
    if x % 7 == 6:
        raise ValueError(x)
    return x


def sync_nested(pool: Any) -> int:
    assert trio.from_thread.run(pool.apply, sync_call, (1,)) == 1
    return sum(trio.from_thread.run(pool.map, sync_call, range(3)))


def asks() -> None:
    trio.from_thread.run(trio.sleep_forever)


@enable_ki_protection
async def threads() -> None:
    pool: Any = ThreadPool(3)
    pools[pool] = False
    async with pool:
        await use_threads(pool)
    pool = ThreadPool(trio.CapacityLimiter(2), abandon_on_cancel=True)
    pools[pool] = True
    async with pool:
        await leave_behind(pool)


@disable_ki_protection
async def use_threads(pool: Any) -> None:
    await pool.map(sync_call, range(20), return_exceptions=True)
    await pool.map(sync_call, (x % 5 for x in range(20)))
    async with pool.imap(sync_call, AsyncRows(range(6)), maxsize=2) as results:
        async for _ in results:
            pass
    results = pool.imap_unordered(sync_call, iter(range(6)))
    await anext(results)
    del results
    await wait([pool.apply_async(sync_call, (x,), callback=nothing) for x in range(5)])
    await pool.apply(sync_nested, (pool,))
    victims = [pool.apply_async(asks) for _ in range(5)]
    await trio.lowlevel.checkpoint()
    victims[0].kill_nowait()
    await pool.kill()
    with trio.move_on_after(0):
        await pool.map(sync_call, range(20))
    pool.size = 1
    await pool.join()


@disable_ki_protection
async def leave_behind(pool: Any) -> None:
    left = await pool.spawn(asks)
    await left.kill()
    await pool.map(sync_call, range(5))


@disable_ki_protection
async def executors() -> None:
    # Not `Future.cancel` and the like: a Ctrl-C in them leaves a lock of the standard library's
    # locked, for those who use Trio as for all others.
    if not executor:
        executor.append(ThreadPoolExecutor(2))
    futures = [executor[0].submit(sync_call, x) for x in range(7)]
    assert await futures[0] == 0
    try:
        await futures[6]
    except ValueError:
        pass
    await wait(futures)
    async for _ in as_completed(futures):
        pass


WORK = {"tasks": tasks, "threads": threads, "executors": executors}


# How it is interrupted


class Presser:
    """Another process, which presses Ctrl-C."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PRESSER, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @enable_ki_protection
    def press(self, delays: list[float]) -> None:
        """After each of these delays, in seconds."""
        assert self.process.stdin is not None
        # With nothing in between that a Ctrl-C could leave half done.
        os.write(self.process.stdin.fileno(), f"{' '.join(map(str, delays))}\n".encode())

    def wait(self) -> None:
        """Wait until it has pressed as often as it was told to."""
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def close(self) -> None:
        self.process.communicate()


def take(error: BaseException) -> None:
    """Note whatever came out of a run and is not what is to come out."""
    if type(error) is KeyboardInterrupt:
        return
    wrong.append("".join(traceback.format_exception(error)))


@enable_ki_protection
async def until_pressed(work: Callable[[], Any], presser: Presser, delays: list[float]) -> None:
    presser.press(delays)
    try:
        while True:
            await work()
    finally:
        # The end of Trio itself cannot take one more.
        signal.signal(signal.SIGINT, nothing)


def run_until_pressed(work: Callable[[], Any], presser: Presser, delays: list[float]) -> None:
    """Have one run of Trio interrupted; afterwards Ctrl-C does nothing."""

    error: BaseException | None = None
    try:
        trio.run(until_pressed, work, presser, delays)
    except BaseException as caught:
        error = caught
    while True:
        try:
            signal.signal(signal.SIGINT, nothing)
            break
        except KeyboardInterrupt:  # one that came late
            pass
    if error is not None:
        take(error)


def unraisable(what: "sys.UnraisableHookArgs") -> None:
    # Not the one that ends the run; another, while Trio closed its wakeup fd, or after that.
    if presses > 1 and issubclass(what.exc_type, KeyboardInterrupt | OSError):
        return
    # At once, for a Ctrl-C that is lost here makes the run endless.
    error = "".join(traceback.format_exception(what.exc_value))
    print(f"{what.err_msg or 'ignored in'} {what.object!r}:\n{error}", flush=True)
    wrong.append("something unraisable")


def in_a_thread(what: threading.ExceptHookArgs) -> None:
    wrong.append(f"in {what.thread!r}: {what.exc_value!r}")


def check_books() -> None:
    wrong.extend(filter(None, map(imbalance, pools)))
    tidy = [pool for pool, leaves in pools.items() if not leaves]
    names = [f"{type(pool).__name__} at {id(pool):#x}" for pool in tidy]
    pools.clear()
    busy = [each for each in threading.enumerate() if each.name.startswith(tuple(names))]
    if busy:
        wrong.append(f"threads still work for pools that are over: {busy}")


def storm(work: Callable[[], Any], storms: int, seed: int) -> None:
    """Interrupt so many runs, each at random moments."""
    rng = random.Random(seed)
    presser = Presser()
    trio.run(work)
    started = time.perf_counter()
    for _ in range(3):
        trio.run(work)
    length = (time.perf_counter() - started) / 3
    check_books()
    before = census()
    for number in range(storms):
        faulthandler.dump_traceback_later(HANG, exit=True)
        delays = [rng.uniform(0, 1.5 * length)]
        delays += [rng.uniform(0, length / 20) for _ in range(rng.randrange(presses))]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            run_until_pressed(work, presser, delays)
        except KeyboardInterrupt:  # one that came late
            signal.signal(signal.SIGINT, nothing)
        presser.wait()
        check_books()
        if wrong:
            print(f"storm {number} of seed {seed}, {len(delays)} presses")
            break
    presser.close()
    faulthandler.cancel_dump_traceback_later()
    more = census() - before
    if more:
        wrong.append(f"objects that were left: {dict(more)}")


async def once(work: Callable[[], Any]) -> None:
    while True:
        await work()
        pools.clear()
        print("round", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Press Ctrl-C at random moments.")
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--storms", type=int, default=100)
    parser.add_argument("--presses", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    global presses
    presses = options.presses
    work = WORK[options.work]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.once:
        faulthandler.dump_traceback_later(HANG, exit=True)
        trio.run(once, work)
    sys.unraisablehook = unraisable
    threading.excepthook = in_a_thread
    storm(work, options.storms, options.seed)
    if wrong:
        sys.exit("\n".join(["", *wrong]))
    print(f"{options.storms} storms")


if __name__ == "__main__":
    main()
