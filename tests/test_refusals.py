"""Used in the wrong place, as another thread or another event loop: what to write is said."""

import asyncio
import gc
import inspect
import math
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import (
    GreenPile,
    GreenPool,
    Group,
    Pool,
    ResultIterator,
    Task,
    TaskStatus,
    ThreadPool,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

KINDS = pytest.mark.parametrize("kind", [Group, Pool, GreenPool])
EVERY_KIND = pytest.mark.parametrize("kind", [Group, Pool, GreenPool, ThreadPool])


async def double(x=1):
    await trio.lowlevel.checkpoint()
    return 2 * x


def sync_double(x=1):
    return 2 * x


def func_for(kind):
    return sync_double if kind is ThreadPool else double


# In another thread

SYNC = {
    "spawn_nowait": lambda pool, task: pool.spawn_nowait(double, 1),
    "apply_async": lambda pool, task: pool.apply_async(double, (1,)),
    "map_async": lambda pool, task: pool.map_async(double, [1]),
    "imap": lambda pool, task: pool.imap(double, [1]),
    "imap_unordered": lambda pool, task: pool.imap_unordered(double, [1]),
    "starmap": lambda pool, task: pool.starmap(double, [(1,)]),
    "kill_nowait": lambda pool, task: pool.kill_nowait(),
    "discard": lambda pool, task: pool.discard(task),
    "close": lambda pool, task: pool.close(),
    "iter": lambda pool, task: list(pool),
    "size": lambda pool, task: setattr(pool, "size", 3),
    "resize": lambda pool, task: pool.resize(3),
}
ASYNC = {
    "spawn": lambda pool, task: pool.spawn(double, 1),
    "start": lambda pool, task: pool.start(Task(double, 1)),
    "add": lambda pool, task: pool.add(task),
    "apply": lambda pool, task: pool.apply(double, (1,)),
    "apply_cb": lambda pool, task: pool.apply_cb(double, (1,)),
    "map": lambda pool, task: pool.map(double, [1]),
    "map_cb": lambda pool, task: pool.map_cb(double, [1]),
    "join": lambda pool, task: pool.join(),
    "kill": lambda pool, task: pool.kill(),
    "killone": lambda pool, task: pool.killone(task),
    "wait_available": lambda pool, task: pool.wait_available(),
    "spawn_n": lambda pool, task: pool.spawn_n(double, 1),
    "waitall": lambda pool, task: pool.waitall(),
}
GREEN = {"resize", "spawn_n", "waitall"}
LOOKING = {"full", "free_count", "running", "free", "waiting"}


def test_these_are_all_methods():
    methods = {
        name
        for name in dir(GreenPool)
        if not name.startswith("_") and inspect.isfunction(getattr(GreenPool, name))
    }
    assert methods - LOOKING - {"run"} == {*SYNC, *ASYNC} - {"iter", "size"}


def cases():
    return [
        pytest.param(kind, name, id=f"{kind.__name__}-{name}")
        for kind in (Group, Pool, GreenPool)
        for name in [*SYNC, *ASYNC]
        if (kind is GreenPool or name not in GREEN) and not (kind is Group and name == "size")
    ]


@pytest.mark.parametrize("where", ["thread", "other run of Trio"])
@pytest.mark.parametrize(("kind", "name"), cases())
async def test_what_changes_a_pool_is_refused_in_another_thread(kind, name, where, balanced):
    def call():
        with pytest.raises(RuntimeError, match=r"in a thread other than Trio's: write trio\.from_"):
            if name in SYNC:
                SYNC[name](pool, task)
            else:
                ASYNC[name](pool, task).send(None)

    async def call_in_run():
        call()

    async with kind() as pool:
        task = await pool.spawn(trio.sleep_forever)
        size = pool.size
        if where == "thread":
            await trio.to_thread.run_sync(call)
        else:
            await trio.to_thread.run_sync(trio.run, call_in_run)
        assert list(pool) == [task]
        assert pool.size == size
        assert task.status is TaskStatus.RUNNING
        assert await task.kill()
        assert await pool.map(double, [1, 2]) == [2, 4]
        balanced(pool)
    gc.collect(1)


@KINDS
async def test_from_thread_reaches_a_pool_of_tasks(kind, balanced):
    async with kind() as pool:

        def use_it():
            run, run_sync = trio.from_thread.run, trio.from_thread.run_sync
            task = run_sync(pool.spawn_nowait, double, 2)
            assert run(task.get) == 4
            assert run(pool.map, double, [1, 2]) == [2, 4]
            assert run_sync(list, pool) == []
            run_sync(pool.close)

        await trio.to_thread.run_sync(use_it)
        balanced(pool)


@EVERY_KIND
async def test_looking_changes_nothing_and_is_allowed_in_another_thread(kind):
    def look():
        try:
            assert len(pool) == 1
            assert pool
            assert task in pool
            assert pool.limiter.borrowed_tokens >= 1
            assert "open, 1 " in repr(pool)
            assert task.status is TaskStatus.RUNNING
        finally:
            gate.set()

    gate = threading.Event()
    async with kind() as pool:
        if kind is ThreadPool:
            begun = trio.Event()

            def wait_for_gate():
                trio.from_thread.run_sync(begun.set)
                gate.wait()

            task = await pool.spawn(wait_for_gate)
            await begun.wait()
        else:
            task = await pool.spawn(trio.sleep_forever)
        await trio.to_thread.run_sync(look)
        await task.kill()


async def test_a_pool_of_threads_is_not_iterated_over_in_another_thread():
    async with ThreadPool(1) as pool:

        def look():
            with pytest.raises(RuntimeError, match=r"write trio\.from_thread\.run_sync\(list, "):
                list(pool)
            return trio.from_thread.run_sync(list, pool)

        task = await pool.spawn(look)
        assert await task == [task]


@EVERY_KIND
def test_looking_is_allowed_after_the_run(kind):
    async def main():
        async with kind() as pool:
            return pool

    pool = trio.run(main)
    assert list(pool) == []
    assert not pool.full()
    pool.discard(Task(double))
    pool.close()
    with pytest.raises(trio.ClosedResourceError):
        pool.spawn_nowait(double)


@pytest.mark.parametrize(
    "name", ["kill_nowait", "link", "link_value", "link_exception", "unlink", "kill", "cancel"]
)
async def test_what_changes_a_task_is_refused_in_another_thread(name, balanced):
    seen = []

    def call():
        how = r"in a thread other than Trio's: write trio\.from_thread\.run_sync\(task\."
        with pytest.raises(RuntimeError, match=how):
            if name in ("kill_nowait", "cancel"):
                getattr(task, name)()
            elif name == "kill":
                task.kill().send(None)
            else:
                getattr(task, name)(seen.append)

    async with GreenPool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        task = pool.apply_async(trio.sleep_forever)
        await trio.to_thread.run_sync(call)
        assert task.status is TaskStatus.WAITING
        await blocker.kill()
        await wait_all_tasks_blocked()
        if name != "cancel":
            await trio.to_thread.run_sync(call)
        assert task.status is TaskStatus.RUNNING
        assert await task.kill(timeout=5)
        assert seen == []
        balanced(pool)


async def test_a_task_that_no_pool_has_may_be_linked_anywhere():
    seen = []

    def link():
        task.link(seen.append)
        assert task.unlink(seen.append)
        task.link(seen.append)
        over.link(seen.append)  # which calls it here

    async with Pool() as pool:
        task = Task(double)
        over = await pool.spawn(double)
        await over
        await trio.to_thread.run_sync(link)
        assert seen == [over]
        await pool.start(task)
        await task
        assert seen == [over, task]


async def test_a_pile_is_not_closed_from_another_thread():
    async with GreenPile(2) as pile:
        text = r"close was called .*write trio\.from_thread\.run_sync\(pile\.close\)"
        with pytest.raises(RuntimeError, match=text):
            await trio.to_thread.run_sync(pile.close)
        await pile.spawn(double, 1)
        assert [x async for x in pile] == [2]
    GreenPile(2).close()


# Without Trio


@EVERY_KIND
def test_a_pool_under_asyncio_is_told_of_trio_run_and_the_executor(kind):
    async def main():
        async with kind():
            pytest.fail("entered")

    match = rf"async with {kind.__name__}.* needs Trio.* trio\.run.*ThreadPoolExecutor.*run_in_ex"
    with pytest.raises(RuntimeError, match=match):
        asyncio.run(main())


def test_a_pool_that_was_not_entered_without_trio_can_be_entered_in_it():
    async def enter():
        async with pool:
            return await pool.apply(double)

    pool = Pool()
    with pytest.raises(RuntimeError, match="needs Trio"):
        asyncio.run(enter())
    assert trio.run(enter) == 2


def test_waiting_under_asyncio_is_told_of_trio_run():
    async def main():
        with pytest.raises(RuntimeError, match=r"triopool\.wait\(\) needs Trio.* trio\.run"):
            await wait([future])
        with pytest.raises(RuntimeError, match=r"as_completed\(\) needs Trio.* trio\.run"):
            async for _ in as_completed([future]):
                pytest.fail("read")

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(sync_double)
        asyncio.run(main())


def test_functions_without_a_pool_under_asyncio_are_told_of_trio_run():
    async def mapped():
        await triopool.map(double, [1])

    async def iterated():
        async with triopool.imap(double, [1]):
            pytest.fail("entered")

    for main in (mapped, iterated):
        with pytest.raises(RuntimeError, match=r"needs Trio.* trio\.run"):
            asyncio.run(main())


# `with` for `async with`, and the like


@pytest.mark.parametrize("kind", [Group, Pool, GreenPool, ThreadPool, GreenPile])
def test_a_with_block_is_a_typeerror_that_says_async_with(kind):
    with pytest.raises(TypeError, match=rf"write `async with {kind.__name__}\("), kind():
        pytest.fail("entered")


async def test_a_with_block_of_an_iterator_is_a_typeerror_that_says_async_with(balanced):
    async with Pool() as pool:
        with pytest.raises(TypeError, match="write `async with`"), pool.imap(double, [1, 2]):
            pytest.fail("entered")
        gc.collect(1)
        await wait_all_tasks_blocked()
        await pool.kill()
        balanced(pool)
    with (
        pytest.raises(TypeError, match=r"async with triopool\.imap"),
        triopool.imap(double, [1]),
    ):
        pytest.fail("entered")


def test_an_iterator_over_results_does_not_pose_as_a_sync_one():
    # This is how others tell what it is, our own maps included.
    assert not hasattr(ResultIterator, "__next__")
    assert not hasattr(ResultIterator, "__await__")


# Closed


@EVERY_KIND
async def test_a_closed_pool_says_why(kind):
    async with kind() as pool:
        pool.close()
        with pytest.raises(trio.ClosedResourceError, match=r"new calls: close\(\) was called"):
            await pool.spawn(func_for(kind))
    match = r"its block is over.* `async with`.* await nursery\.start\("
    with pytest.raises(trio.ClosedResourceError, match=match):
        await pool.spawn(func_for(kind))


# Timeouts

UNUSABLE = [
    pytest.param(True, TypeError, "seconds, not True.*block", id="True"),
    pytest.param(False, TypeError, "seconds, not False.*block", id="False"),
    pytest.param("5", TypeError, "seconds, or None for no limit, not '5'", id="text"),
    pytest.param(Decimal(1), TypeError, "not Decimal", id="Decimal"),
    pytest.param(-1, ValueError, "from 0 on, not -1", id="negative"),
    pytest.param(math.nan, ValueError, "from 0 on, not nan", id="nan"),
]
TIMEOUTS = {
    "get": lambda pool, task, timeout: task.get(timeout),
    "task.join": lambda pool, task, timeout: task.join(timeout),
    "task.kill": lambda pool, task, timeout: task.kill(timeout=timeout),
    "join": lambda pool, task, timeout: pool.join(timeout),
    "kill": lambda pool, task, timeout: pool.kill(timeout=timeout),
    "killone": lambda pool, task, timeout: pool.killone(task, timeout=timeout),
    "start": lambda pool, task, timeout: pool.start(Task(double), timeout=timeout),
    "add": lambda pool, task, timeout: pool.add(task, timeout=timeout),
    "wait_available": lambda pool, task, timeout: pool.wait_available(timeout),
    "wait": lambda pool, task, timeout: wait([task], timeout),
    "as_completed": lambda pool, task, timeout: anext(as_completed([task], timeout)),
}


@pytest.mark.parametrize(("timeout", "error", "match"), UNUSABLE)
@pytest.mark.parametrize("name", TIMEOUTS)
async def test_what_is_no_timeout_is_refused_before_anything_happens(
    name, timeout, error, match, balanced
):
    async with Pool() as pool:
        over = await pool.spawn(double)
        await over
        task = await pool.spawn(trio.sleep_forever)
        for each in (task, over):
            with pytest.raises(error, match=match):
                await TIMEOUTS[name](pool, each, timeout)
        assert list(pool) == [task]
        await wait_all_tasks_blocked()
        assert task.status is TaskStatus.RUNNING
        await task.kill()
        balanced(pool)


@pytest.mark.parametrize("timeout", [2, 2.0, Fraction(2), math.inf, None], ids=repr)
async def test_any_real_number_is_a_timeout(timeout, autojump_clock):
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep, 1)
        assert await pool.join(timeout)
        assert await task.join(timeout)
        assert await wait([task], timeout) == [task]


