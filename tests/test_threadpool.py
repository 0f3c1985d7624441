"""What a ThreadPool is: names, sizes, its threads, and what it says to those who use it wrongly."""

import contextlib
import functools
import inspect
import math
import sys
import threading

import pytest
import trio
from gates import Gate
from trio.testing import wait_all_tasks_blocked

import triopool
import triopool.threadpool
from triopool import Pool, PoolFull, Task, TaskKilled, TaskStatus, ThreadPool
from triopool.task import current_task


def double(x):
    return 2 * x


def thread_id():
    return threading.get_ident()


def names():
    return sorted(thread.name for thread in threading.enumerate())


def ours(pool):
    return [name for name in names() if f"ThreadPool at {id(pool):#x}" in name]


async def until_size(pool, size):
    """Threads that end on their own do so in the next passes of the loop."""
    while pool.size != size:
        await trio.lowlevel.checkpoint()


# Names


def test_it_is_found_where_gevents_is_and_at_the_top():
    assert triopool.threadpool.ThreadPool is triopool.ThreadPool
    assert "ThreadPool" in triopool.__all__
    assert "ThreadPool" in triopool.threadpool.__all__


def test_it_is_a_sibling_of_pool():
    assert not issubclass(ThreadPool, Pool)
    assert not issubclass(Pool, ThreadPool)


def test_it_has_all_that_pool_has():
    assert {name for name in dir(Pool) if not name.startswith("_")} <= set(dir(ThreadPool))


def test_its_async_methods_are_those_of_pool():
    if not hasattr(inspect, "markcoroutinefunction"):  # Python 3.11 cannot be told
        return
    for name in dir(Pool):
        member = inspect.getattr_static(Pool, name)
        if not name.startswith("_") and inspect.isfunction(member):
            other = getattr(ThreadPool, name)
            is_async = inspect.iscoroutinefunction(member)
            assert inspect.iscoroutinefunction(other) is is_async, name


def test_its_methods_keep_their_names_and_their_documentation():
    for name in ("spawn", "map", "imap", "kill", "join", "full"):
        method = getattr(ThreadPool, name)
        assert method.__name__ == name
        assert method.__doc__
        assert "self" in inspect.signature(method).parameters


async def test_its_repr_says_how_many_run_of_how_many():
    pool = ThreadPool(2)
    assert repr(pool) == f"<ThreadPool at {id(pool):#x}, new, 0 of 2 running>"
    async with pool, Gate() as gate:
        await pool.spawn(gate.hold)
        assert repr(pool) == f"<ThreadPool at {id(pool):#x}, open, 1 of 2 running>"
    assert repr(pool) == f"<ThreadPool at {id(pool):#x}, closed, 0 of 2 running>"


# Sizing


async def test_maxsize_is_the_number_of_slots(balanced):
    async with ThreadPool(2) as pool, Gate() as gate:
        assert (pool.maxsize, pool.free_count(), pool.full()) == (2, 2, False)
        assert pool.limiter.total_tokens == 2
        await pool.spawn(gate.hold)
        assert (pool.free_count(), pool.full()) == (1, False)
        await pool.spawn(gate.hold)
        assert (pool.free_count(), pool.full()) == (0, True)
        gate.open()
        await pool.join()
        balanced(pool)


async def test_no_maxsize_means_trios_default_limiter_of_threads():
    limiter = trio.to_thread.current_default_thread_limiter()
    async with ThreadPool() as pool, Gate() as gate:
        assert pool.limiter is limiter
        assert pool.maxsize == limiter.total_tokens
        assert await pool.apply(double, (1,)) == 2
        await pool.spawn(gate.hold)
        assert limiter.borrowed_tokens == 1
        gate.open()
        await pool.join()
        assert limiter.borrowed_tokens == 0


async def test_a_limiter_is_shared_with_whoever_else_uses_it():
    limiter = trio.CapacityLimiter(2)
    async with ThreadPool(limiter) as one, ThreadPool(limiter) as other, Gate() as gate:
        assert one.limiter is other.limiter is limiter
        await one.spawn(gate.hold)
        assert (one.free_count(), other.free_count()) == (1, 1)
        async with limiter:
            assert one.full()
            with pytest.raises(PoolFull):
                other.spawn_nowait(double, 1)
        one.maxsize = 1
        assert other.maxsize == 1


