"""Rule 7: every async method is a checkpoint and is cancel-safe."""

import time

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import triopool
from triopool import GreenPile, GreenPool, Group, Pool, Task, TaskKilled, TaskStatus


async def give(x=None):
    return x


async def wait(x=None):
    await trio.sleep_forever()


def rows_of(*rows):
    yield from rows


async def async_rows_of(*rows):
    for row in rows:
        yield row


inputs = {"list": lambda *rows: rows, "generator": rows_of, "async": async_rows_of}
every_input = pytest.mark.parametrize("make", inputs.values(), ids=inputs)
methods = ["map", "imap", "imap_unordered"]


# Every async method is a checkpoint


@pytest.mark.parametrize("size", [1, None])
async def test_every_method_of_a_pool_is_a_checkpoint(size):
    async with Pool(size) as pool, Pool() as other:
        task = None
        with assert_checkpoints():
            task = await pool.spawn(give, 1)
        with assert_checkpoints():
            await task
        with assert_checkpoints():
            await pool.start(Task(give))
        await pool.join()
        for _ in range(2):
            with assert_checkpoints():
                await pool.join()
        for call in (
            lambda: pool.join(timeout=0),
            lambda: pool.join(raise_error=True),
            lambda: pool.apply(give),
            lambda: pool.apply_cb(give, (1,), None, lambda result: None),
            lambda: pool.map(give, []),
            lambda: pool.map(give, [1, 2]),
            lambda: pool.map(give, rows_of()),
            lambda: pool.map(give, async_rows_of(1)),
            lambda: pool.map_cb(give, [], None),
            lambda: pool.map_async(give, []).get(),
            lambda: pool.kill(),
            lambda: pool.kill(block=False),
            lambda: pool.kill(timeout=0),
            lambda: pool.killone(task),
            lambda: pool.add(task),
            lambda: other.add(task),
            lambda: pool.wait_available(),
            lambda: pool.wait_available(timeout=0),
            lambda: triopool.map(give, []),
            lambda: triopool.map(give, [1], size=1),
        ):
            with assert_checkpoints():
                await call()


async def test_every_method_of_a_task_is_a_checkpoint():
    async with Pool() as pool:
        over = await pool.spawn(give)
        await over
        for call in (
            lambda: over.get(),
            lambda: over.get(timeout=0),
            lambda: over.join(),
            lambda: over.join(timeout=0),
            lambda: over.kill(),
            lambda: over.kill(block=False),
        ):
            with assert_checkpoints():
                await call()
        for _ in range(2):
            running = await pool.spawn(wait)
            with assert_checkpoints():
                await running.kill(block=False)
            with assert_checkpoints():
                await running.kill()
        unstarted = Task(give)
        with assert_checkpoints():
            await unstarted.kill()


async def test_methods_that_raise_are_checkpoints_too():
    async def fail():
        raise ValueError

    async with Pool(1) as pool:
        task = await pool.spawn(fail)
        await task.join()
        with assert_checkpoints(), pytest.raises(ValueError):
            await task
        with assert_checkpoints(), pytest.raises(ValueError):
            await pool.apply(fail)
        blocker = await pool.spawn(wait)
        for call in (
            lambda: pool.start(Task(give), blocking=False),
            lambda: pool.start(Task(give), timeout=0),
        ):
            with assert_checkpoints(), pytest.raises(triopool.PoolFull):
                await call()
        with assert_checkpoints(), pytest.raises(trio.TooSlowError):
            await blocker.get(timeout=0)
        blocker.kill_nowait()


@pytest.mark.parametrize("method", ["imap", "imap_unordered", "starmap"])
@pytest.mark.parametrize("warm", [True, False])
async def test_anext_is_a_checkpoint(method, warm):
    """Whether the result is there already, or not; at the end, too, and after it was closed."""
    async with Pool(2) as pool:
        results = getattr(pool, method)(give, [(1,), (2,), (3,)], maxsize=2)
        for _ in range(3):
            if warm:
                await wait_all_tasks_blocked()
            with assert_checkpoints():
                await anext(results)
        for _ in range(2):
            with assert_checkpoints(), pytest.raises(StopAsyncIteration):
                await anext(results)
        for _ in range(2):
            with assert_checkpoints():
                await results.aclose()
        with assert_checkpoints(), pytest.raises((StopAsyncIteration, trio.ClosedResourceError)):
            await anext(results)


