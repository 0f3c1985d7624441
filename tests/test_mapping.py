"""`map` and its relatives: one function over many arguments."""

import contextvars
import functools
import itertools

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import triopool
from triopool import GreenPool, Group, Pool, Task, TaskKilled, TaskStatus


async def give(x):
    return x


async def add(*args):
    return sum(args)


async def fail(x):
    raise ValueError(x)


async def odd_only(x):
    await trio.lowlevel.checkpoint()
    if x % 2 == 0:
        raise ValueError(x)
    return x


async def read(results):
    return [result async for result in results]


async def read_all(results):
    """The results, errors among them as `("error", args)`."""
    got = []
    while True:
        try:
            got.append(await anext(results))
        except StopAsyncIteration:
            return got
        except ValueError as error:
            got.append(("error", error.args[0]))


sizes = pytest.mark.parametrize("size", [1, 2, None])
streams = pytest.mark.parametrize("method", ["imap", "imap_unordered"])


# map


@sizes
async def test_map_returns_the_results_in_the_order_of_the_input(size, autojump_clock):
    async def work(x):
        await trio.sleep(10 - x)
        return x * x

    async with Pool(size) as pool:
        assert await pool.map(work, range(10)) == [x * x for x in range(10)]
        assert await pool.map(add, range(4), [10, 20, 30]) == [10, 21, 32]
        assert await pool.map(add, range(2), range(2), range(2)) == [0, 3]


async def test_map_waits_for_a_pool_of_size_zero_to_be_resized(autojump_clock):
    async with Pool(0) as pool, trio.open_nursery() as nursery:

        async def resize():
            await trio.sleep(10)
            pool.size = 2

        nursery.start_soon(resize)
        assert await pool.map(give, range(3)) == [0, 1, 2]
        assert trio.current_time() == 10


@sizes
@pytest.mark.parametrize("reuse", [True, False])
async def test_map_without_reuse_runs_each_row_in_a_trio_task_of_its_own(size, reuse):
    tasks = []

    async def work(x):
        tasks.append(trio.lowlevel.current_task())
        await trio.lowlevel.checkpoint()
        return x

    async with Pool(size, reuse_tasks=reuse) as pool:
        assert await pool.map(work, range(10)) == list(range(10))
    if not reuse:
        assert len(set(tasks)) == 10
    elif size == 1:
        assert len(set(tasks)) == 1


@pytest.mark.parametrize("rows", [range, lambda n: (i for i in range(n))], ids=["range", "gen"])
async def test_the_first_call_to_fail_cancels_the_rest_and_its_error_is_raised_bare(
    rows, autojump_clock
):
    begun, cancelled = [], []

    async def work(x):
        begun.append(x)
        try:
            await trio.sleep(5 if x == 3 else 100)
        except trio.Cancelled:
            cancelled.append(x)
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            raise
        raise ValueError(x)

    async with Pool(5) as pool:
        with pytest.raises(ValueError, match="3") as caught:
            await pool.map(work, rows(10))
        assert sorted(begun) == [0, 1, 2, 3, 4]
        assert sorted(cancelled) == [0, 1, 2, 4]
        assert trio.current_time() == 7
        assert len(pool) == 0
    assert not hasattr(caught.value, "__notes__")


async def test_the_rest_learns_why_it_is_cancelled(autojump_clock):
    reasons = []

    async def work(x):
        if not x:
            await trio.sleep(1)
            raise ValueError("the reason")
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            reasons.append(str(cancelled))
            raise

    async with Pool() as pool:
        with pytest.raises(ValueError):
            await pool.map(work, range(2))
    assert "the reason" in reasons[0]


async def test_a_failing_map_touches_no_other_call(autojump_clock):
    async with Pool() as pool:
        other = await pool.spawn(trio.sleep, 5)
        results = pool.imap(give, range(3))
        with pytest.raises(ValueError):
            await pool.map(fail, range(3))
        assert other.status is TaskStatus.RUNNING
        assert await read(results) == [0, 1, 2]


@sizes
async def test_a_tie_is_decided_by_the_order_of_the_input(size, autojump_clock):
    """Failures in the same pass of the loop, in whatever order Trio runs the tasks."""

    async def work(x):
        await trio.sleep(1)
        if x:
            raise ValueError(x)

    for _ in range(10):
        async with Pool(size) as pool:
            with pytest.raises(ValueError, match="1"):
                await pool.map(work, range(8))


async def test_an_earlier_failure_wins_over_an_earlier_row(autojump_clock):
    async def work(x):
        await trio.sleep(10 - x)
        raise ValueError(x)

    async with Pool() as pool:
        with pytest.raises(ValueError, match="5"):
            await pool.map(work, range(6))