async def test_a_limiter_without_limit_is_no_maxsize():
    async with ThreadPool(trio.CapacityLimiter(math.inf)) as pool:
        assert pool.maxsize is None
        assert (pool.free_count(), pool.full()) == (1, False)
        assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]


async def test_a_pool_of_maxsize_zero_starts_nothing_until_it_is_resized():
    async with ThreadPool(0) as pool:
        assert (pool.maxsize, pool.size, pool.free_count(), pool.full()) == (0, 0, 0, True)
        task = pool.apply_async(double, (1,))
        with pytest.raises(PoolFull):
            pool.spawn_nowait(double, 1)
        await wait_all_tasks_blocked()
        assert (task.status, pool.size) == (TaskStatus.WAITING, 0)
        pool.maxsize = 1
        assert await task == 2


async def test_raising_maxsize_lets_those_in_who_wait():
    async with ThreadPool(1) as pool, Gate() as gate, trio.open_nursery() as nursery:
        await pool.spawn(gate.hold, 0)
        nursery.start_soon(pool.map, gate.hold, range(1, 3))
        await gate.until(1)
        await wait_all_tasks_blocked()
        pool.maxsize = 3
        await gate.until(3)
        gate.open()


async def test_lowering_maxsize_kills_nothing_and_shrinks_the_threads_as_they_become_idle():
    async with ThreadPool(3) as pool, Gate() as gate:
        tasks = [await pool.spawn(gate.hold, x) for x in range(3)]
        await gate.until(3)
        pool.maxsize = 1
        assert (pool.maxsize, pool.size, len(pool), pool.free_count()) == (1, 3, 3, 0)
        gate.open(0)
        assert await tasks[0] == 0
        await until_size(pool, 2)
        gate.open()
        assert [await task for task in tasks] == [0, 1, 2]
        await until_size(pool, 1)
        assert await pool.apply(double, (4,)) == 8
        assert pool.size == 1


async def test_lowering_maxsize_sends_idle_threads_home_at_once():
    async with ThreadPool(3) as pool:
        pool.size = 3
        pool.maxsize = 1
        assert pool.size == 1
        assert await pool.map(double, range(9)) == [2 * x for x in range(9)]


async def test_maxsize_that_is_set_before_the_block_is_entered_holds_in_it():
    pool = ThreadPool(2)
    pool.maxsize = 3
    async with pool:
        assert pool.maxsize == 3
    pool = ThreadPool()
    assert pool.maxsize is None
    pool.maxsize = 3
    async with pool:
        assert pool.maxsize == 3
    assert trio.to_thread.current_default_thread_limiter().total_tokens == 40


@pytest.mark.parametrize("maxsize", ["3", 1.5, True])
async def test_a_maxsize_that_is_no_int_is_a_type_error(maxsize):
    with pytest.raises(TypeError, match="size"):
        ThreadPool(maxsize)
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="size"):
            pool.maxsize = maxsize
        with pytest.raises(TypeError, match="keeps its limiter"):
            pool.maxsize = trio.CapacityLimiter(1)
        assert pool.maxsize == 1


async def test_a_negative_maxsize_is_a_value_error():
    with pytest.raises(ValueError, match="negative"):
        ThreadPool(-1)
    async with ThreadPool(1) as pool:
        with pytest.raises(ValueError, match="negative"):
            pool.maxsize = -1
        assert pool.maxsize == 1


def test_an_on_error_that_is_none_is_a_type_error():
    with pytest.raises(TypeError, match="on_error"):
        ThreadPool(1, on_error="ignore")


async def test_wait_available_waits_for_a_slot_and_reserves_nothing(balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        assert await pool.wait_available() == 1
        await pool.spawn(gate.hold)
        assert await pool.wait_available(timeout=0) == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.wait_available)
            await wait_all_tasks_blocked()
            gate.open()
        balanced(pool)


# Threads