async def test_aclose_and_the_end_of_async_with_are_checkpoints():
    async with Pool() as pool:
        results = pool.imap(wait, [1])
        with assert_checkpoints():
            await results.aclose()
        with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
            await anext(results)
        with assert_checkpoints():
            async with pool.imap(wait, [1]):
                pass


async def test_every_method_of_the_green_pools_is_a_checkpoint():
    async with GreenPool(1) as pool:
        pile = GreenPile(pool)
        for call in (
            lambda: pool.spawn(give),
            lambda: pool.spawn_n(give),
            lambda: pool.waitall(),
            lambda: pool.waitall(),
            lambda: pile.spawn(give),
            lambda: pile.next(),
        ):
            with assert_checkpoints():
                await call()
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await pile.next()
        thread = await pool.spawn(give)
        for _ in range(2):
            with assert_checkpoints():
                await thread.wait()
        task = await pool.spawn(give)
        with assert_checkpoints():
            await triopool.wait([task])
        with assert_checkpoints():
            await triopool.wait([task])
        with assert_checkpoints():
            assert [done async for done in triopool.as_completed([task])] == [task]


async def test_methods_called_inside_a_member_are_checkpoints():
    async def member(pool):
        for call in (
            lambda: pool.apply(give),
            lambda: pool.map(give, []),
            lambda: pool.map(give, [1]),
            lambda: anext(pool.imap(give, [1])),
        ):
            with assert_checkpoints():
                await call()

    async with Pool(1) as pool:
        await (await pool.spawn(member, pool))

    async def green_member(pool):
        with assert_checkpoints():
            await pool.spawn(give)
        with assert_checkpoints():
            await pool.spawn_n(give)

    async with GreenPool(1) as pool:
        await (await pool.spawn(green_member, pool))


# Cancelled methods


async def test_a_cancelled_spawn_started_nothing_and_holds_no_slot(autojump_clock, balanced):
    begun = []

    async def note(x):
        begun.append(x)

    async with Pool(1) as pool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.spawn(note, 1)
        assert scope.cancelled_caught
        balanced(pool)
        blocker = await pool.spawn(trio.sleep, 5)
        for ask in (
            lambda: pool.spawn(note, 2),
            lambda: pool.start(Task(note, 3)),
            lambda: pool.apply(note, (4,)),
            lambda: pool.map(note, [5]),
            lambda: pool.wait_available(),
            lambda: pool.add(blocker),
        ):
            with trio.move_on_after(0.5):
                await ask()
            books = pool.limiter.statistics()
            assert (books.borrowed_tokens, books.tasks_waiting) == (1, 0)
        await blocker
        balanced(pool)
        assert begun == []


async def test_a_spawn_cancelled_while_it_gets_its_slot_leaks_none(balanced):
    """The slot is free and the cancellation is there in the same pass of the loop."""
    begun = []

    async def note():
        begun.append(1)

    for _ in range(20):
        async with Pool(1) as pool, trio.open_nursery() as nursery:
            event = trio.Event()
            started = []

            async def ask(pool=pool, started=started):
                started.append(await pool.spawn(note))

            await pool.spawn(event.wait)
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            event.set()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
            await pool.join()
            assert len(begun) == len(started)
            balanced(pool)
            begun.clear()


async def test_a_start_that_was_cancelled_leaves_the_task_unstarted(autojump_clock):
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep, 5)
        task = Task(give, 7)
        with trio.move_on_after(1):
            await pool.start(task)
        assert task.status is TaskStatus.UNSTARTED
        await pool.start(task)
        assert await task == 7


