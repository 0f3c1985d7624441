"""`wait` and `as_completed`, over tasks and futures alike."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import triopool
from triopool import Pool, PoolDeadlock, Task, TaskStatus, as_completed, current_task


async def fail() -> None:
    raise ValueError


async def sleepers(pool: Pool, *seconds: float) -> list[Task[None]]:
    return [await pool.spawn(trio.sleep, each) for each in seconds]


# wait


async def test_wait_returns_the_finished_ones_in_the_order_of_the_input(
    autojump_clock: MockClock,
) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 3, 1, 2)
        assert await triopool.wait(tasks) == tasks
        assert trio.current_time() == 3


async def test_wait_for_count_returns_as_soon_as_so_many_are_done(
    autojump_clock: MockClock,
) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 3, 1, 2)
        assert await triopool.wait(tasks, count=2) == tasks[1:]
        assert trio.current_time() == 2
        assert await triopool.wait(tasks, count=0) == tasks[1:]
        assert await triopool.wait(tasks, count=7) == tasks


async def test_wait_returns_what_is_done_when_the_time_is_over(
    autojump_clock: MockClock,
) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 3, 1, 20)
        assert await triopool.wait(tasks, timeout=5) == tasks[:2]
        assert trio.current_time() == 5
        assert await triopool.wait(tasks, timeout=0) == tasks[:2]
        assert await triopool.wait(tasks, timeout=100) == tasks
        assert trio.current_time() == 20


async def test_wait_counts_what_appears_twice_once() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep, 0)
        assert await triopool.wait([task, task], count=2) == [task]


async def test_wait_for_nothing_is_a_checkpoint_and_ends_at_once() -> None:
    with assert_checkpoints():
        assert await triopool.wait([]) == []


async def test_wait_is_a_checkpoint_when_all_are_done() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep, 0)
        await task.join()
        with assert_checkpoints():
            assert await triopool.wait([task]) == [task]


async def test_wait_takes_no_result_and_observes_no_error() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            task = await pool.spawn(fail)
            assert await triopool.wait([task]) == [task]
    assert [type(error) for error in info.value.exceptions] == [ValueError]


async def test_wait_takes_an_iterable() -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 0, 0)
        assert await triopool.wait(task for task in tasks) == tasks
        assert await triopool.wait(dict.fromkeys(tasks)) == tasks


async def test_wait_counts_killed_and_unstarted_tasks_too() -> None:
    async with Pool() as pool, trio.open_nursery() as nursery:
        unstarted = Task(trio.sleep, 0)
        killed = await pool.spawn(trio.sleep_forever)
        nursery.start_soon(triopool.wait, [unstarted, killed])
        await wait_all_tasks_blocked()
        killed.kill_nowait()
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        await pool.start(unstarted)


async def test_cancelled_wait_leaves_the_calls_running_and_nothing_on_them(no_gc: None) -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        other = Task(trio.sleep, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(triopool.wait, [task, other])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert task.status is TaskStatus.RUNNING
        ref = weakref.ref(other)
        del other
        assert ref() is None
        await task.kill()


@pytest.mark.parametrize("thing", [None, trio.sleep, "task"], ids=["None", "sleep", "str"])
@pytest.mark.parametrize("function", [triopool.wait, as_completed])
async def test_only_tasks_and_futures_can_be_waited_for(
    function: Callable[..., Any], thing: object
) -> None:
    task = Task(trio.sleep, 0)
    with pytest.raises(TypeError, match="tasks and futures can be waited for, not"):
        await function([task, thing])


# Futures


async def test_wait_for_futures_of_threads_and_tasks_together() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool() as pool:
            future = executor.submit(pow, 2, 10)
            task = await pool.spawn(trio.sleep, 0)
            assert await triopool.wait([task, future]) == [task, future]
            assert future.result() == 1024


async def test_wait_for_a_future_that_is_done_or_cancelled() -> None:
    done: Future[int] = Future()
    done.set_result(1)
    cancelled: Future[int] = Future()
    cancelled.cancel()
    assert await triopool.wait([done, cancelled]) == [done, cancelled]
    assert [each async for each in as_completed([done, cancelled])] == [done, cancelled]


async def test_future_that_is_set_in_the_trio_thread_wakes_the_waiter() -> None:
    future: Future[int] = Future()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(triopool.wait, [future])
        await wait_all_tasks_blocked()
        future.set_result(1)


async def test_future_that_is_set_in_another_thread_wakes_the_waiter() -> None:
    future: Future[int] = Future()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(triopool.wait, [future])
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(future.set_result, 1)


def test_future_that_is_done_after_the_run_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    future: Future[int] = Future()

    async def main() -> list[Future[int]]:
        return await triopool.wait([future], timeout=0)

    assert trio.run(main) == []
    future.set_result(1)  # it would log what its callbacks raise
    assert caplog.text == ""


def test_future_that_is_done_in_another_run_harms_nobody() -> None:
    future: Future[int] = Future()

    async def first() -> list[Future[int]]:
        return await triopool.wait([future], timeout=0)

    async def second() -> None:
        future.set_result(1)
        await trio.lowlevel.checkpoint()

    assert trio.run(first) == []
    trio.run(second)


async def test_future_that_is_done_after_the_wait_is_of_no_interest() -> None:
    future: Future[int] = Future()
    assert await triopool.wait([future], timeout=0) == []
    future.set_result(1)
    await wait_all_tasks_blocked()


# as_completed


async def test_as_completed_yields_in_the_order_of_completion(autojump_clock: MockClock) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 3, 1, 2)
        times = []
        order = []
        async for task in as_completed(tasks):
            assert task.ready()
            order.append(task)
            times.append(trio.current_time())
        assert order == [tasks[1], tasks[2], tasks[0]]
        assert times == [1, 2, 3]


async def test_as_completed_yields_what_is_done_first_and_in_order(
    autojump_clock: MockClock,
) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 3, 2, 1)
        await triopool.wait(tasks, count=2)
        assert [task async for task in as_completed(tasks)] == [tasks[1], tasks[2], tasks[0]]


async def test_as_completed_notes_the_order_while_nobody_reads(autojump_clock: MockClock) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 3, 2, 1)
        completed = as_completed(tasks)
        await trio.sleep(10)
        assert [task async for task in completed] == tasks[::-1]


async def test_as_completed_of_nothing_ends_at_once() -> None:
    completed = as_completed([])
    for _ in range(2):
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(completed)


async def test_as_completed_is_a_checkpoint_for_each() -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 0, 0)
        await pool.join()
        completed = as_completed(tasks)
        for _ in tasks:
            with assert_checkpoints():
                await anext(completed)


async def test_as_completed_raises_too_slow_error_when_the_time_for_all_is_over(
    autojump_clock: MockClock,
) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 1, 4, 20)
        seen = []
        with pytest.raises(trio.TooSlowError, match="not all were done after 5 seconds"):
            async for task in as_completed(tasks, timeout=5):
                assert task.ready()
                seen.append(task)
        assert seen == tasks[:2]
        assert trio.current_time() == 5
        await pool.kill()


async def test_as_completed_yields_what_is_done_even_when_the_time_is_over(
    autojump_clock: MockClock,
) -> None:
    async with Pool() as pool:
        tasks = await sleepers(pool, 1, 2)
        completed = as_completed(tasks, timeout=5)
        assert await anext(completed) is tasks[0]
        await trio.sleep(10)
        assert await anext(completed) is tasks[1]
        with pytest.raises(StopAsyncIteration):
            await anext(completed)


async def test_cancelled_as_completed_loses_nothing() -> None:
    async with Pool() as pool:
        release = trio.Event()
        task = await pool.spawn(release.wait)
        completed = as_completed([task])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(completed.__anext__)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        release.set()
        assert [each async for each in completed] == [task]


async def test_several_readers_of_as_completed_share_it() -> None:
    seen: list[Task[Any]] = []

    async def reader() -> None:
        seen.extend([task async for task in completed])

    async with Pool() as pool:
        tasks = [await pool.spawn(trio.lowlevel.checkpoint) for _ in range(20)]
        completed = as_completed(tasks)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            nursery.start_soon(reader)
    assert set(seen) == set(tasks)
    assert len(seen) == len(tasks)


async def test_all_readers_of_as_completed_hear_of_the_end() -> None:
    async def reader() -> None:
        seen.extend([task async for task in completed])
        seen.append("end")

    seen: list[object] = []
    async with Pool() as pool, trio.open_nursery() as nursery:
        release = trio.Event()
        task = await pool.spawn(release.wait)
        completed = as_completed([task])
        for _ in range(3):
            nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        release.set()
    assert sorted(seen, key=str) == [task, "end", "end", "end"]


def test_plain_for_over_as_completed_says_async_for() -> None:
    async def main() -> None:
        for _ in as_completed([]):  # type: ignore[attr-defined]
            pass

    with pytest.raises(TypeError, match="async for"):
        trio.run(main)


# No silent deadlock


@pytest.mark.parametrize("function", ["wait", "as_completed"])
async def test_waiting_for_oneself_is_an_error(function: str) -> None:
    async def run() -> None:
        task = current_task()
        assert task is not None
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            if function == "wait":
                await triopool.wait([task])
            else:
                await anext(as_completed([task]))

    async with Pool() as pool:
        await (await pool.spawn(run))


@pytest.mark.parametrize("count", [1, None])
async def test_waiting_for_tasks_that_get_no_slot_is_a_deadlock(count: int | None) -> None:
    async def run() -> None:
        tasks = [pool.apply_async(trio.lowlevel.checkpoint) for _ in range(2)]
        with pytest.raises(PoolDeadlock):
            await triopool.wait(tasks, count=count)

    async with Pool(1) as pool:
        await (await pool.spawn(run))


async def test_waiting_for_the_first_of_tasks_one_of_which_runs_is_no_deadlock() -> None:
    async def run() -> None:
        tasks: list[Any] = [
            pool.apply_async(trio.lowlevel.checkpoint),
            await other.spawn(wait_all_tasks_blocked),
        ]
        assert await triopool.wait(tasks, count=1) == tasks[1:]
        with pytest.raises(PoolDeadlock):
            await triopool.wait(tasks)

    async with Pool(1) as pool, Pool(1) as other:
        await (await pool.spawn(run))


async def test_waiting_in_a_call_for_unstarted_tasks_and_futures_is_no_deadlock() -> None:
    future: Future[int] = Future()
    task = Task(trio.lowlevel.checkpoint)

    async def run() -> None:
        assert await triopool.wait([future, task]) == [future, task]

    async with Pool(1) as pool, Pool(1) as other:
        await pool.spawn(run)
        await wait_all_tasks_blocked()
        future.set_result(1)
        await other.start(task)


async def test_gc_of_an_unread_as_completed_harms_nobody(no_gc: None) -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.lowlevel.checkpoint)
        as_completed([task])
        await task
        ref = weakref.ref(task)
        del task
        assert ref() is None
