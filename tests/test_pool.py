"""What a Pool adds to a Group: a limit, and a line before it."""

import math

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from triopool import GreenPool, Pool, PoolFull, Task, TaskKilled, TaskStatus


async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x


async def after(seconds, result=None):
    await trio.sleep(seconds)
    return result


# Sizing


async def test_the_size_is_the_number_of_slots(balanced):
    async with Pool(2) as pool:
        assert (pool.size, pool.free_count(), pool.full()) == (2, 2, False)
        assert pool.limiter.total_tokens == 2
        tasks = [await pool.spawn(trio.sleep_forever)]
        assert (pool.free_count(), pool.full()) == (1, False)
        tasks.append(await pool.spawn(trio.sleep_forever))
        assert (pool.free_count(), pool.full()) == (0, True)
        await pool.kill()
        assert (pool.free_count(), pool.full()) == (2, False)
        balanced(pool)


async def test_no_size_means_no_limit():
    async with Pool() as pool:
        assert pool.size is None
        assert (pool.free_count(), pool.full()) == (1, False)
        assert pool.limiter.total_tokens == math.inf


async def test_a_pool_of_size_zero_starts_nothing_until_it_is_resized():
    async with Pool(0) as pool:
        assert (pool.size, pool.free_count(), pool.full()) == (0, 0, True)
        task = pool.apply_async(double, (1,))
        with pytest.raises(PoolFull):
            pool.spawn_nowait(double, 1)
        await wait_all_tasks_blocked()
        assert task.status is TaskStatus.WAITING
        pool.size = 1
        assert await task == 2


async def test_resizing_kills_nothing_and_free_count_is_never_negative():
    async with Pool(3) as pool:
        tasks = [await pool.spawn(trio.sleep_forever) for _ in range(3)]
        pool.size = 1
        assert (len(pool), pool.size, pool.free_count(), pool.full()) == (3, 1, 0, True)
        await wait_all_tasks_blocked()
        assert not any(task.ready() for task in tasks)
        pool.size = None
        assert (pool.size, pool.free_count(), pool.full()) == (None, 1, False)
        pool.spawn_nowait(double, 1)
        await pool.kill()


async def test_a_limiter_is_used_as_it_is():
    limiter = trio.CapacityLimiter(2)
    async with Pool(limiter) as one, Pool(size=limiter) as other:
        assert one.limiter is other.limiter is limiter
        await one.spawn(trio.sleep_forever)
        assert (other.free_count(), len(other)) == (1, 0)
        one.size = 1
        assert other.size == 1
        assert other.full()
        await one.kill()


async def test_wait_available_waits_for_a_slot_and_reserves_nothing(autojump_clock, balanced):
    async with Pool(1) as pool:
        with assert_checkpoints():
            assert await pool.wait_available() == 1
        balanced(pool)
        await pool.spawn(after, 5)
        assert await pool.wait_available() == 1
        assert trio.current_time() == 5
        balanced(pool)
        pool.size = 3
        assert await pool.wait_available() == 3


async def test_wait_available_that_runs_out_of_time_returns_0(autojump_clock):
    async with Pool(1) as pool:
        await pool.spawn(after, 50)
        assert await pool.wait_available(timeout=5) == 0
        assert trio.current_time() == 5
        assert await pool.wait_available(timeout=0) == 0
        assert trio.current_time() == 5
        await pool.kill()
        assert await pool.wait_available(timeout=0) == 1


async def test_wait_available_waits_for_those_who_are_ahead(autojump_clock):
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        await pool.spawn(after, 5)
        nursery.start_soon(pool.spawn, after, 5)
        await wait_all_tasks_blocked()
        assert await pool.wait_available() == 1
        assert trio.current_time() == 10


# A full pool


async def test_spawn_waits_for_a_slot(autojump_clock, balanced):
    async with Pool(2) as pool:
        for _ in range(5):
            await pool.spawn(after, 5)
        assert trio.current_time() == 10
        await pool.join()
        balanced(pool)