# Arguments of apply


@pytest.mark.parametrize("args", ["a.txt", b"a.txt", {"x": 1}, 5], ids=repr)
@pytest.mark.parametrize("method", ["apply", "apply_async", "apply_cb"])
@pytest.mark.parametrize("kind", [Pool, ThreadPool])
async def test_an_argument_that_is_no_sequence_of_them_says_how_to_pass_it(
    kind, method, args, balanced
):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"a sequence here, as in apply\(func, \(1, 2\)\), not"):
            answer = getattr(pool, method)(func_for(kind), args)
            if method != "apply_async":
                await answer
        balanced(pool)


async def test_keyword_arguments_that_are_no_mapping_are_a_typeerror():
    async with Pool() as pool:
        for kwds in (5, [("x", 1)], "x"):
            with pytest.raises(TypeError, match="keyword arguments of a call are a mapping, not"):
                await pool.apply(double, (), kwds)
        assert await pool.apply(double, [2]) == 4
        assert await pool.apply(double, iter([3])) == 6
        assert await pool.apply(double, None, {"x": 4}) == 8


# Functions, tasks, and one for many


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
async def test_start_is_named_only_to_those_who_pass_a_task(kind):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"start\(task\)"):
            await pool.spawn(Task(double))
        with pytest.raises(
            TypeError, match=r"pass it and its arguments apart, as in spawn"
        ) as info:
            await pool.spawn(6)
        assert "start" not in str(info.value)