async def test_the_errors_of_others_are_named_in_notes(autojump_clock):
    async def work(x):
        try:
            await trio.sleep(1 if x < 2 else 100)
        finally:
            if x != 4:
                raise ValueError(f"row {x}")

    async with Pool() as pool:
        with pytest.raises(ValueError, match="row 0") as caught:
            await pool.map(work, range(5))
    notes = "\n".join(caught.value.__notes__)
    assert [x for x in range(5) if f"row {x}" in notes] == [1, 2, 3]


async def test_a_great_many_errors_of_others_are_counted_in_the_last_note(autojump_clock):
    async def work(x):
        await trio.sleep(1)
        raise ValueError(f"row {x}.")

    async with Pool() as pool:
        with pytest.raises(ValueError, match=r"row 0\.") as caught:
            await pool.map(work, range(100))
    assert 2 <= len(caught.value.__notes__) <= 50
    named = sum("row" in note for note in caught.value.__notes__)
    assert str(99 - named) in caught.value.__notes__[-1]


async def test_an_error_of_the_input_beside_that_of_a_call_is_named_in_a_note(autojump_clock):
    def rows():
        try:
            yield 1
            yield 2
        finally:
            raise KeyError("the input")

    async with Pool(1) as pool:
        with pytest.raises(ValueError, match="1") as caught:
            await pool.map(fail, rows())
    assert any("the input" in note for note in caught.value.__notes__)


async def test_an_error_whose_repr_fails_is_raised_all_the_same(autojump_clock, balanced):
    class Odd(Exception):
        def __repr__(self):
            raise ZeroDivisionError

    async def work(x):
        await trio.sleep(1 if x < 2 else 100)
        raise Odd

    async with Pool() as pool:
        with pytest.raises(Odd):
            await pool.map(work, range(4))
        balanced(pool)
        task = pool.map_async(trio.sleep, [1000])
        results = pool.imap(trio.sleep, [1000])
        await wait_all_tasks_blocked()
        assert await pool.kill(Odd())
        with pytest.raises(Odd):
            await task
        with pytest.raises(Odd):
            await anext(results)
        balanced(pool)


async def test_errors_of_a_map_are_reported_once():
    async with Pool() as pool:
        for _ in range(2):
            with pytest.raises(ValueError):
                await pool.map(fail, range(5))
        assert await pool.join(raise_error=True)


async def test_the_errors_of_a_maps_calls_are_not_for_on_error():
    failed = []
    async with Pool(on_error=failed.append) as pool:
        with pytest.raises(ValueError):
            await pool.map(fail, range(5))
        assert len(await read_all(pool.imap(fail, range(5)))) == 5
    assert failed == []
    async with Pool(on_error="cancel") as pool:
        with pytest.raises(ValueError):
            await pool.map(fail, range(5))
        assert len(await read_all(pool.imap(fail, range(5)))) == 5
        assert not pool.cancel_scope.cancel_called


@sizes
async def test_return_exceptions_gives_errors_as_values_and_cancels_nothing(size):
    async with Pool(size) as pool:
        results = await pool.map(odd_only, range(6), return_exceptions=True)
        assert results[1::2] == [1, 3, 5]
        assert [error.args for error in results[::2]] == [(0,), (2,), (4,)]
        assert all(type(error) is ValueError for error in results[::2])
        for method in (pool.imap, pool.imap_unordered):
            results = await read(method(odd_only, range(6), return_exceptions=True))
            assert sorted(map(repr, results)) == sorted(
                ["1", "3", "5", "ValueError(0)", "ValueError(2)", "ValueError(4)"]
            )
        rows = [(x,) for x in range(6)]
        results = await read(pool.starmap(odd_only, rows, return_exceptions=True))
        assert results[1::2] == [1, 3, 5]


async def test_return_exceptions_gives_the_kill_of_a_row_as_a_value(autojump_clock):
    async with Pool() as pool, trio.open_nursery() as nursery:

        async def kill_first():
            await trio.sleep(1)
            await pool.killone(next(iter(pool)))

        nursery.start_soon(kill_first)
        results = await pool.map(trio.sleep, [10, 10], return_exceptions=True)
        assert sorted(map(repr, map(type, results))) == [repr(type(None)), repr(TaskKilled)]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("return_exceptions", [True, False])