async def test_threads_start_on_demand_and_are_kept_and_reused():
    async with ThreadPool(4) as pool:
        assert pool.size == 0
        first = await pool.apply(thread_id)
        assert first != threading.get_ident()
        assert pool.size == 1
        assert {await pool.apply(thread_id) for _ in range(10)} == {first}
        assert await pool.map(double, range(3)) == [0, 2, 4]
        assert pool.size <= 3


async def test_a_call_that_finds_no_idle_thread_starts_one():
    async with ThreadPool(3) as pool, Gate() as gate:
        for x in range(3):
            await pool.spawn(gate.hold, x)
            assert pool.size == x + 1
        await gate.until(3)
        gate.open()
        await pool.join()
        assert pool.size == 3


async def test_a_map_does_not_start_more_threads_than_it_has_rows():
    async with ThreadPool(100) as pool:
        await pool.map(double, range(2))
        assert 1 <= pool.size <= 2


async def test_as_many_calls_run_at_once_as_there_are_slots():
    barrier = threading.Barrier(4)
    async with ThreadPool(4) as pool:
        numbers = await pool.map(lambda _: barrier.wait(), range(8))
    assert sorted(numbers) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_never_more_calls_run_at_once_than_there_are_slots():
    lock = threading.Lock()
    running = most = 0

    def count(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        sum(range(200))
        with lock:
            running -= 1

    async with ThreadPool(3) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, count, range(100))
        nursery.start_soon(pool.map, count, (x for x in range(100)))
        for _ in range(50):
            await pool.spawn(count, 0)
        async for _ in pool.imap(count, range(50), maxsize=7):
            pass
    assert 1 <= most <= 3


async def test_setting_size_starts_threads():
    async with ThreadPool(4) as pool:
        pool.size = 3
        assert pool.size == 3
        barrier = threading.Barrier(3)
        await pool.map(lambda _: barrier.wait(), range(3))
        assert pool.size == 3
        pool.size = 4
        assert pool.size == 4
        pool.size = 4
        assert pool.size == 4


async def test_setting_size_to_less_ends_idle_threads_and_others_when_they_become_idle():
    async with ThreadPool(4) as pool, Gate() as gate:
        pool.size = 3
        pool.size = 1
        assert pool.size == 1
        tasks = [await pool.spawn(gate.hold, x) for x in range(2)]
        await gate.until(2)
        pool.size = 0
        assert pool.size == 2
        assert not any(task.ready() for task in tasks)
        gate.open()
        assert [await task for task in tasks] == [0, 1]
        await until_size(pool, 0)
        assert await pool.apply(double, (2,)) == 4
        assert pool.size == 1


async def test_a_thread_that_a_kill_has_ended_is_one_of_those_that_are_too_many():
    async with ThreadPool(2) as pool, Gate() as gate:
        killed, other = [await pool.spawn(gate.ask, x) for x in range(2)]
        await gate.until(2)
        pool.size = 1
        killed.kill_nowait()
        gate.open(0)
        assert await killed.join()
        await until_size(pool, 1)
        gate.open()
        assert await other == 1
        await wait_all_tasks_blocked()
        assert pool.size == 1


async def test_a_size_that_was_raised_again_sends_nobody_home():
    async with ThreadPool(2) as pool, Gate() as gate:
        tasks = [await pool.spawn(gate.hold, x) for x in range(2)]
        pool.size = 0
        pool.size = 2
        gate.open()
        for task in tasks:
            await task
        await pool.map(double, range(10))
        assert pool.size == 2


@pytest.mark.parametrize("size", [-1, 3, 100])
async def test_a_size_beyond_its_bounds_is_a_value_error(size):
    async with ThreadPool(2) as pool:
        with pytest.raises(ValueError, match=f"from 0 to 2, not {size}"):
            pool.size = size
        assert pool.size == 0


@pytest.mark.parametrize("size", [None, "1", 1.0, True])
async def test_a_size_that_is_no_int_is_a_type_error(size):
    async with ThreadPool(2) as pool:
        with pytest.raises(TypeError, match="is an int"):
            pool.size = size
        assert pool.size == 0