async def test_a_sync_function_for_a_map_is_one_error_for_all_rows():
    with pytest.raises(TypeError, match="is not an async function") as info:
        await triopool.map(sync_double, [1, 2, 3])
    assert not hasattr(info.value, "__notes__")


@pytest.mark.parametrize("function", [wait, as_completed])
async def test_waiting_for_a_single_one_says_how_to_write_it(function):
    async with Pool() as pool, ThreadPoolExecutor(1) as executor:
        task = await pool.spawn(double)
        future = executor.submit(sync_double)
        for one in (task, future):
            match = rf"{function.__name__}\(\) takes an iterable .* `await task\.join\(\)`"
            with pytest.raises(TypeError, match=match):
                await function(one)
        with pytest.raises(TypeError, match="tasks and futures can be waited for, not"):
            await function([[task]])
        with pytest.raises(TypeError, match="timeout is a number of seconds"):
            await function([task], task)
        await task


# The sizes of a ThreadPool


@pytest.mark.parametrize("maxsize", ["3", 2.5, True, math.inf], ids=repr)
async def test_a_maxsize_of_threads_that_is_none_is_a_typeerror_that_names_it(maxsize):
    match = r"maxsize is an int, a trio\.CapacityLimiter, or None for Trio's default limiter"
    with pytest.raises(TypeError, match=match):
        ThreadPool(maxsize)
    async with ThreadPool(2) as pool:
        with pytest.raises(TypeError, match=match):
            pool.maxsize = maxsize
        assert pool.maxsize == 2


