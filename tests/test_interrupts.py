"""Ctrl-C, anywhere: one KeyboardInterrupt leaves, no slot is lost, nothing hangs."""

import random
import signal
import subprocess
import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import (
    GreenPile,
    GreenPool,
    Group,
    Pool,
    Task,
    TaskStatus,
    current_task,
)
from triopool._rows import TaskRows

KINDS = pytest.mark.parametrize("kind", [Group, Pool, GreenPool])


async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x


def interrupt(*_):
    """Press Ctrl-C: in a function of the user's it must strike at once."""
    signal.raise_signal(signal.SIGINT)
    pytest.fail("the function is protected from KeyboardInterrupt")


async def interrupt_async(*_):
    interrupt()


async def interrupt_later(*_):
    await trio.lowlevel.checkpoint()
    interrupt()


def interrupt_in_one(x):
    return interrupt() if x == 2 else double(x)


async def interrupt_in_one_async(x):
    if x == 2:
        interrupt()


async def interrupt_in_one_later(x):
    await trio.lowlevel.checkpoint()
    if x == 2:
        interrupt()


def interrupting_rows():
    yield 1
    interrupt()


async def interrupting_async_rows():
    yield 1
    await trio.lowlevel.checkpoint()
    interrupt()


class InterruptingTask(Task):
    async def run(self):
        interrupt()


async def read(results):
    return [x async for x in results]


async def in_member(pool, func, *args):
    async def member():
        await func(*args)

    await pool.apply(member)


async def spawn_and_wait(pool, func):
    await (await pool.spawn(func)).join()


async def link(pool):
    task = await pool.spawn(double, 1)
    task.link(interrupt)
    await task.join()
    await trio.sleep_forever()


async def link_when_over(pool):
    task = await pool.spawn(double, 1)
    await task
    task.link(interrupt)


async def link_in_place(pool):
    async def inner():
        current_task().link(interrupt)

    await in_member(pool, pool.apply, inner)


async def iterate(pool, method, func, rows):
    await read(getattr(pool, method)(func, rows))


async def in_place_green(pool):
    async with GreenPool(1) as green:
        await in_member(green, green.spawn, interrupt_later)


async def pile(pool):
    pile = GreenPile(pool)
    await pile.spawn(interrupt_later)
    await pile.next()


async def callback_of_apply_async(pool, callback):
    pool.apply_async(double, (1,), callback=callback)
    await trio.sleep_forever()


async def on_error(pool):
    async def fail():
        raise ValueError("broken")

    async with Pool(on_error=interrupt) as other:
        await other.spawn(fail)


async def while_killed(pool):
    async def cleans_up():
        try:
            await trio.sleep_forever()
        finally:
            interrupt()

    task = await pool.spawn(cleans_up)
    await wait_all_tasks_blocked()
    await task.kill()


async def while_waiting(pool):
    task = await pool.spawn(trio.sleep_forever)
    await pool.spawn(interrupt_later)
    await task.get()


async def start_of_a_task_class(pool):
    await pool.start(InterruptingTask())
    await trio.sleep_forever()


PLACES = {
    "the body of the block": lambda pool: interrupt_later(),
    "a call": lambda pool: spawn_and_wait(pool, interrupt_later),
    "a call's first line": lambda pool: spawn_and_wait(pool, interrupt_async),
    "a function that returns a coroutine": lambda pool: pool.spawn(interrupt),
    "apply": lambda pool: pool.apply(interrupt_later),
    "apply in place": lambda pool: in_member(pool, pool.apply, interrupt_later),
    "GreenPool.spawn in place": in_place_green,
    "the run of a task class": start_of_a_task_class,
    "a row of map": lambda pool: pool.map(interrupt_in_one_later, range(9)),
    "a row of map without a checkpoint": lambda pool: pool.map(interrupt_in_one_async, range(9)),
    "a row whose function returns a coroutine": lambda pool: pool.map(interrupt_in_one, range(9)),
    "a row of map in a member": lambda pool: in_member(
        pool, pool.map, interrupt_in_one_later, [1, 2]
    ),
    "a row of map_async": lambda pool: pool.map_async(interrupt_later, [1]).get(),
    "a row of imap": lambda pool: iterate(pool, "imap", interrupt_in_one_later, [1, 2]),
    "a row of imap_unordered": lambda pool: iterate(
        pool, "imap_unordered", interrupt_in_one_later, [1, 2]
    ),
    "a row of starmap": lambda pool: iterate(pool, "starmap", interrupt_in_one_later, [(1,), (2,)]),
    "the input of map": lambda pool: pool.map(double, interrupting_rows()),
    "the input of imap": lambda pool: iterate(pool, "imap", double, interrupting_rows()),
    "a generator expression as input": lambda pool: pool.map(
        double, (x or interrupt() for x in [1, 1, 1, 0])
    ),
    "an async input": lambda pool: pool.map(double, interrupting_async_rows()),
    "a call of a pile": pile,
    "a link": link,
    "a link to a task that is over": link_when_over,
    "a link of a call in place": link_in_place,
    "the callback of apply_cb": lambda pool: pool.apply_cb(double, (1,), callback=interrupt),
    "an async callback of apply_cb": lambda pool: pool.apply_cb(
        double, (1,), callback=interrupt_later
    ),
    "the callback of apply_async": lambda pool: callback_of_apply_async(pool, interrupt),
    "an async callback of apply_async": lambda pool: callback_of_apply_async(pool, interrupt_later),
    "the callback of map_cb": lambda pool: pool.map_cb(double, [1], interrupt),
    "the callback of map_async": lambda pool: pool.map_async(double, [1], interrupt).get(),
    "on_error": on_error,
    "the cleanup of a killed call": while_killed,
    "a call beside one that is waited for": while_waiting,
}