async def test_size_is_settable_only_while_the_pool_is_open():
    pool = ThreadPool(2)
    assert pool.size == 0
    with pytest.raises(RuntimeError, match="use `async with"):
        pool.size = 1
    async with pool:
        pool.size = 1
    assert pool.size == 0
    with pytest.raises(trio.ClosedResourceError):
        pool.size = 1


async def test_an_idle_thread_is_not_needed_to_leave_the_block():
    async with ThreadPool(3) as pool:
        pool.size = 3
        await pool.apply(double, (1,))
    assert pool.size == 0


async def test_threads_that_have_not_even_started_end_with_the_block():
    with pytest.raises(KeyError):
        async with ThreadPool(3) as pool:
            pool.size = 3
            raise KeyError
    assert (pool.size, ours(pool)) == (0, [])


async def test_idle_threads_end_when_the_pool_is_cancelled():
    async with ThreadPool(3) as pool:
        pool.size = 3
        barrier = threading.Barrier(3)
        await pool.map(lambda _: barrier.wait(), range(3))
        pool.cancel_scope.cancel()
        await trio.sleep_forever()
    assert (pool.size, ours(pool)) == (0, [])


async def test_threads_are_named_after_the_pool_and_none_bears_its_name_after_the_block():
    def name():
        return threading.current_thread().name

    async with ThreadPool(2) as pool, Gate() as gate:
        assert await pool.apply(name) == f"ThreadPool at {id(pool):#x} #1"
        for x in range(2):
            await pool.spawn(gate.hold, x)
        await gate.until(2)
        assert ours(pool) == [f"ThreadPool at {id(pool):#x} #{n}" for n in (1, 2)]
        gate.open()
    assert ours(pool) == []


async def test_after_the_block_no_thread_runs_our_code():
    ended = []

    def run(x):
        gate.hold(x)
        ended.append(x)

    gate = Gate()
    async with ThreadPool(2) as pool:
        await pool.spawn(run, 0)
        results = pool.imap(run, [1])
        await gate.until(2)
        trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
    assert sorted(ended) == [0, 1]
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)


async def open_when_all_is_blocked(gate):
    await wait_all_tasks_blocked()
    gate.open()


async def test_a_thread_is_hosted_by_a_task_below_the_pools_nursery():
    async with ThreadPool(1) as pool:
        host = await pool.apply(trio.from_thread.run_sync, (trio.lowlevel.current_task,))
        assert host.parent_nursery.cancel_scope is pool.cancel_scope


@contextlib.contextmanager
def no_more_threads(kept=0):
    """Make the start of threads fail, as it does when the system has no more of them.

    So many threads of pools stay as they are.
    """
    busy, end = set(), threading.Event()

    def keep_busy():
        busy.add(threading.current_thread())
        end.wait()

    def others():
        return [
            thread
            for thread in set(threading.enumerate()) - busy
            if thread.name.startswith(("Trio thread", "ThreadPool at"))
        ]

    before = threading.stack_size(1 << 46)
    try:
        # Trio keeps threads for the next job. Some may still be on their way to wait for it.
        while len(others()) > kept:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                while True:
                    trio.lowlevel.start_thread_soon(keep_busy, lambda _: None)
        yield
    finally:
        threading.stack_size(before)
        end.set()


async def test_a_call_fails_for_which_no_thread_can_be_started(balanced):
    async with ThreadPool(2) as pool:
        with no_more_threads():
            task = await pool.spawn(double, 1)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await task
            assert task.status is TaskStatus.FAILED
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await pool.apply(double, (1,))
            balanced(pool)
            assert pool.size == 0
        assert await pool.apply(double, (1,)) == 2


async def test_a_map_fails_for_which_no_thread_can_be_started(balanced):
    async with ThreadPool(2) as pool:
        with no_more_threads():
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await pool.map(double, range(5))
            results = pool.imap(double, (x for x in range(5)))
            with pytest.raises(RuntimeError, match="can't start new thread"):
                async for _ in results:
                    pass
            await pool.join()
            balanced(pool)
        assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]


async def test_no_error_is_lost_if_the_input_fails_and_no_thread_can_be_started():
    def rows():
        yield 1
        raise KeyError("rows")

    with pytest.raises(ExceptionGroup) as info:
        async with ThreadPool(2) as pool:
            with no_more_threads(), pytest.raises(KeyError, match="rows"):
                await anext(pool.imap(double, rows()))
    assert info.group_contains(RuntimeError, match="can't start new thread")


