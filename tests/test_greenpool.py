"""GreenPool and GreenThread: eventlet's names, and what they mean here."""

import math

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import triopool.greenpool
from triopool import GreenPile, GreenPool, GreenThread, Pool, Task, TaskKilled, TaskStatus


class After(trio.abc.Instrument):
    """Call something when the current step of the current Trio task is over, before any other."""

    def __init__(self, func):
        self.func = func
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, task):
        trio.lowlevel.remove_instrument(self)
        self.func()


async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x


async def fail(message="broken"):
    raise ValueError(message)


def test_the_module_is_named_after_eventlets():
    assert set(triopool.greenpool.__all__) >= {"GreenPool", "GreenPile"}
    assert triopool.greenpool.GreenPool is GreenPool
    assert triopool.greenpool.GreenPile is GreenPile
    assert triopool.greenpool.GreenThread is GreenThread
    assert issubclass(GreenPool, Pool)
    assert issubclass(GreenThread, Task)


# Sizes


async def test_the_size_is_1000_by_default():
    async with GreenPool() as pool:
        assert pool.size == pool.free() == 1000


@pytest.mark.parametrize("size", [0, 7, 7.0])
async def test_a_size_is_an_int_or_an_integral_float(size):
    async with GreenPool(size) as pool:
        assert pool.size == int(size)
        assert type(pool.size) is int


async def test_a_size_is_a_limiter_that_may_be_shared(balanced):
    limiter = trio.CapacityLimiter(1)
    async with GreenPool(limiter) as one, GreenPool(limiter) as other:
        assert one.limiter is other.limiter is limiter
        task = await one.spawn(trio.sleep_forever)
        assert (other.free(), other.running()) == (0, 0)
        await task.kill()
        assert await (await other.spawn(double, 1)) == 2
        balanced(one)


@pytest.mark.parametrize("size", ["7", None, 2.5, True, math.inf, math.nan, [7], object()])
def test_any_other_size_is_a_typeerror(size):
    with pytest.raises(TypeError, match="a GreenPool's size is an int"):
        GreenPool(size)
    with pytest.raises(TypeError, match="a GreenPool's size is an int"):
        GreenPool(1).resize(size)
    with pytest.raises(TypeError, match="a GreenPool's size is an int"):
        GreenPile(size)


@pytest.mark.parametrize("size", [-1, -1.0])
def test_a_negative_size_is_a_valueerror(size):
    with pytest.raises(ValueError, match="negative"):
        GreenPool(size)
    with pytest.raises(ValueError, match="negative"):
        GreenPool(1).resize(size)


async def test_resize_lets_more_in_or_leaves_free_negative(balanced):
    async with GreenPool(1) as pool:
        tasks = [await pool.spawn(trio.sleep_forever)]
        tasks.append(pool.apply_async(trio.sleep_forever))
        await wait_all_tasks_blocked()
        assert (pool.running(), pool.free(), pool.waiting()) == (1, 0, 1)
        pool.resize(3)
        await wait_all_tasks_blocked()
        assert (pool.running(), pool.free(), pool.waiting()) == (2, 1, 0)
        pool.resize(1.0)
        assert (pool.running(), pool.free(), pool.waiting()) == (2, -1, 0)
        assert pool.free_count() == 0
        await tasks[0].kill()
        assert (pool.running(), pool.free()) == (1, 0)
        await tasks[1].kill()
        assert (pool.running(), pool.free()) == (0, 1)
        balanced(pool)


async def test_free_of_a_pool_on_an_unlimited_limiter_is_one():
    async with GreenPool(trio.CapacityLimiter(math.inf)) as pool:
        await pool.spawn(double, 1)
        assert pool.free() == 1
        assert [x async for x in pool.imap(double, [1, 2])] == [2, 4]


# Calls


async def test_spawn_returns_a_greenthread():
    async with GreenPool() as pool:
        thread = await pool.spawn(double, 3)
        assert type(thread) is GreenThread
        assert thread.status is TaskStatus.RUNNING
        assert await thread.wait() == 6
        assert type(pool.apply_async(double, (1,))) is GreenThread


async def test_spawn_n_runs_the_call_and_returns_none(balanced):
    ran = []

    async def note(*args, **kwargs):
        ran.append((args, kwargs))

    async with GreenPool(1) as pool:
        assert await pool.spawn_n(note, 1, func=2) is None
        await pool.waitall()
        assert ran == [((1,), {"func": 2})]
        balanced(pool)


async def test_an_error_of_spawn_n_is_reported_as_any():
    with pytest.raises(ExceptionGroup, match="1 unobserved error"):
        async with GreenPool(1) as pool:
            await pool.spawn_n(fail)