async def test_spawn_nowait_raises_poolfull_when_there_is_no_slot(balanced):
    ran = []

    async def note():
        ran.append(1)

    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        with pytest.raises(PoolFull, match="no free slot"):
            pool.spawn_nowait(note)
        await blocker.kill()
        balanced(pool)
        pool.spawn_nowait(note)
    assert ran == [1]


async def test_a_cancelled_spawn_started_nothing_and_holds_no_slot(balanced):
    ran = []

    async def note():
        ran.append(1)

    async with Pool(1) as pool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.spawn(note)
        balanced(pool)
        blocker = await pool.spawn(trio.sleep_forever)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.spawn, note)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await blocker.kill()
        balanced(pool)
    assert not ran


async def test_a_spawn_cancelled_just_as_it_got_its_slot_gives_it_back(balanced):
    for _ in range(20):
        outcome = {}

        async def spawn(pool, outcome=outcome):
            with outcome["scope"]:
                outcome["task"] = await pool.spawn(trio.lowlevel.checkpoint)

        async with Pool(1) as pool, trio.open_nursery() as nursery:
            blocker = await pool.spawn(trio.sleep_forever)
            outcome["scope"] = trio.CancelScope()
            nursery.start_soon(spawn, pool)
            await wait_all_tasks_blocked()
            pool.discard(blocker)
            outcome["scope"].cancel()
            await wait_all_tasks_blocked()
            await pool.join()
            balanced(pool)
            assert ("task" in outcome) is not outcome["scope"].cancelled_caught
            blocker.kill_nowait()


async def test_a_spawn_that_waits_for_a_shared_limiter_when_its_pool_closes_is_refused(balanced):
    outcomes = []

    async def spawn(pool):
        with pytest.raises(trio.ClosedResourceError, match="closed while this waited for a slot"):
            await pool.spawn(double, 1)
        outcomes.append("refused")

    limiter = trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery, Pool(limiter) as other:
        blocker = await other.spawn(trio.sleep_forever)
        with pytest.raises(KeyError):
            async with Pool(limiter) as pool:
                nursery.start_soon(spawn, pool)
                await wait_all_tasks_blocked()
                raise KeyError
        await wait_all_tasks_blocked()
        assert outcomes == ["refused"]
        assert not blocker.ready()
        await blocker.kill()
        balanced(pool)


# start


async def test_start_waits_for_a_slot_and_the_task_is_waiting_meanwhile(autojump_clock, balanced):
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        await pool.spawn(after, 5)
        task = Task(after, 1, "done")
        nursery.start_soon(pool.start, task)
        await wait_all_tasks_blocked()
        assert task.status is TaskStatus.WAITING
        assert not task.started
        assert task not in pool
        assert await task == "done"
        assert trio.current_time() == 6
        balanced(pool)


@pytest.mark.parametrize("how", ["blocking", "timeout"])
async def test_start_without_a_slot_raises_poolfull_and_the_task_can_be_started_again(
    how, autojump_clock, balanced
):
    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        task = Task(double, 2)
        with pytest.raises(PoolFull):
            await (pool.start(task, False) if how == "blocking" else pool.start(task, timeout=3))
        assert trio.current_time() == (0 if how == "blocking" else 3)
        assert task.status is TaskStatus.UNSTARTED
        await blocker.kill()
        await pool.start(task, True, 1)
        assert await task == 4
        balanced(pool)


async def test_a_cancelled_start_leaves_the_task_unstarted(balanced):
    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        task = Task(lambda: double(2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start, task)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert task.status is TaskStatus.UNSTARTED
        await blocker.kill()
        balanced(pool)
        await pool.start(task)
        assert await task == 4


async def test_a_task_killed_while_start_waits_never_runs_and_start_returns(balanced):
    ran = []

    async def note():
        ran.append(1)

    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        task = Task(note)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start, task)
            await wait_all_tasks_blocked()
            assert await task.kill()
        with pytest.raises(TaskKilled):
            await task
        assert len(pool) == 1
        await blocker.kill()
        balanced(pool)
    assert not ran