async def test_a_map_makes_do_with_the_threads_that_there_are(balanced):
    async with ThreadPool(2) as pool:
        await pool.apply(double, (1,))
        with no_more_threads(kept=1):
            for rows in (range(5), (x for x in range(5))):
                assert await pool.map(double, rows) == [0, 2, 4, 6, 8]
                assert pool.size == 1
            await pool.join()
            balanced(pool)


@pytest.mark.parametrize("rows", [range(5), iter(range(5))], ids=["range", "iterator"])
async def test_a_map_that_makes_do_does_not_ask_for_more_threads_all_the_time(rows, balanced):
    async with ThreadPool(3) as pool, Gate() as gate:
        await pool.apply(double, (1,))
        with no_more_threads(kept=1):
            results = pool.imap(gate.hold, rows)
            await gate.until(1)
            await wait_all_tasks_blocked()  # which would not be so
            gate.open()
            assert [x async for x in results] == [0, 1, 2, 3, 4]
        await pool.join()
        balanced(pool)
        assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]


async def test_a_pool_fails_that_cannot_start_the_threads_that_its_size_asks_for():
    with no_more_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        async with ThreadPool(2) as pool:
            pool.size = 1
            await trio.sleep_forever()


# What it can be asked


async def test_len_counts_every_call_that_is_not_over():
    async with ThreadPool(1) as pool, Gate() as gate, Pool() as other:
        assert (len(pool), bool(pool), list(pool)) == (0, False, [])
        task = await pool.spawn(gate.hold)
        assert (len(pool), bool(pool)) == (1, True)
        assert task in pool
        assert list(pool) == [task]
        queued = pool.apply_async(double, (1,))
        assert len(pool) == 2
        results = pool.imap(double, range(3))
        await wait_all_tasks_blocked()
        gate.open()
        assert await queued == 2
        assert [x async for x in results] == [0, 2, 4]
        await pool.join()
        assert (len(pool), bool(pool), list(pool)) == (0, False, [])
        added = await other.spawn(trio.sleep_forever)
        await pool.add(added)
        assert (len(pool), list(pool)) == (1, [added])
        assert added in pool
        await other.kill()
        assert (len(pool), added in pool, 1 in pool) == (0, False, False)


async def test_what_is_iterated_is_a_snapshot_of_the_rows_too():
    async with ThreadPool(2) as pool, Gate() as gate:
        results = pool.imap(gate.hold, range(9))
        await gate.until(2)
        await wait_all_tasks_blocked()
        tasks = list(pool)
        assert len(tasks) == len(pool) == 2
        assert sorted(task.args for task in tasks) == [(0,), (1,)]
        assert all(task.status is TaskStatus.RUNNING and task.started for task in tasks)
        assert all(task in pool for task in tasks)
        assert list(pool) == tasks
        gate.open()
        assert [x async for x in results] == list(range(9))
        assert not any(task in pool for task in tasks)
        assert sorted(task.value for task in tasks) == [0, 1]


async def test_task_class_is_settable():
    class Mine(Task):
        pass

    async with ThreadPool(1) as pool:
        assert pool.task_class is Task
        pool.task_class = Mine
        assert type(await pool.spawn(double, 1)) is Mine
        assert type(pool.apply_async(double, (1,))) is Mine


async def test_run_keeps_a_pool_open_in_a_task_and_close_ends_it():
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(ThreadPool(2).run)
        task = await pool.spawn(double, 2)
        pool.close()
        pool.close()
        with pytest.raises(trio.ClosedResourceError):
            pool.spawn_nowait(double, 1)
    assert task.value == 4
    assert ours(pool) == []


