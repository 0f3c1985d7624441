"""Rule 13: join is over when nothing runs, nothing waits for a slot, and nothing can advance."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from triopool import GreenPool, Group, Pool, Task

POOLS = pytest.mark.parametrize(
    ("kind", "method"),
    [(Group, "join"), (Pool, "join"), (GreenPool, "join"), (GreenPool, "waitall")],
)


async def fail(message="broken"):
    raise ValueError(message)


async def takes(seconds, result=None):
    await trio.sleep(seconds)
    return result


@POOLS
async def test_join_waits_for_every_call_that_runs(kind, method, autojump_clock):
    async with kind() as pool:
        for seconds in (3, 1, 2):
            await pool.spawn(takes, seconds)
        began = trio.current_time()
        await getattr(pool, method)()
        assert trio.current_time() == began + 3
        assert len(pool) == 0


@POOLS
async def test_join_of_an_idle_pool_is_over_at_once_and_checkpoints(kind, method):
    async with kind() as pool:
        with assert_checkpoints():
            await getattr(pool, method)()


async def test_join_that_waits_checkpoints():
    async with Pool() as pool:
        await pool.spawn(trio.lowlevel.checkpoint)
        with assert_checkpoints():
            assert await pool.join() is True


async def test_join_waits_for_calls_that_wait_for_a_slot(autojump_clock):
    async with Pool(1) as pool:
        for _ in range(5):
            pool.apply_async(takes, (1,))
        assert await pool.join()
        assert trio.current_time() == 5


async def test_join_waits_for_callers_that_are_parked_in_spawn(autojump_clock):
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        await pool.spawn(takes, 1)
        nursery.start_soon(pool.spawn, takes, 10)
        nursery.start_soon(pool.start, Task(takes, 100))
        await wait_all_tasks_blocked()
        assert await pool.join()
        assert trio.current_time() == 111


async def test_join_waits_for_callbacks(autojump_clock):
    done = []

    async def callback(result):
        await trio.sleep(5)
        done.append(result)

    async with Pool(1) as pool:
        pool.apply_async(takes, (1, "call"), callback=callback)
        pool.map_async(takes, [1], callback=callback)
        assert await pool.join()
        assert sorted(map(str, done)) == ["[None]", "call"]


@pytest.mark.parametrize("method", ["map", "map_async"])
async def test_join_waits_for_maps(method, autojump_clock):
    async with Pool(2) as pool, trio.open_nursery() as nursery:
        if method == "map":
            nursery.start_soon(pool.map, takes, [1] * 6)
        else:
            pool.map_async(takes, [1] * 6)
        await wait_all_tasks_blocked()
        assert await pool.join()
        assert trio.current_time() == 3


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
async def test_join_waits_for_an_iterator_that_can_advance_without_its_reader(
    method, autojump_clock
):
    async with Pool(2) as pool:
        results = getattr(pool, method)(takes, [1] * 6)
        assert await pool.join()
        assert trio.current_time() == 3
        assert [x async for x in results] == [None] * 6


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
async def test_a_row_held_back_only_by_its_reader_does_not_count(method, autojump_clock):
    async with Pool(5) as pool:
        results = getattr(pool, method)(takes, [1] * 6, maxsize=2)
        assert await pool.join()
        assert trio.current_time() == 1
        await anext(results)
        await anext(results)
        # Now there is room again.
        assert await pool.join()
        assert trio.current_time() == 2
        assert len([x async for x in results]) == 4


async def test_join_waits_for_an_iterator_whose_input_is_slow(autojump_clock):
    async def rows():
        yield 1
        await trio.sleep(10)
        yield 1

    async with Pool(5) as pool:
        results = pool.imap(takes, rows())
        assert await pool.join()
        assert trio.current_time() == 11
        await results.aclose()


async def test_join_waits_for_added_tasks(autojump_clock):
    async with Pool() as other, Pool() as pool:
        await pool.add(await other.spawn(takes, 3))
        assert await pool.join()
        assert trio.current_time() == 3


async def test_join_does_not_wait_for_discarded_tasks(autojump_clock):
    async with Pool() as other, Pool() as pool:
        task = await other.spawn(takes, 3)
        await pool.add(task)
        pool.discard(task)
        own = await pool.spawn(takes, 2)
        pool.discard(own)
        assert await pool.join()
        assert trio.current_time() == 0
        assert not own.ready()


async def test_join_waits_for_the_cleanup_of_killed_calls(autojump_clock):
    async def cleans_up():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(7)

    async with Pool() as pool:
        await pool.spawn(cleans_up)
        await wait_all_tasks_blocked()
        pool.kill_nowait()
        assert await pool.join()
        assert trio.current_time() == 7


async def test_join_waits_for_calls_that_calls_spawn_meanwhile(autojump_clock):
    async def chain(n):
        await trio.sleep(1)
        if n:
            await pool.spawn(chain, n - 1)

    async with Pool() as pool:
        await pool.spawn(chain, 4)
        assert await pool.join()
        assert trio.current_time() == 5


@pytest.mark.parametrize("timeout", [0, 2])
async def test_join_that_runs_out_of_time_says_false_and_harms_no_one(timeout, autojump_clock):
    async with Pool() as pool:
        task = await pool.spawn(takes, 5, "whole")
        assert await pool.join(timeout=timeout) is False
        assert trio.current_time() == timeout
        assert await pool.join(timeout=10) is True
        assert task.value == "whole"


async def test_join_of_a_pool_of_size_zero_waits_for_its_queue(autojump_clock):
    async with Pool(0) as pool:
        task = pool.apply_async(takes, (1,))
        assert await pool.join(timeout=100) is False
        pool.size = 1
        assert await pool.join() is True
        assert task.successful()


async def test_a_cancelled_join_leaves_everything_running(autojump_clock):
    async with Pool() as pool:
        task = await pool.spawn(takes, 5, "whole")
        with trio.move_on_after(1) as scope:
            await pool.join()
        assert scope.cancelled_caught
        assert await task.get() == "whole"


async def test_many_may_join_and_all_come_back(autojump_clock):
    back = []

    async def join():
        back.append(await pool.join())

    async with Pool() as pool, trio.open_nursery() as nursery:
        await pool.spawn(takes, 5)
        for _ in range(3):
            nursery.start_soon(join)
    assert back == [True] * 3


async def test_join_leaves_the_pool_open(autojump_clock):
    async with Pool(1) as pool:
        for n in range(3):
            await pool.spawn(takes, 1)
            assert await pool.join()
            assert trio.current_time() == n + 1


async def test_join_works_after_close(autojump_clock):
    async with Pool(1) as pool:
        await pool.spawn(takes, 1)
        pool.apply_async(takes, (1,))
        pool.close()
        assert await pool.join()
        assert trio.current_time() == 2


async def test_join_of_a_pool_that_is_cancelled_comes_back(autojump_clock):
    back = []

    async def join(pool):
        back.append(await pool.join())

    async with trio.open_nursery() as nursery, Pool(1) as pool:
        await pool.spawn(trio.sleep_forever)
        pool.apply_async(trio.sleep_forever)
        nursery.start_soon(join, pool)
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
    assert back == [True]


async def test_join_says_nothing_of_errors_unless_it_is_asked():
    async with Pool() as pool:
        task = await pool.spawn(fail)
        assert await pool.join() is True
        assert isinstance(task.exception, ValueError)


async def test_join_with_raise_error_raises_all_unobserved_errors_in_a_group():
    async with Pool() as pool:
        for message in "abc":
            await pool.spawn(fail, message)
        with pytest.raises(ExceptionGroup, match="3 unobserved errors in Pool") as caught:
            await pool.join(raise_error=True)
        assert sorted(str(e) for e in caught.value.exceptions) == ["a", "b", "c"]
        assert await pool.join(raise_error=True) is True


async def test_gevent_521_join_with_raise_error_raises_what_failed_before_it_was_called():
    async with Pool() as pool:
        task = await pool.spawn(fail)
        await task.join()
        with pytest.raises(ExceptionGroup, match="1 unobserved error in Pool"):
            await pool.join(raise_error=True)


async def test_join_with_raise_error_raises_nothing_that_was_observed():
    async with Pool() as pool:
        task = await pool.spawn(fail)
        with pytest.raises(ValueError, match="broken"):
            await task.get()
        assert await pool.join(raise_error=True) is True


async def test_join_with_raise_error_that_runs_out_of_time_raises_what_there_is(autojump_clock):
    async with Pool() as pool:
        await pool.spawn(fail)
        await pool.spawn(takes, 5)
        with pytest.raises(ExceptionGroup):
            await pool.join(timeout=1, raise_error=True)
        assert len(pool) == 1


async def test_join_tells_that_all_is_over_when_the_block_was_left_meanwhile():
    joined = []

    async def join(pool):
        joined.append(await pool.join())

    async def wait_for_a_slot(pool):
        with pytest.raises(trio.ClosedResourceError):
            await pool.spawn(takes, 1)

    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError):
            async with Pool(0) as pool:
                nursery.start_soon(wait_for_a_slot, pool)
                nursery.start_soon(join, pool)
                await wait_all_tasks_blocked()
                raise KeyError
    assert joined == [True]


async def test_join_is_true_if_nothing_ran_when_it_was_called_though_something_begins_meanwhile():
    async with Pool(1) as pool, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def begin():
            pool.spawn_nowait(takes, 0)

        assert await pool.join() is True