async def test_what_is_no_exception_takes_the_pool_down(exception, return_exceptions):
    async def stop(x):
        raise exception

    with pytest.raises(exception):
        async with Pool() as pool:
            await pool.map(stop, [1], return_exceptions=return_exceptions)
    with pytest.raises(exception):
        async with Pool() as pool:
            await read(pool.imap(stop, [1], return_exceptions=return_exceptions))
    with pytest.raises(exception):
        async with Pool() as pool:
            results = pool.imap_unordered(stop, [1], return_exceptions=return_exceptions)
            await trio.sleep_forever()
    del results


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_exception_takes_the_pool_down_beside_a_cancellation(exception):
    async def stop(x):
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("both", [cancelled, exception()]) from None

    with pytest.raises(BaseExceptionGroup) as caught:
        async with Pool() as pool:
            results = pool.imap(stop, [1])
            await wait_all_tasks_blocked()
            pool.cancel_scope.cancel()
    del results
    assert caught.group_contains(exception)


async def test_a_group_of_cancellations_of_a_row_is_one_cancellation(autojump_clock):
    async def work(x):
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("more than one", [cancelled]) from None

    with trio.move_on_after(1) as scope:
        async with Pool(2) as pool:
            await pool.map(work, range(3))
    assert scope.cancelled_caught


@pytest.mark.parametrize("method", ["map", "imap", "starmap"])
async def test_a_sync_function_is_a_type_error_that_names_threadpool(method, balanced):
    def sync(x):
        return x

    async with Pool(2) as pool:
        with pytest.raises(TypeError, match="ThreadPool"):
            if method == "map":
                await pool.map(sync, [1])
            else:
                await anext(getattr(pool, method)(sync, [(1,)]))
        balanced(pool)
        assert await pool.map(give, [1]) == [1]


async def test_a_coroutine_object_is_a_type_error(balanced):
    async with Pool(2) as pool:
        for ask in (pool.map, pool.map_cb):
            with pytest.raises(TypeError, match="coroutine"):
                await ask(give(1), [1])
        for ask in (pool.map_async, pool.imap, pool.imap_unordered, pool.starmap):
            with pytest.raises(TypeError, match="coroutine"):
                ask(give(1), [1])
        balanced(pool)


async def test_anything_that_returns_an_awaitable_may_be_mapped():
    class Callable:
        async def __call__(self, x):
            return x

    for func in (Callable(), lambda x: give(x), functools.partial(add, 0), Callable().__call__):
        async with Pool(2) as pool:
            assert await pool.map(func, range(3)) == [0, 1, 2]
            assert await read(pool.imap(func, range(3))) == [0, 1, 2]


async def test_a_pool_that_is_not_open_maps_nothing():
    for ask in ("map", "map_cb", "map_async", "imap", "imap_unordered", "starmap"):
        for error, pool in ((RuntimeError, Pool(2)), (trio.ClosedResourceError, Pool(2))):
            if error is trio.ClosedResourceError:
                async with pool:
                    pass
            with pytest.raises(error):
                result = getattr(pool, ask)(give, [1])
                await result
    async with Pool(2) as pool:
        pool.close()
        with pytest.raises(trio.ClosedResourceError):
            await pool.map(give, [1])
        with pytest.raises(trio.ClosedResourceError):
            pool.imap(give, [1])


# map_cb and map_async


async def test_map_cb_calls_back_with_the_results_before_it_returns(autojump_clock):
    seen = []

    async def callback(results):
        assert pool.free_count() == 1
        await trio.sleep(5)
        seen.append(results)

    async with Pool(1) as pool:
        assert await pool.map_cb(give, [1, 2], callback) == [1, 2]
        assert await pool.map_cb(give, [3], seen.append) == [3]
        assert await pool.map_cb(give, [4]) == [4]
        with pytest.raises(ValueError):
            await pool.map_cb(fail, [5], seen.append)
    assert seen == [[1, 2], [3]]


async def test_an_error_of_a_callback_of_map_cb_is_raised():
    async with Pool(1) as pool:
        with pytest.raises(ValueError):
            await pool.map_cb(give, [1], fail)


async def test_map_async_is_sync_and_has_no_slot(autojump_clock):
    async def work(x):
        await trio.sleep(1)
        return x

    async with Pool(2) as pool:
        task = pool.map_async(work, [1, 2, 3])
        assert isinstance(task, Task)
        await trio.sleep(0.5)
        assert len(pool) == 2
        assert task not in pool
        assert await task == [1, 2, 3]
        assert task.value == [1, 2, 3]


async def test_map_async_calls_back_without_a_slot_and_the_block_waits_for_it(autojump_clock):
    seen = []

    async def callback(results):
        assert len(pool) == 0
        await trio.sleep(5)
        seen.append(results)

    async with Pool(1) as pool:
        pool.map_async(give, [1, 2], callback)
        await wait_all_tasks_blocked()
        pool.map_async(give, [3], seen.append)
    assert seen == [[3], [1, 2]]
    assert trio.current_time() == 5