async def test_a_task_killed_just_as_start_got_its_slot_never_runs(balanced):
    ran = []

    async def note():
        ran.append(1)

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        blocker = await pool.spawn(trio.sleep_forever)
        task = Task(note)
        nursery.start_soon(pool.start, task)
        await wait_all_tasks_blocked()
        pool.discard(blocker)
        task.kill_nowait()
        await wait_all_tasks_blocked()
        assert task.status is TaskStatus.KILLED
        balanced(pool)
        blocker.kill_nowait()
    assert not ran


async def test_the_error_of_a_started_task_is_the_pools():
    async def fail():
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup, match="1 unobserved error in Pool"):
        async with Pool(1) as pool:
            await pool.start(Task(fail))


# apply_async


async def test_apply_async_never_blocks_and_queues_when_the_pool_is_full(autojump_clock, balanced):
    async with Pool(1) as pool:
        await pool.spawn(after, 5)
        tasks = [pool.apply_async(after, (1, n)) for n in range(3)]
        assert [task.status for task in tasks] == [TaskStatus.WAITING] * 3
        assert not any(task.started for task in tasks)
        assert [await task for task in tasks] == [0, 1, 2]
        assert trio.current_time() == 8
        await pool.join()
        balanced(pool)


async def test_apply_async_begins_at_once_when_there_is_a_slot():
    async with Pool(1) as pool:
        task = pool.apply_async(double, (1,))
        assert task.status is TaskStatus.RUNNING
        assert await task == 2


async def test_gevent_85_a_queued_call_that_is_killed_never_runs(balanced):
    ran = []

    async def note():
        ran.append(1)

    async with Pool(1) as pool:
        await pool.spawn(trio.sleep_forever)
        tasks = [pool.apply_async(note) for _ in range(3)]
        tasks[0].kill_nowait()  # its worker is not in line yet
        assert tasks[0].status is TaskStatus.KILLED
        await wait_all_tasks_blocked()
        assert await pool.kill()
        assert [task.status for task in tasks] == [TaskStatus.KILLED] * 3
        await pool.join()
        balanced(pool)
    assert not ran


async def test_a_queued_call_killed_just_as_it_got_its_slot_never_runs(balanced):
    ran = []

    async def note(x):
        ran.append(x)

    for _ in range(10):
        async with Pool(1) as pool:
            blocker = await pool.spawn(trio.sleep_forever)
            one, other = (pool.apply_async(note, (x,)) for x in ("killed", "other"))
            await wait_all_tasks_blocked()
            pool.discard(blocker)
            one.kill_nowait()
            await pool.join()
            assert one.status is TaskStatus.KILLED
            assert other.successful()
            balanced(pool)
            blocker.kill_nowait()
    assert ran == ["other"] * 10


async def test_queued_calls_of_a_cancelled_pool_end_killed():
    async with Pool(1) as pool:
        tasks = [pool.apply_async(trio.sleep_forever) for _ in range(3)]
        await wait_all_tasks_blocked()
        tasks.append(pool.apply_async(trio.sleep_forever))
        pool.cancel_scope.cancel()
    assert [task.status for task in tasks] == [TaskStatus.KILLED] * 4


# First come, first served


async def served_in_order(kind, asked):
    """Ask one after the other for calls in a full pool, and check the order in which they ran."""
    log = []

    async def note(n):
        log.append(n)
        await trio.lowlevel.checkpoint()

    iterators = []
    async with kind(1) as pool, trio.open_nursery() as nursery:
        blocker = await pool.spawn(trio.sleep_forever)
        for n, how in enumerate(asked):
            if how == "apply_async":
                pool.apply_async(note, (n,))
            elif how in {"imap", "imap_unordered"}:
                iterators.append(getattr(pool, how)(note, [n]))
            elif how == "map":
                nursery.start_soon(pool.map, note, [n])
                await wait_all_tasks_blocked()
            elif how == "start":
                nursery.start_soon(pool.start, Task(note, n))
                await wait_all_tasks_blocked()
            else:
                nursery.start_soon(getattr(pool, how), note, *([[n]] if how == "apply" else [n]))
                await wait_all_tasks_blocked()
        blocker.kill_nowait()
        await pool.join()
        for results in iterators:
            assert [x async for x in results] == [None]
    assert log == list(range(len(asked)))