@KINDS
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_ctrl_c_strikes_at_once_and_leaves_the_pool_bare(kind, place):
    pools = []

    async def main():
        async with kind() as pool:
            pools.append(pool)
            bystander = await pool.spawn(trio.sleep_forever)
            try:
                await place(pool)
            finally:
                pools.append(bystander)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    pool, bystander = pools
    assert pool.limiter.borrowed_tokens == 0
    assert len(pool) == 0
    assert bystander.status is TaskStatus.KILLED


@KINDS
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(3)], ids=repr)
@pytest.mark.parametrize("method", ["spawn", "apply", "map", "imap"])
def test_what_is_no_exception_takes_the_pool_down_and_leaves_bare(kind, error, method):
    async def call(x=2):
        await trio.lowlevel.checkpoint()
        if x == 2:
            raise error

    async def main():
        async with kind() as pool:
            await pool.spawn(trio.sleep_forever)
            if method in {"spawn", "apply"}:
                await getattr(pool, method)(call)
            elif method == "map":
                await pool.map(call, [1, 2])
            else:
                await read(pool.imap(call, [1, 2]))

    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        trio.run(main)
    assert type(caught.value) is (error if isinstance(error, type) else type(error))


@KINDS
def test_what_is_no_exception_comes_out_of_a_group_with_errors_as_it_went_in(kind):
    async def call():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    async def fail():
        try:
            await trio.sleep_forever()
        finally:
            raise SystemExit(3)

    async def main():
        async with kind() as pool:
            await pool.spawn(call)
            await wait_all_tasks_blocked()
            raise KeyError("body")

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(SystemExit)
    assert caught.group_contains(KeyError, match="body")
    assert not caught.group_contains(trio.Cancelled)