async def test_an_error_of_map_async_is_that_of_its_task():
    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(2) as pool:
            task = pool.map_async(fail, [1])
            with pytest.raises(ValueError):
                await task
            pool.map_async(give, [1], fail)
            pool.map_async(fail, [2])
    assert sorted(error.args[0] for error in caught.value.exceptions if error.args[0] == 2) == [2]
    assert [type(error) for error in caught.value.exceptions] == [ValueError, ValueError]


async def test_killing_the_task_of_map_async_kills_the_map(autojump_clock, balanced):
    async with Pool(2) as pool:
        task = pool.map_async(trio.sleep, [100, 100, 100])
        await trio.sleep(1)
        assert await task.kill()
        assert task.status is TaskStatus.KILLED
        balanced(pool)
        task = pool.map_async(trio.sleep, [100])
        assert await task.kill()
        with pytest.raises(TaskKilled):
            await task
        task = pool.map_async(trio.sleep, [100])
        await trio.sleep(1)
        assert await pool.kill()
        with pytest.raises(TaskKilled):
            await task


# The iterators


@sizes
async def test_imap_keeps_the_order_of_the_input_and_imap_unordered_that_of_completion(
    size, autojump_clock
):
    async def work(x):
        await trio.sleep(x)
        return x

    async with Pool(size) as pool:
        rows = [3, 1, 2]
        assert await read(pool.imap(work, rows)) == rows
        completed = {1: [3, 1, 2], 2: [1, 3, 2], None: [1, 2, 3]}[size]
        assert sorted(await read(pool.imap_unordered(work, rows))) == [1, 2, 3]
        if size != 2:  # where two end at once
            assert await read(pool.imap_unordered(work, rows)) == completed


@streams
async def test_an_iterator_starts_at_once(method, autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)
        await trio.sleep(1)
        return x

    async with Pool(2) as pool:
        results = getattr(pool, method)(work, range(6))
        assert begun == []
        await trio.sleep(10)
        assert sorted(begun) == [0, 1, 2, 3, 4, 5]
        assert sorted(await read(results)) == [0, 1, 2, 3, 4, 5]
        assert trio.current_time() == 10


@sizes
@streams
@pytest.mark.parametrize("maxsize", [1, 3, None])
async def test_a_failing_call_raises_at_its_place_and_iteration_goes_on(method, size, maxsize):
    async with Pool(size) as pool:
        got = await read_all(getattr(pool, method)(odd_only, range(7), maxsize=maxsize))
        wanted = [("error", 0), 1, ("error", 2), 3, ("error", 4), 5, ("error", 6)]
        if method == "imap":
            assert got == wanted
        assert sorted(map(str, got)) == sorted(map(str, wanted))


@streams
async def test_stopasynciteration_of_a_call_is_an_error_and_no_end(method):
    async def work(x):
        if x == 1:
            raise StopAsyncIteration
        return x

    async with Pool(1) as pool:
        results = getattr(pool, method)(work, range(4))
        assert await anext(results) == 0
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await anext(results)
        assert await read(results) == [2, 3]


async def test_starmap_calls_with_the_items_of_each_row():
    async with Pool(2) as pool:
        assert await read(pool.starmap(add, [(1, 2), (3,), (), [4, 5, 6]])) == [3, 3, 0, 15]
        assert await read(pool.starmap(add, iter([(1, 2)]), 1)) == [3]

        async def rows():
            yield 1, 2
            yield 3, 4

        assert await read(pool.starmap(add, rows(), maxsize=1)) == [3, 7]


async def test_a_row_of_starmap_that_is_no_tuple_is_an_error_of_that_row(balanced):
    async with Pool(1) as pool:
        results = pool.starmap(add, [(1,), 2, (3,)])
        assert await anext(results) == 1
        with pytest.raises(TypeError):
            await anext(results)
        assert await anext(results) == 3
        await results.aclose()
        balanced(pool)


async def test_a_row_of_starmap_that_is_no_tuple_can_be_looked_at():
    def rows():
        yield 2
        # It has a worker, which begins in the next pass of the loop.
        (task,) = pool
        assert task.func is add

    async with Pool() as pool:
        results = pool.starmap(add, rows())
        with pytest.raises(TypeError):
            await anext(results)
        assert await read(results) == []