async def test_a_cancelled_get_join_or_wait_leaves_the_call_running(autojump_clock):
    async def work():
        await trio.sleep(10)
        return "done"

    async with Pool() as pool:
        task = await pool.spawn(work)
        for waiting in (
            lambda: task.get(),
            lambda: task.join(),
            lambda: pool.join(),
            lambda: triopool.wait([task]),
            lambda: anext(triopool.as_completed([task])),
        ):
            with trio.move_on_after(1) as scope:
                await waiting()
            assert scope.cancelled_caught
            assert task.status is TaskStatus.RUNNING
        assert await task == "done"


async def test_a_cancelled_kill_has_killed_all_the_same(autojump_clock):
    async def stubborn():
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        await trio.sleep(1)

    async with Pool() as pool:
        task = await pool.spawn(stubborn)
        await wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await pool.kill()
        assert scope.cancelled_caught
        assert task.status is TaskStatus.RUNNING
        assert await task.join()
        assert task.status is TaskStatus.KILLED


@every_input
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
async def test_a_cancelled_anext_loses_no_result(method, make, autojump_clock):
    async def work(x):
        await trio.sleep(1)
        return x

    async with Pool(1) as pool:
        results = getattr(pool, method)(work, make(*range(20)), maxsize=3)
        got = []
        while True:
            try:
                with trio.move_on_after(0.3):
                    got.append(await anext(results))
            except StopAsyncIteration:
                break
        assert got == list(range(20))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
async def test_an_anext_cancelled_in_the_pass_of_its_result_loses_nothing(method):
    async def work(x):
        await trio.lowlevel.checkpoint()
        return x

    async with Pool(2) as pool:
        results = getattr(pool, method)(work, range(200), maxsize=4)
        got = []
        with_cancel = 0
        while True:
            async with trio.open_nursery() as nursery:
                ended = False

                async def read():
                    nonlocal ended
                    try:
                        got.append(await anext(results))
                    except StopAsyncIteration:
                        ended = True

                nursery.start_soon(read)
                for _ in range(with_cancel % 5):
                    await trio.lowlevel.checkpoint()
                with_cancel += 1
                nursery.cancel_scope.cancel()
            if ended:
                break
        assert sorted(got) == list(range(200))
        if method == "imap":
            assert got == sorted(got)


async def test_a_cancelled_apply_cancels_its_own_call_waits_for_it_and_touches_no_other(
    autojump_clock, balanced
):
    events = []

    async def work():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            events.append("cleaned up")

    async with Pool(2) as pool:
        other = await pool.spawn(trio.sleep, 10)
        with trio.move_on_after(1) as scope:
            await pool.apply(work)
        assert scope.cancelled_caught
        assert events == ["cleaned up"]
        assert trio.current_time() == 3
        assert list(pool) == [other]
        assert await other is None
        balanced(pool)


@every_input
async def test_a_cancelled_map_cancels_its_own_calls_waits_for_them_and_touches_no_other(
    make, autojump_clock, balanced
):
    events = []

    async def work(x):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(x)
            events.append(x)

    async with Pool(3) as pool:
        other = await pool.spawn(trio.sleep, 10)
        with trio.move_on_after(1) as scope:
            await pool.map(work, make(1, 2, 3, 4))
        assert scope.cancelled_caught
        assert events == [1, 2]
        assert trio.current_time() == 3
        assert list(pool) == [other]
        assert await other is None
        balanced(pool)


async def test_a_map_cancelled_before_it_began_begins_nothing(balanced):
    begun = []

    async def note(x):
        begun.append(x)

    async with Pool(3) as pool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.map(note, [1, 2, 3])
        assert scope.cancelled_caught
        await wait_all_tasks_blocked()
        assert begun == []
        balanced(pool)


async def test_an_error_of_the_cleanup_of_a_cancelled_map_is_raised(autojump_clock):
    async def work(x):
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError(x)

    async with Pool(1) as pool:
        with pytest.raises(ValueError, match="1"), trio.move_on_after(1):
            await pool.map(work, [1])


async def test_a_map_cancelled_after_its_last_call_ended_may_return_but_never_hangs(balanced):
    for passes in range(12):
        async with Pool(2) as pool:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel(passes=passes, scope=scope):
                        for _ in range(passes):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    assert await pool.map(give, range(5)) == list(range(5))
            balanced(pool)