async def test_before_its_block_it_says_use_async_with():
    pool = ThreadPool(1)
    for use in (
        lambda: pool.spawn_nowait(double, 1),
        lambda: pool.apply_async(double, (1,)),
        lambda: pool.map_async(double, [1]),
        lambda: pool.imap(double, [1]),
        pool.kill_nowait,
        pool.close,
        lambda: pool.cancel_scope,
    ):
        with pytest.raises(RuntimeError, match="use `async with ThreadPool"):
            use()
    for use in (
        lambda: pool.spawn(double, 1),
        lambda: pool.apply(double, (1,)),
        lambda: pool.map(double, [1]),
        lambda: pool.start(Task(double, 1)),
        pool.join,
        pool.kill,
        pool.wait_available,
    ):
        with pytest.raises(RuntimeError, match="use `async with ThreadPool"):
            await use()


async def test_after_its_block_it_is_a_closed_resource():
    async with ThreadPool(1) as pool:
        pass
    for use in (
        lambda: pool.spawn(double, 1),
        lambda: pool.apply(double, (1,)),
        lambda: pool.map(double, [1]),
        lambda: pool.start(Task(double, 1)),
        pool.join,
        pool.wait_available,
    ):
        with pytest.raises(trio.ClosedResourceError):
            await use()
    with pytest.raises(trio.ClosedResourceError):
        pool.imap(double, [1])
    pool.close()
    with pytest.raises(RuntimeError, match="only once"):
        await pool.__aenter__()


# Bad input


async def async_double(x):
    return 2 * x


class AsyncCallable:
    async def __call__(self, x):
        return 2 * x


SPAWNS = {
    "spawn": lambda pool, func: pool.spawn(func, 1),
    "spawn_nowait": lambda pool, func: pool.spawn_nowait(func, 1),
    "apply": lambda pool, func: pool.apply(func, (1,)),
    "apply_cb": lambda pool, func: pool.apply_cb(func, (1,)),
    "apply_async": lambda pool, func: pool.apply_async(func, (1,)),
    "start": lambda pool, func: pool.start(Task(func, 1)),
}
MAPS = {
    "map": lambda pool, func: pool.map(func, [1]),
    "map_cb": lambda pool, func: pool.map_cb(func, [1]),
    "map_async": lambda pool, func: pool.map_async(func, [1]),
    "imap": lambda pool, func: pool.imap(func, [1]),
    "imap_unordered": lambda pool, func: pool.imap_unordered(func, [1]),
    "starmap": lambda pool, func: pool.starmap(func, [(1,)]),
}
every_call = pytest.mark.parametrize("how", [*SPAWNS, *MAPS])


async def use(pool, how, func):
    result = {**SPAWNS, **MAPS}[how](pool, func)
    return await result if inspect.iscoroutine(result) else result


@every_call
@pytest.mark.parametrize(
    "func", [async_double, functools.partial(async_double)], ids=["function", "partial"]
)
async def test_an_async_function_is_a_type_error_that_names_pool(how, func, balanced):
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match=r"is an async function.*use a Pool"):
            await use(pool, how, func)
        balanced(pool)
        assert pool.size == 0


@every_call
@pytest.mark.parametrize("func", [None, 3, "double", []], ids=repr)
async def test_what_cannot_be_called_is_a_type_error(how, func, balanced):
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="function"):
            await use(pool, how, func)
        balanced(pool)


@every_call
async def test_a_coroutine_object_is_a_type_error_that_says_what_to_write(how):
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="got the coroutine object async_double"):
            await use(pool, how, async_double(1))


@pytest.mark.parametrize(
    "func", [lambda x: async_double(x), AsyncCallable()], ids=["lambda", "callable"]
)
async def test_a_function_that_returns_a_coroutine_fails_and_the_error_names_pool(func):
    async with ThreadPool(1) as pool:
        task = await pool.spawn(func, 1)
        with pytest.raises(TypeError, match=r"returned a coroutine.*use a Pool"):
            await task
        with pytest.raises(TypeError, match=r"returned a coroutine.*use a Pool"):
            await pool.apply(func, (1,))
        with pytest.raises(TypeError, match=r"returned a coroutine.*use a Pool"):
            await pool.map(func, [1, 2])
        (error,) = await pool.map(func, [1], return_exceptions=True)
        assert isinstance(error, TypeError)

        def in_place():
            trio.from_thread.run(pool.apply, func, (1,))

        with pytest.raises(TypeError, match=r"returned a coroutine.*use a Pool"):
            await pool.apply(in_place)