# The handles of rows


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered", "starmap"])
@pytest.mark.parametrize("rows", [list, iter], ids=["list", "iterator"])
async def test_rows_have_handles(method, rows, autojump_clock):
    async def work(x, y=None):
        await trio.sleep(5)
        return x

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        if method == "map":
            nursery.start_soon(pool.map, work, rows([1, 2, 3]))
        elif method == "starmap":
            results = pool.starmap(work, rows([(1,), (2,), (3,)]))
        else:
            results = getattr(pool, method)(work, rows([1, 2, 3]))
        await trio.sleep(1)
        handles = list(pool)
        assert sorted(task.args for task in handles) == [(1,), (2,)]
        assert [task.func for task in handles] == [work, work]
        assert all(task.status is TaskStatus.RUNNING and task in pool for task in handles)
        assert list(pool) == handles
        assert len(pool) == 2
        assert bool(pool)
        seen = []
        handles[0].link(seen.append)
        assert await handles[0] == handles[0].value
        assert seen == [handles[0]]
        assert handles[0] not in pool
        if method != "map":
            assert sorted(await read(results)) == [1, 2, 3]


async def test_a_worker_between_two_rows_has_no_handle():
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, busy, range(10**9))
        while calls < 1_000:
            await trio.lowlevel.checkpoint()
            for task in pool:
                # It has been given to a worker that has not begun.
                assert task.status is TaskStatus.RUNNING
                assert task.args == (calls,)
        nursery.cancel_scope.cancel()


async def test_a_map_in_a_child_task_of_every_member_of_a_full_pool_is_a_deadlock(autojump_clock):
    async def member():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.map, give, [1])

    async with Pool(1) as pool:
        with pytest.raises(ExceptionGroup) as caught:
            await (await pool.spawn(member))
        assert caught.group_contains(triopool.PoolDeadlock)
        assert await pool.map(give, [1]) == [1]


async def test_a_row_knows_itself():
    seen = []

    async def work(x):
        task = triopool.current_task()
        await trio.lowlevel.checkpoint()
        seen.append((task is triopool.current_task(), task.args, task.name))
        assert trio.lowlevel.current_task().name == task.name

    async with Pool(2) as pool:
        await pool.map(work, [1, 2, 3])
    assert [same for same, _, _ in seen] == [True] * 3
    assert sorted(args for _, args, _ in seen) == [(1,), (2,), (3,)]
    assert all("work" in name for _, _, name in seen)


async def test_the_error_of_a_row_is_its_readers_and_can_be_had_from_its_handle(autojump_clock):
    async def work(x):
        await trio.sleep(1)
        raise ValueError(x)

    async with Pool() as pool:
        results = pool.imap(work, [1])
        await wait_all_tasks_blocked()
        (task,) = pool
        await task.join()
        assert task.status is TaskStatus.FAILED
        with pytest.raises(ValueError):
            await anext(results)
        assert isinstance(task.exception, ValueError)
        with pytest.raises(ValueError):
            await task


async def test_killone_of_a_row_raises_at_its_place(autojump_clock):
    async def work(x):
        await trio.sleep(5)
        return x

    async with Pool() as pool:
        for verdict in (TaskKilled, KeyError("why")):
            results = pool.imap(work, range(4))
            await trio.sleep(1)
            (victim,) = (task for task in pool if task.args == (2,))
            assert await pool.killone(victim, verdict)
            assert victim.status is TaskStatus.KILLED
            assert await anext(results) == 0
            assert await anext(results) == 1
            with pytest.raises(type(verdict) if isinstance(verdict, KeyError) else TaskKilled):
                await anext(results)
            assert await read(results) == [3]


async def test_killone_of_a_row_of_a_map_ends_the_map(autojump_clock, balanced):
    async with Pool() as pool, trio.open_nursery() as nursery:

        async def mapping():
            with pytest.raises(TaskKilled, match="enough"):
                await pool.map(trio.sleep, [100, 100, 100])

        nursery.start_soon(mapping)
        await trio.sleep(1)
        await pool.killone(next(iter(pool)), reason="enough")
        await wait_all_tasks_blocked()
        balanced(pool)


async def test_an_error_that_several_rows_raise_is_not_named_beside_itself(autojump_clock):
    error = ValueError("the same each time")

    async def fail(x):
        await trio.sleep(1)
        raise error

    async with Pool() as pool:
        with pytest.raises(ValueError, match="the same") as caught:
            await pool.map(fail, range(3))
    assert not hasattr(caught.value, "__notes__")


async def test_a_row_that_was_killed_before_its_first_line_never_runs():
    begun = []

    async def note(x):
        begun.append(x)
        return x

    def rows():
        yield 0
        yield 1
        # Both have a slot and a worker, which begins in the next pass of the loop.
        for task in pool:
            task.kill_nowait(KeyError(task.args[0]))
        yield 2

    async with Pool() as pool:
        results = pool.imap(note, rows())
        for x in (0, 1):
            with pytest.raises(KeyError, match=str(x)):
                await anext(results)
        assert await read(results) == [2]
    assert begun == [2]