WAYS = ["spawn", "start", "apply", "apply_async", "map", "imap", "imap_unordered"]


@pytest.mark.parametrize("kind", [Pool, GreenPool])
@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
async def test_who_came_first_is_served_first(kind, first, second):
    for _ in range(5):
        await served_in_order(kind, [first, second, first])


async def test_a_long_map_does_not_starve_a_spawn():
    done = []

    async def row(_):
        done.append(1)
        await trio.lowlevel.checkpoint()

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, row, range(1000))
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        before = len(done)
        await pool.spawn(double, 1)
        assert len(done) - before < 10


async def test_spawn_nowait_does_not_jump_the_queue():
    log = []

    async def note(n):
        log.append(n)

    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        pool.apply_async(note, (0,))
        pool.size = 2
        with pytest.raises(PoolFull):
            pool.spawn_nowait(note, 1)
        pool.apply_async(note, (2,))
        await wait_all_tasks_blocked()
        await pool.spawn(note, 3)
        await blocker.kill()
    assert log == [0, 2, 3]


async def test_an_apply_async_does_not_jump_the_queue_either():
    for _ in range(10):
        log = []

        async def note(n, log=log):
            log.append(n)
            await trio.lowlevel.checkpoint()

        async with Pool(1) as pool:
            blocker = await pool.spawn(trio.sleep_forever)
            pool.apply_async(note, (0,))
            pool.discard(blocker)
            pool.apply_async(note, (1,))
            blocker.kill_nowait()
        assert log == [0, 1]


@pytest.mark.parametrize("passes", [0, 1, 2])
async def test_who_is_killed_while_lining_up_holds_up_no_one(passes, balanced):
    async def note(n):
        log.append(n)

    for _ in range(20):
        log = []
        async with Pool(1) as pool:
            blocker = await pool.spawn(trio.sleep_forever)
            first = pool.imap(note, [0])
            tasks = [pool.apply_async(note, (n,)) for n in (1, 2)]
            second = pool.imap(note, [3])
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            tasks[0].kill_nowait()
            await first.aclose()
            late = pool.apply_async(note, (4,))
            await trio.lowlevel.checkpoint()
            await blocker.kill()
            assert await pool.join()
            await second.aclose()
            assert late.successful()
            balanced(pool)
        assert log == [2, 3, 4]


async def test_everything_may_be_killed_while_it_lines_up(balanced):
    for _ in range(20):
        async with Pool(1) as pool:
            blocker = await pool.spawn(trio.sleep_forever)
            iterators = []
            for n in range(5):
                iterators.append(pool.imap(double, [n]))
                pool.apply_async(double, (n,))
            await trio.lowlevel.checkpoint()
            assert await pool.kill()
            await pool.join()
            assert blocker.status is TaskStatus.KILLED
            for results in iterators:
                with pytest.raises(TaskKilled):
                    await anext(results)
            assert await pool.apply(double, (1,)) == 2
            balanced(pool)


@pytest.mark.parametrize("rows", [[], [1, 2, 3]], ids=["no rows", "rows"])
async def test_start_without_blocking_lets_a_map_take_its_slot_that_has_asked_before(
    rows, balanced
):
    async with Pool(1) as pool:
        results = pool.imap(double, rows)
        task = Task(double, 4)
        if rows:
            with pytest.raises(PoolFull):
                await pool.start(task, blocking=False)
            assert task.status is TaskStatus.UNSTARTED
        else:
            await pool.start(task, blocking=False)
            assert await task == 8
        assert [result async for result in results] == [2 * x for x in rows]
        await pool.join()
        balanced(pool)