def test_ctrl_c_while_everything_waits_reaches_the_main_task():
    pools = []

    async def main():
        async with Pool(1) as pool:
            pools.append(pool)
            await pool.spawn(trio.sleep_forever)
            pool.apply_async(trio.sleep_forever)
            token = trio.lowlevel.current_trio_token()
            token.run_sync_soon(signal.raise_signal, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert pools[0].limiter.borrowed_tokens == 0


# What a program goes through below while it is interrupted: a bit of everything, for as long as
# one likes. The books are checked by whoever ran it.
PROGRAM = """
import faulthandler
import gc
import signal
import sys

import trio
from triopool import (
    GreenPile, GreenPool, Group, Pool, PoolDeadlock, PoolFull, Task, TaskKilled, as_completed, wait
)

faulthandler.dump_traceback_later(60, exit=True)  # if it hangs
pools = []


async def call(x):
    await trio.lowlevel.checkpoint()
    if x % 7 == 6:
        raise ValueError(x)
    return x


async def plain(x):
    return x


async def recursive(pool, n):
    await trio.lowlevel.checkpoint()
    if n:
        await pool.apply(recursive, (pool, n - 1))
        await pool.map(plain, range(3))


class arows:
    # Not an async generator: Trio keeps those in a WeakSet, and in a callback of that Python loses
    # a Ctrl-C, with or without a pool.
    def __init__(self, n):
        self.rows = iter(range(n))

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        for x in self.rows:
            return x
        raise StopAsyncIteration


@trio.lowlevel.disable_ki_protection
async def some(pool):
    await pool.map(plain, range(20))
    await pool.map(call, range(20), return_exceptions=True)
    async with pool.imap(call, arows(6), maxsize=2) as results:
        async for _ in results:
            pass
    async with pool.imap_unordered(plain, iter(range(9))) as results:
        async for _ in results:
            break
    tasks = [pool.apply_async(call, (x,), callback=print_nothing) for x in range(5)]
    async for task in as_completed(tasks[:3]):
        assert task.ready()
    await wait(tasks)
    victim = await pool.spawn(trio.sleep_forever)
    await victim.kill()
    try:
        pool.spawn_nowait(call, 1)
    except PoolFull:
        pass
    task = Task(plain, 1)
    await pool.start(task)
    await task
    await pool.apply(recursive, (pool, 2))
    with trio.move_on_after(0):
        await pool.map(call, range(20))
    async with GreenPile(pool) as pile:
        for x in range(4):
            await pile.spawn(call, x)
        async for _ in pile:
            break


def print_nothing(_):
    pass


# Python may handle a signal between the call of `__aexit__` and its await: then the end of a block
# is missed, be it that of a pool or of a nursery.
@trio.lowlevel.enable_ki_protection
async def round():
    for make in (lambda: Pool(3), lambda: Group(reuse_tasks=False), lambda: GreenPool(2)):
        async with make() as pool:
            pools.append(pool)
            await some(pool)
            await pool.join()
            await pool.kill()


def check():
    gc.collect()
    for pool in pools:
        books = pool.limiter.statistics()
        assert (books.borrowed_tokens, books.tasks_waiting, len(pool)) == (0, 0, 0), books
    pools.clear()
"""

FOR_EVER = (
    PROGRAM
    + """
async def main():
    while True:
        await round()
        print("round", flush=True)


try:
    trio.run(main)
except KeyboardInterrupt:
    check()
    print("interrupted", flush=True)
"""
)


@pytest.mark.parametrize("seed", range(25))
def test_ctrl_c_at_a_random_moment_ends_a_program_with_one_keyboardinterrupt(seed):
    moment = random.Random(seed)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FOR_EVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        for _ in range(moment.randrange(1, 6)):
            assert program.stdout.readline() == "round\n"
        for _ in range(moment.randrange(20_000)):
            pass  # some way into the next round
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate()
    assert errors == ""
    assert output.splitlines()[-1] == "interrupted"
    assert program.returncode == 0


AT_A_LINE = (
    PROGRAM
    + '''
import functools
import linecache
import os
import random
import re
import warnings

import triopool

HERE = os.path.dirname(triopool.__file__)
# In `await f()` Python itself may handle a signal between the call and the await.
warnings.filterwarnings("ignore", "coroutine '.*' was never awaited")
# The end of a block shows as this line once more; no signal is handled between it and __exit__.
WITH = re.compile(r"\\s*(async )?with\\b").match


@functools.cache
def begins_a_block(file, number):
    return WITH(linecache.getline(file, number)) is not None


class Interrupter:
    """Press Ctrl-C at a given line that runs in the package."""

    def __init__(self, at):
        self.at = at
        self.count = 0
        self.where = None

    def trace(self, frame, event, arg):
        file = frame.f_code.co_filename
        if not file.startswith(HERE):
            return None
        if event == "line" and not begins_a_block(file, frame.f_lineno):
            self.count += 1
            if self.count == self.at:
                self.where = f"{os.path.basename(file)}:{frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self.trace

    def run(self):
        sys.settrace(self.trace)
        try:
            trio.run(round)
        finally:
            sys.settrace(None)


whole = Interrupter(0)
whole.run()
check()
moments = random.Random(int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    one = Interrupter(moments.randrange(1, whole.count))
    try:
        one.run()
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        print(one.where, repr(error), flush=True)
    else:
        # Trio's shuffling may make a round shorter than the one that was measured.
        if one.where is not None:
            print(one.where, "the interrupt got lost", flush=True)
    try:
        check()
    except AssertionError as error:
        print(one.where, error, flush=True)
        pools.clear()
print("done", flush=True)
'''
)


@pytest.mark.parametrize("seed", range(8))
def test_ctrl_c_between_any_two_lines_of_the_package_loses_no_slot(seed, run_program):
    done = run_program(AT_A_LINE, str(seed), "25")
    assert done.stderr == ""
    assert done.stdout == "done\n"


async def test_ctrl_c_when_a_worker_has_just_taken_a_row_leaves_bare(balanced):
    def press(frame, event, _):
        if event == "return" and frame.f_code is TaskRows.returned.__code__:
            sys.setprofile(before)
            raise KeyboardInterrupt

    before = sys.getprofile()
    with pytest.raises(KeyboardInterrupt):
        async with Pool(1) as pool:
            sys.setprofile(press)
            await pool.map(trio.sleep, [0, 0, 0])
    assert sys.getprofile() is before
    assert len(pool) == 0
    assert pool.limiter.borrowed_tokens == 0