async def test_a_row_may_survive_its_kill(autojump_clock):
    async def stubborn(x):
        try:
            await trio.sleep(5)
        except trio.Cancelled:
            return "survived"

    async with Pool() as pool:
        results = pool.imap(stubborn, [1, 2])
        await trio.sleep(1)
        tasks = list(pool)
        pool.kill_nowait()
        await wait_all_tasks_blocked()
        assert [task.status for task in tasks] == [TaskStatus.SUCCEEDED] * 2
        assert [await anext(results), await anext(results)] == ["survived"] * 2


async def test_a_row_that_kills_itself_ends_at_its_next_checkpoint():
    async def work(x):
        if x == 1:
            await triopool.current_task().kill()
            await trio.lowlevel.checkpoint()
            raise AssertionError
        return x

    async with Pool(1) as pool:
        results = pool.imap(work, range(3))
        assert await anext(results) == 0
        with pytest.raises(TaskKilled):
            await anext(results)
        assert await anext(results) == 2
        await results.aclose()


async def test_a_killed_row_does_not_hurt_the_next_row_of_its_worker(autojump_clock):
    async def work(x):
        if x % 3 == 0:
            triopool.current_task().kill_nowait()
        await trio.sleep(1)
        return x

    async with Pool(1) as pool:
        results = await pool.map(work, range(9), return_exceptions=True)
    assert [x for x in results if not isinstance(x, TaskKilled)] == [1, 2, 4, 5, 7, 8]


# Kill, cancel


@sizes
async def test_a_map_in_progress_raises_taskkilled_when_the_pool_is_killed(size, autojump_clock):
    ends = []

    async def mapping():
        try:
            await pool.map(trio.sleep, [100] * 5)
        except KeyError as error:
            ends.append(error)

    async with Pool(size) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(mapping)
        await trio.sleep(1)
        verdict = KeyError("enough")
        assert await pool.kill(verdict)
        await wait_all_tasks_blocked()
        assert ends == [verdict]
        assert await pool.map(give, range(3)) == [0, 1, 2]


async def test_a_map_whose_pool_is_cancelled_elsewhere_gets_no_foreign_cancelled(autojump_clock):
    ends = []

    async def mapping():
        try:
            await pool.map(trio.sleep, [100] * 5)
        except TaskKilled:
            ends.append("killed")

    async with trio.open_nursery() as nursery:
        async with Pool(2) as pool:
            nursery.start_soon(mapping)
            await trio.sleep(1)
            pool.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert ends == ["killed"]


async def test_calls_of_a_map_are_cancelled_with_their_caller_and_have_the_pools_deadlines(
    autojump_clock,
):
    deadlines = []

    async def work(x):
        deadlines.append(trio.current_effective_deadline())

    async with Pool(2) as pool:
        with trio.move_on_after(50):
            await pool.map(work, range(2))
    with trio.move_on_after(70):
        async with Pool(2) as pool:
            await pool.map(work, range(2))
    assert deadlines == [float("inf")] * 2 + [70] * 2


async def test_a_nursery_that_a_row_leaves_open_is_an_error_of_that_row(autojump_clock):
    async def leaves(x):
        if x == 1:
            await trio.open_nursery().__aenter__()
        return x

    async with Pool(1) as pool:
        results = await pool.map(leaves, range(4), return_exceptions=True)
    assert [x for x in results if not isinstance(x, RuntimeError)] == [0, 2, 3]


async def test_a_scope_that_a_row_leaves_open_does_not_reach_the_next_row(autojump_clock):
    async def leaves(x):
        if x == 1:
            trio.move_on_after(1).__enter__()
        await trio.sleep(2 if x > 1 else 0)
        return x

    async with Pool(1) as pool:
        results = await pool.map(leaves, range(5), return_exceptions=True)
    assert [results[i] for i in (0, 2, 3, 4)] == [0, 2, 3, 4]


# Contexts, names, classes


variable = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("set_before", [True, False])
async def test_each_row_has_a_fresh_copy_of_the_context_of_whoever_asked(size, set_before):
    seen = []

    async def work(x):
        seen.append(variable.get())
        await trio.lowlevel.checkpoint()
        variable.set(f"set by {x}")
        if x % 2:
            other.set([])

    other = contextvars.ContextVar("other")
    if set_before:
        variable.set("mine")
    async with Pool(size) as pool:
        await pool.map(work, range(10))
        results = pool.imap(work, range(10))
        variable.set("later")
        await read(results)
    assert seen == ["mine" if set_before else "unset"] * 20
    variable.set("unset")


def test_rows_may_start_from_an_empty_context():
    seen = []

    async def work(x):
        seen.append(variable.get())
        if x == 2:
            variable.set("set by a row")

    async def main():
        async with Pool(1) as pool:
            await pool.map(work, range(6))

    contextvars.Context().run(trio.run, main)
    assert seen == ["unset"] * 6