async def test_spawn_n_of_an_outsider_waits_for_a_slot(autojump_clock):
    async with GreenPool(1) as pool:
        await pool.spawn(trio.sleep, 5)
        await pool.spawn_n(trio.sleep, 1)
        assert trio.current_time() == 5


@pytest.mark.parametrize("method", ["spawn", "spawn_n"])
async def test_spawn_and_spawn_n_are_checkpoints(method):
    async def inside():
        with assert_checkpoints():
            await getattr(pool, method)(trio.lowlevel.checkpoint)

    for size in (1, 5):
        async with GreenPool(size) as pool:
            with assert_checkpoints():
                await getattr(pool, method)(trio.lowlevel.checkpoint)
            await pool.waitall()
            await pool.apply(inside)


async def test_the_task_of_a_spawn_n_that_was_cancelled_in_a_member_is_killed():
    tasks = []

    class Noted(GreenThread):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            tasks.append(self)

    async def spawn():
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.spawn_n(double, 1)

    async with GreenPool(1) as pool:
        pool.task_class = Noted
        await pool.spawn(spawn)
        await pool.waitall()
    assert [task.status for task in tasks] == [TaskStatus.SUCCEEDED, TaskStatus.KILLED]


async def test_spawn_n_in_a_member_of_a_pool_that_closes_meanwhile_is_refused():
    async def outer():
        After(pool.close)
        with pytest.raises(trio.ClosedResourceError):
            await pool.spawn_n(double, 1)

    async with GreenPool(2) as pool:
        await pool.apply(outer)


async def test_a_greenpool_is_always_true():
    async with GreenPool() as pool:
        assert len(pool) == 0
        assert pool


async def test_running_and_waiting_count_calls():
    async with GreenPool(2) as pool, trio.open_nursery() as nursery:
        for _ in range(2):
            await pool.spawn(trio.sleep_forever)
        nursery.start_soon(pool.spawn, double, 1)
        pool.apply_async(double, (1,))
        assert pool.waiting() >= 1  # counted at once
        await wait_all_tasks_blocked()
        assert (pool.running(), pool.waiting(), pool.free()) == (2, 2, 0)
        await pool.kill()
        await pool.waitall()
        assert (pool.running(), pool.waiting(), pool.free()) == (0, 0, 2)


async def test_waitall_returns_none():
    async with GreenPool() as pool:
        await pool.spawn(double, 1)
        assert await pool.waitall() is None


# Iterators


async def test_imap_without_a_function_yields_the_argument_tuples():
    async with GreenPool(2) as pool:
        assert [x async for x in pool.imap(None, "ab", [1, 2])] == [("a", 1), ("b", 2)]
        assert [x async for x in pool.imap(None, [1, 2])] == [(1,), (2,)]
        assert [x async for x in pool.imap_unordered(None, [1])] == [(1,)]


async def test_starmap_without_a_function_yields_the_argument_tuples():
    async with GreenPool(2) as pool:
        assert [x async for x in pool.starmap(None, [(1, 2), (3, 4)])] == [(1, 2), (3, 4)]


@pytest.mark.parametrize("method", ["imap", "imap_unordered", "starmap"])
async def test_iterators_are_bounded_by_the_size_of_the_pool(method):
    pulled = []

    def rows():
        for x in range(100):
            pulled.append(x)
            yield (x,) if method == "starmap" else x

    async with GreenPool(3) as pool:
        results = getattr(pool, method)(double, rows())
        await wait_all_tasks_blocked()
        assert len(pulled) == 3
        await anext(results)
        await wait_all_tasks_blocked()
        assert 3 <= len(pulled) <= 4
        await results.aclose()


async def test_a_maxsize_of_ones_own_replaces_that_bound():
    pulled = []

    def rows():
        for x in range(100):
            pulled.append(x)
            yield x

    async with GreenPool(2) as pool:
        results = pool.imap(double, rows(), maxsize=10)
        await wait_all_tasks_blocked()
        assert len(pulled) == 10
        await results.aclose()


async def test_imap_in_a_pool_of_size_zero_starts_after_a_resize():
    async with GreenPool(0) as pool:
        results = pool.imap(double, [1, 2, 3])
        await wait_all_tasks_blocked()
        pool.resize(2)
        assert [x async for x in results] == [2, 4, 6]


async def test_eventlet_215_imap_keeps_to_the_pools_limit_and_waitall_waits_for_it():
    peak = running = 0

    async def call(_):
        nonlocal peak, running
        running += 1
        peak = max(peak, running)
        await wait_all_tasks_blocked()
        running -= 1

    async with GreenPool(2) as pool:
        await pool.spawn(call, 0)
        results = pool.imap(call, range(2))
        await pool.waitall()
        assert peak == 2
        assert running == 0
        assert len([x async for x in results]) == 2