async def test_the_first_line_never_runs_before_spawn_returned_its_task():
    seen = []

    async def first_line():
        seen.append(triopool.current_task())

    for size in (1, None):
        async with Pool(size) as pool:
            for _ in range(3):
                task = await pool.spawn(first_line)
                assert seen == []
                assert task.status is TaskStatus.RUNNING
                await pool.join()
                assert seen.pop() is task
                task = pool.spawn_nowait(first_line)
                assert seen == []
                await pool.join()
                assert seen.pop() is task
                task = pool.apply_async(first_line)
                assert seen == []
                await pool.join()
                assert seen.pop() is task


# The budget


@pytest.mark.parametrize("size", [1, 2, 10, 100, None])
@every_input
async def test_few_calls_without_a_checkpoint_run_between_two_passes(size, make):
    calls = most = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    rows = make(*range(30_000))
    async with Pool(size) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, busy, rows if make is not inputs["list"] else range(10**9))
        for _ in range(200):
            before = calls
            await trio.lowlevel.checkpoint()
            most = max(most, calls - before)
        nursery.cancel_scope.cancel()
    # Parts of two passes lie between two looks; and the first call of each worker is free.
    assert 0 < most <= 4 * 64 + 2 * min(size or 64, 64)


async def test_several_maps_share_the_budget():
    calls = most = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(4) as pool, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(pool.map, busy, range(10**9))
        for _ in range(500):
            before = calls
            await trio.lowlevel.checkpoint()
            most = max(most, calls - before)
        nursery.cancel_scope.cancel()
    assert 0 < most <= 4 * 64 + 2 * 4


@pytest.mark.parametrize("method", methods)
@pytest.mark.parametrize("size", [1, 3, None])
async def test_another_task_ticks_while_calls_without_a_checkpoint_run(method, size):
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async def consume(results):
        async for _ in results:
            pass

    async with Pool(size) as pool, trio.open_nursery() as nursery:
        if method == "map":
            nursery.start_soon(pool.map, busy, range(10**9))
        else:
            nursery.start_soon(consume, getattr(pool, method)(busy, range(10**9), maxsize=10))
        ticks = 0
        while calls < 4_000:
            await trio.lowlevel.checkpoint()
            ticks += 1
        nursery.cancel_scope.cancel()
    assert ticks >= 20


async def test_the_number_of_workers_does_not_grow_with_a_map_of_calls_without_a_checkpoint():
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool() as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, busy, range(10**9))
        while calls < 50_000:
            await trio.lowlevel.checkpoint()
        assert len(pool) <= 16
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("method", methods)
async def test_calls_without_a_checkpoint_are_cancellable(method):
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(2) as pool:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel():
                    while calls < 1_000:
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(cancel)
                if method == "map":
                    await pool.map(busy, range(10**9))
                else:
                    async with getattr(pool, method)(busy, range(10**9)) as results:
                        async for _ in results:
                            pass
        assert scope.cancelled_caught
        assert calls < 100_000
        assert await pool.join()


async def test_calls_without_a_checkpoint_are_killable():
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(2) as pool, trio.open_nursery() as nursery:

        async def mapping():
            with pytest.raises(TaskKilled):
                await pool.map(busy, range(10**9))

        nursery.start_soon(mapping)
        while calls < 1_000:
            await trio.lowlevel.checkpoint()
        assert await pool.kill()


async def test_a_deadline_ends_a_map_of_calls_without_a_checkpoint():
    """On the real clock, on which such a map would otherwise take hours."""

    async def busy(x):
        pass

    started = time.monotonic()
    async with Pool() as pool:
        with trio.move_on_after(0.05) as scope:
            await pool.map(busy, range(10**10))
        assert scope.cancelled_caught
    assert time.monotonic() - started < 60


async def test_calls_that_yield_do_not_use_up_the_budget(autojump_clock):
    now = most = 0

    async def work(x):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1)
        now -= 1

    async with Group() as group:
        await group.map(work, range(1_000))
    assert most == 1_000
    assert trio.current_time() == 1