async def test_rows_are_counted_in_len_and_named_after_their_function(autojump_clock):
    names = []

    async def work(x):
        names.append(trio.lowlevel.current_task().name)
        await trio.sleep(1)

    async with Pool(2) as pool:
        await pool.map(work, range(4))
        await pool.map(functools.partial(work), range(2))
    assert len(names) == 6
    assert all(name.endswith("work") for name in names)


@pytest.mark.parametrize("reuse", [True, False])
async def test_a_task_class_runs_rows_its_own_way(reuse, autojump_clock):
    class Twice(Task):
        async def run(self):
            assert triopool.current_task() is self
            return 2 * await super().run()

    async with Pool(2, Twice, reuse_tasks=reuse) as pool:
        assert await pool.map(give, range(3)) == [0, 2, 4]
        assert await read(pool.imap(give, range(3))) == [0, 2, 4]
        assert await read(pool.starmap(add, [(1, 2), (3, 4)])) == [6, 14]
        assert sorted(await read(pool.imap_unordered(add, range(3), range(3)))) == [0, 4, 8]
        with pytest.raises(ValueError):
            await pool.map(fail, range(3))
        results = pool.imap(trio.sleep, [1000])
        await wait_all_tasks_blocked()
        (task,) = pool
        assert isinstance(task, Twice)
        await task.kill()
        with pytest.raises(TaskKilled):
            await anext(results)


async def test_a_task_class_without_a_run_of_its_own_makes_the_handles(autojump_clock):
    class Mine(Task):
        pass

    async with Pool(2, Mine) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, trio.sleep, [1, 1])
        await wait_all_tasks_blocked()
        assert [type(task) for task in pool] == [Mine, Mine]
        pool.task_class = Task
        nursery.start_soon(pool.map, trio.sleep, [1, 1])
        await trio.sleep(1.5)
        assert [type(task) for task in pool] == [Task, Task]


async def test_a_row_that_is_discarded_frees_its_slot_and_goes_on(autojump_clock, balanced):
    async def work(x):
        await trio.sleep(10)
        return x

    async with Pool(1) as pool:
        results = pool.imap(work, [1, 2])
        await trio.sleep(1)
        pool.discard(next(iter(pool)))
        await trio.sleep(1)
        assert [task.args for task in pool] == [(2,)]
        assert await read(results) == [1, 2]
        assert trio.current_time() < 13
        await pool.join()
        balanced(pool)


async def test_a_group_and_a_green_pool_map_as_well():
    for pool in (Group(), GreenPool(2)):
        async with pool:
            assert await pool.map(give, range(5)) == list(range(5))
            assert await read(pool.imap(give, range(5))) == list(range(5))
            assert await read(pool.starmap(add, [(1, 2)])) == [3]
    async with GreenPool(2) as pool:
        assert await read(pool.imap(None, [1, 2], "ab")) == [(1, "a"), (2, "b")]
        assert await read(pool.starmap(None, [(1, 2), (3,)])) == [(1, 2), (3,)]


# Against plain Python


class Oops(Exception):
    pass


rows_of_work = st.lists(
    st.tuples(st.sampled_from([None, 0, 0.5, 1, 2, 7]), st.booleans()), max_size=12
)