async def test_a_negative_maxsize_of_threads_is_a_valueerror_that_names_it():
    with pytest.raises(ValueError, match="maxsize cannot be negative: -1"):
        ThreadPool(-1)
    async with ThreadPool(2) as pool:
        with pytest.raises(ValueError, match="maxsize cannot be negative: -1"):
            pool.maxsize = -1
        assert pool.maxsize == 2


@pytest.mark.parametrize("maxsize", [None, trio.CapacityLimiter(1)], ids=["None", "limiter"])
async def test_a_pool_of_threads_keeps_its_limiter(maxsize):
    before = trio.to_thread.current_default_thread_limiter().total_tokens
    pool = ThreadPool(2)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"keeps its limiter: set maxsize to an int.* new pool"):
            pool.maxsize = maxsize
        assert pool.maxsize == 2
        if "new" in repr(pool):
            async with pool:
                with pytest.raises(TypeError, match="keeps its limiter"):
                    pool.maxsize = maxsize
                assert pool.limiter.total_tokens == 2
    assert trio.to_thread.current_default_thread_limiter().total_tokens == before


async def test_a_pool_of_threads_shows_how_many_calls_run_and_not_those_that_wait():
    async with ThreadPool(0) as pool:
        waiting = pool.apply_async(sync_double)
        assert (len(pool), bool(pool)) == (1, True)
        assert "0 of 0 running" in repr(pool)
        await waiting.kill()
        assert not pool