async def test_a_task_is_not_a_function_and_a_function_is_no_task():
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="start"):
            await pool.spawn(Task(double, 1))
        with pytest.raises(TypeError, match="spawn"):
            await pool.start(double)
        with pytest.raises(TypeError, match="spawn"):
            await pool.add(double)
        with pytest.raises(TypeError, match="killone"):
            await pool.killone(double)
        with pytest.raises(ValueError, match="is not in"):
            await pool.killone(Task(double, 1))


async def test_a_bad_callback_or_iterable_or_maxsize_is_an_error_at_once():
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="callback"):
            await pool.apply_cb(double, (1,), callback=1)
        with pytest.raises(TypeError, match="callback"):
            pool.apply_async(double, (1,), callback=1)
        with pytest.raises(TypeError, match="callback"):
            await pool.map_cb(double, [1], 1)
        with pytest.raises(TypeError, match="callback"):
            pool.map_async(double, [1], 1)
        with pytest.raises(TypeError, match="iterable"):
            await pool.map(double, 1)
        with pytest.raises(TypeError, match="at least one iterable"):
            await pool.map(double)
        with pytest.raises(ValueError, match="maxsize"):
            pool.imap(double, [1], maxsize=0)
        with pytest.raises(TypeError, match="maxsize"):
            pool.imap(double, [1], maxsize="1")
        with pytest.raises(TypeError, match="Exception"):
            await pool.kill(3)


async def test_wrong_arguments_are_the_calls_error():
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="positional argument"):
            await pool.apply(double)
        with pytest.raises(TypeError, match="unexpected keyword"):
            await pool.apply(double, (1,), {"y": 1})
        results = pool.starmap(double, [(1,), 3, (1, 2), [4]])
        assert await anext(results) == 2
        for _ in range(2):
            with pytest.raises(TypeError):
                await anext(results)
        assert await anext(results) == 8


# In other threads

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
    "full": lambda pool, task: pool.full(),
    "free_count": lambda pool, task: pool.free_count(),
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
    "run": lambda pool, task: pool.run(),
}


def test_these_are_all_methods():
    methods = {
        name
        for name in dir(ThreadPool)
        if not name.startswith("_") and callable(getattr(ThreadPool, name)) and name != "task_class"
    }
    assert methods == {*SYNC, *ASYNC}


@pytest.mark.parametrize("where", ["thread of the pool", "other thread", "other run of Trio"])
@pytest.mark.parametrize("name", [*SYNC, *ASYNC])
async def test_a_method_called_in_another_thread_says_what_to_write(name, where, balanced):
    how = "run_sync" if name in SYNC else "run"
    message = rf"{name}.* in a thread other than Trio's.* trio\.from_thread\.{how}\(pool\.{name}"

    def call():
        with pytest.raises(RuntimeError, match=message):
            {**SYNC, **ASYNC}[name](pool, task)

    async def call_in_run():
        call()

    async with ThreadPool(1) as pool, Pool() as other:
        task = await other.spawn(trio.sleep_forever)
        if where == "thread of the pool":
            await pool.apply(call)
        elif where == "other thread":
            await trio.to_thread.run_sync(call)
        else:
            await trio.to_thread.run_sync(trio.run, call_in_run)
        balanced(pool)
        await other.kill()


@pytest.mark.parametrize("name", ["size", "maxsize"])
async def test_what_is_set_in_another_thread_says_what_to_write(name):
    def set_it():
        with pytest.raises(RuntimeError, match=r"than Trio's.* trio\.from_thread\.") as info:
            setattr(pool, name, 1)
        return str(info.value)

    async with ThreadPool(2) as pool:
        message = await pool.apply(set_it)
        assert "setattr" in message
        assert (pool.size, pool.maxsize) == (1, 2)
        trio_says = trio.from_thread.run_sync
        await pool.apply(trio_says, (setattr, pool, name, 1))
        assert getattr(pool, name) == 1