@hypothesis.given(
    rows=rows_of_work,
    size=st.sampled_from([1, 2, 3, None]),
    maxsize=st.sampled_from([1, 2, 4, None]),
    kind=st.sampled_from(["list", "generator", "async"]),
    reuse=st.booleans(),
    pause=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 3),
)
def test_random_rows_give_what_plain_python_gives(rows, size, maxsize, kind, reuse, pause, seed):
    """Each row sleeps (None: has no checkpoint at all), then returns its number or raises it."""
    wanted = [("error" if fails else "value", i) for i, (_, fails) in enumerate(rows)]

    def source():
        if kind == "list":
            return list(enumerate(rows))
        if kind == "generator":
            return (row for row in enumerate(rows))

        async def slow():
            for row in enumerate(rows):
                if row[0] % 4 == seed:
                    await trio.sleep(seed)
                yield row

        return slow()

    running = begun = read_so_far = 0

    async def work(row):
        nonlocal running, begun
        number, (delay, fails) = row
        running += 1
        begun += 1
        assert running <= (size or len(rows))
        if maxsize is not None:
            # One more for what the reader waits for.
            assert begun - read_so_far <= maxsize + 1
        try:
            if delay is not None:
                await trio.sleep(delay)
        finally:
            running -= 1
        if fails:
            raise Oops(number)
        return number

    async def collect(results):
        nonlocal begun, read_so_far
        begun = read_so_far = 0
        got = []
        while True:
            if pause is not None:
                await trio.sleep(pause)
            try:
                got.append(("value", await anext(results)))
            except Oops as error:
                got.append(("error", error.args[0]))
            except StopAsyncIteration:
                return got
            read_so_far += 1

    async def main():
        nonlocal read_so_far
        async with Pool(size, reuse_tasks=reuse) as pool:
            assert await collect(pool.imap(work, source(), maxsize=maxsize)) == wanted
            got = await collect(pool.imap_unordered(work, source(), maxsize=maxsize))
            assert sorted(got, key=lambda result: result[1]) == wanted

            read_so_far = float("inf")
            got = await pool.map(work, source(), return_exceptions=True)
            assert [
                ("error", result.args[0]) if isinstance(result, Oops) else ("value", result)
                for result in got
            ] == wanted

            failing = {number for kind, number in wanted if kind == "error"}
            if failing:
                with pytest.raises(Oops) as caught:
                    await pool.map(work, source())
                assert caught.value.args[0] in ({min(failing)} if size == 1 else failing)
            else:
                assert await pool.map(work, source()) == [number for _, number in wanted]
            books = pool.limiter.statistics()
            assert (books.borrowed_tokens, books.tasks_waiting, running) == (0, 0, 0)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@hypothesis.given(
    columns=st.lists(st.lists(st.integers(), max_size=6), min_size=1, max_size=3),
    kinds=st.lists(st.booleans(), min_size=3, max_size=3),
    size=st.sampled_from([1, 2, None]),
)
def test_random_columns_are_zipped_as_plain_python_does(columns, kinds, size):
    wanted = [sum(row) for row in zip(*columns, strict=False)]

    async def asynchronous(column):
        for x in column:
            await trio.lowlevel.checkpoint()
            yield x

    def sources():
        return [
            asynchronous(column) if is_async else column
            for column, is_async in zip(columns, kinds, strict=False)
        ]

    async def main():
        async with Pool(size) as pool:
            assert await pool.map(add, *sources()) == wanted
            assert await read(pool.imap(add, *sources())) == wanted
            assert sorted(await read(pool.imap_unordered(add, *sources()))) == sorted(wanted)
            rows = itertools.starmap(lambda *row: row, zip(*columns, strict=False))
            assert await read(pool.starmap(add, rows)) == wanted

    trio.run(main, clock=MockClock(autojump_threshold=0))


# Killed with a map, or by what a link raises


@pytest.mark.parametrize("how", ["pool", "row", "exit"])
async def test_a_map_async_whose_map_is_killed_is_killed_and_no_error(how):
    async def sleep(_):
        await trio.sleep_forever()

    with trio.CancelScope() as outside:
        async with Pool(2) as pool:
            task = pool.map_async(sleep, range(5))
            await wait_all_tasks_blocked()
            if how == "pool":
                await pool.kill(KeyError("enough"))
            elif how == "row":
                await pool.killone(next(iter(pool)), KeyError("enough"))
            else:
                outside.cancel()
                await trio.lowlevel.checkpoint()
            with pytest.raises(KeyError, match="enough"):
                await task.get()
    assert outside.cancelled_caught == (how == "exit")
    assert task.status is TaskStatus.KILLED
    assert task.exception is None


@pytest.mark.parametrize("method", ["map", "imap"])
async def test_a_link_on_a_row_that_exits_takes_the_pool_down(method):
    started = []
    ended = []

    def leave(_):
        raise SystemExit(3)

    async def row(x):
        started.append(x)
        if x == 0:
            while len(started) < 3:
                await trio.lowlevel.checkpoint()
            triopool.current_task().link(leave)
        else:
            try:
                await trio.sleep_forever()
            finally:
                ended.append(x)

    with pytest.raises(SystemExit):
        async with Pool(3) as pool:
            if method == "map":
                await pool.map(row, range(3))
            else:
                async for _ in pool.imap(row, range(3)):
                    pass
    assert sorted(ended) == [1, 2]


async def test_a_link_on_a_call_in_place_that_exits_takes_the_pool_down():
    def leave(_):
        raise SystemExit(3)

    async def inner():
        triopool.current_task().link(leave)

    async def outer():
        await pool.apply(inner)

    with pytest.raises(SystemExit):
        async with Pool(1) as pool:
            await pool.apply(outer)


async def test_a_map_async_that_is_killed_before_it_begins_runs_no_row():
    async def row(_):
        raise AssertionError

    async with Pool(2) as pool:
        task = pool.map_async(row, [0, 1])
        task.kill_nowait()
        await pool.join()
    assert task.status is TaskStatus.KILLED