# GreenThread


async def test_wait_raises_the_calls_error_or_that_of_its_kill():
    async with GreenPool() as pool:
        thread = await pool.spawn(fail)
        with pytest.raises(ValueError, match="broken"):
            await thread.wait()
        thread = await pool.spawn(trio.sleep_forever)
        await thread.kill()
        with pytest.raises(TaskKilled):
            await thread.wait()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_link_passes_the_thread_and_the_arguments(when):
    got = []

    def linked(*args, **kwargs):
        got.append((args, kwargs))

    async with GreenPool() as pool:
        thread = await pool.spawn(double, 1)
        if when == "after":
            await thread.wait()
        thread.link(linked, 1, func=2)
        await thread.wait()
        assert got == [((thread, 1), {"func": 2})]


async def test_unlink_takes_back_a_link_with_the_same_arguments_and_says_whether_it_did():
    got = []
    async with GreenPool() as pool:
        thread = await pool.spawn(double, 1)
        thread.link(lambda *_: got.append("kept"))
        linked = got.append
        thread.link(lambda t, x: linked(x), "other")

        def note(_, x):
            got.append(x)

        thread.link(note, 1)
        thread.link(note, x=2)
        assert not thread.unlink(note)
        assert not thread.unlink(note, 3)
        assert thread.unlink(note, 1)
        assert not thread.unlink(note, 1)
        assert thread.unlink(note, x=2)
        await thread.wait()
        assert got == ["kept", "other"]
        assert not thread.unlink(note, 1)


async def test_a_link_that_is_no_function_is_a_typeerror():
    async with GreenPool() as pool:
        thread = await pool.spawn(double, 1)
        with pytest.raises(TypeError, match="a link is a sync function"):
            thread.link(None)


async def test_cancel_kills_a_call_that_has_not_started():
    ran = []

    async def note():
        ran.append(1)

    async with GreenPool(1) as pool:
        fresh = await pool.spawn(note)
        fresh.cancel(reason="changed my mind")
        assert fresh.status is TaskStatus.KILLED
        with pytest.raises(TaskKilled, match="changed my mind"):
            await fresh.wait()
        queued = pool.apply_async(note)
        queued.cancel(KeyError)
        with pytest.raises(KeyError):
            await queued.wait()
    assert not ran


async def test_cancel_spares_a_call_that_has_started():
    async with GreenPool(1) as pool:
        thread = await pool.spawn(double, 1)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        thread.cancel()
        assert await thread.wait() == 2
        thread.cancel()
        assert await thread.wait() == 2


async def test_kill_takes_a_call_that_has_started():
    async with GreenPool(1) as pool:
        thread = await pool.spawn(trio.sleep_forever)
        await wait_all_tasks_blocked()
        assert await thread.kill()
        assert thread.status is TaskStatus.KILLED


async def test_a_greenthread_made_by_hand_can_be_started():
    async with GreenPool(1) as pool:
        thread = GreenThread(double, 4)
        await pool.start(thread)
        assert await thread.wait() == 8


@pytest.mark.parametrize("on_error", ["cancel", "log"])
async def test_on_error_is_as_in_any_pool(on_error, caplog):
    seen = []
    async with GreenPool(on_error=seen.append) as pool:
        await pool.spawn(fail)
    assert [repr(task.exception) for task in seen] == ["ValueError('broken')"]
    if on_error == "log":
        async with GreenPool(on_error=on_error) as pool:
            await pool.spawn_n(fail)
        assert "broken" in caplog.text
    else:
        with pytest.raises(ExceptionGroup):
            async with GreenPool(on_error=on_error) as pool:
                await pool.spawn_n(fail)
                await trio.sleep_forever()


async def test_a_call_in_place_that_is_killed_before_it_begins_never_runs():
    made = []
    ran = []

    class Known(GreenThread):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    async def inner():
        ran.append(None)

    async def killer():
        while len(made) < 2:
            await trio.lowlevel.checkpoint()
        made[1].kill_nowait()

    async def outer():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(killer)
            await trio.lowlevel.checkpoint()
            task = await pool.spawn(inner)
        return task.status

    for _ in range(20):  # Trio shuffles
        made.clear()
        async with GreenPool(1) as pool:
            pool.task_class = Known
            task = await pool.spawn(outer)
            assert await task in (TaskStatus.KILLED, TaskStatus.SUCCEEDED)
            assert len(ran) == (task.value is TaskStatus.SUCCEEDED)
            ran.clear()