async def test_from_thread_reaches_every_method():
    async with ThreadPool(2) as pool:

        def use_it():
            run, run_sync = trio.from_thread.run, trio.from_thread.run_sync
            assert run_sync(pool.free_count) == 1
            assert run_sync(pool.full) is False
            task = run(pool.spawn, double, 1)
            assert run(task.get) == 2
            assert run(pool.apply, double, (2,)) == 4
            assert run(pool.map, double, [3]) == [6]
            assert run(pool.wait_available) == 1
            results = run_sync(pool.imap, double, [4])
            assert run(results.__anext__) == 8
            run(results.aclose)
            return "done"

        assert await pool.apply(use_it) == "done"


# Hooks of profilers and debuggers


class Hooks:
    """Hooks that note what they see of this file."""

    def __init__(self):
        self.seen = []

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename == __file__:
            self.seen.append((frame.f_code.co_name, event, threading.get_ident()))
        return self


@pytest.fixture
def threading_hooks():
    """Whatever a test sets, and coverage has set, is as before at the end."""
    profile, trace = threading.getprofile(), threading.gettrace()
    yield
    threading.setprofile(profile)
    threading.settrace(trace)


@pytest.mark.parametrize("kind", ["profile", "trace"])
async def test_hooks_that_are_set_when_a_call_starts_see_that_call_only(kind, threading_hooks):
    hooks = Hooks()
    before = getattr(threading, f"get{kind}")()
    set_hook = getattr(threading, f"set{kind}")

    def plain():
        return getattr(sys, f"get{kind}")() is not hooks, thread_id()

    def seen():
        return getattr(sys, f"get{kind}")() is hooks

    async with ThreadPool(1) as pool:
        _, thread = await pool.apply(plain)
        set_hook(hooks)
        assert await pool.apply(seen) is True
        assert await pool.map(lambda _: seen(), range(3)) == [True] * 3
        assert await pool.apply(trio.from_thread.run, (pool.apply, seen)) is True
        set_hook(before)
        count = len(hooks.seen)
        assert await pool.apply(plain) == (True, thread)
        assert len(hooks.seen) == count
    calls = [event for event in hooks.seen if event[:2] == ("seen", "call")]
    assert len(calls) == 5
    assert calls[0] == ("seen", "call", thread)


async def test_without_hooks_none_is_installed(threading_hooks):
    def installed():
        return sys.getprofile(), sys.gettrace()

    async with ThreadPool(1) as pool:
        before = await pool.apply(installed)
        threading.setprofile(None)
        threading.settrace(None)
        now = await pool.apply(installed)
        assert await pool.map(lambda _: installed(), range(3)) == [now] * 3
        in_place = await pool.apply(trio.from_thread.run, (pool.apply, installed))
    assert now[0] is None
    assert before[0] is None
    assert in_place[0] is None


# A few of its relatives


async def test_wait_and_as_completed_take_its_tasks():
    async with ThreadPool(2) as pool, Gate() as gate:
        tasks = [await pool.spawn(gate.hold, x) for x in range(2)]
        await gate.until(2)
        gate.open(1)
        assert await triopool.wait(tasks, count=1) == [tasks[1]]
        gate.open()
        assert [done async for done in triopool.as_completed(tasks[:1])] == tasks[:1]


async def test_outside_of_calls_there_is_no_current_task():
    assert current_task() is None
    async with ThreadPool(1) as pool:
        assert current_task() is None
        assert await trio.to_thread.run_sync(current_task) is None
        task = await pool.spawn(current_task)
        assert await task is task


async def test_killed_says_task_killed():
    async with ThreadPool(1) as pool, Gate() as gate:
        task = await pool.spawn(gate.ask)
        await gate.until(1)
        task.kill_nowait(reason="too old")
        gate.open()
        with pytest.raises(TaskKilled, match=r"Gate\.ask was killed: too old"):
            await task


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
async def test_a_task_cannot_be_killed_from_another_thread_and_goes_on(kind):
    done = threading.Event()
    async with kind(1) as pool:
        if kind is Pool:
            task = await pool.spawn(trio.to_thread.run_sync, done.wait)
        else:
            task = await pool.spawn(done.wait)
        with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync\(task\.kill_nowait\)"):
            await trio.to_thread.run_sync(task.kill_nowait)
        done.set()
        assert await task is True
