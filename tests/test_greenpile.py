"""GreenPile: calls that are spawned one by one, and whose results are iterated over."""

import gc
import weakref

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from triopool import (
    GreenPile,
    GreenPool,
    GreenThread,
    Group,
    Pool,
    PoolDeadlock,
    TaskKilled,
    TaskStatus,
)

ORDERED = pytest.mark.parametrize("ordered", [True, False])


async def after(seconds, result=None):
    await trio.sleep(seconds)
    return result


async def fail(message="broken"):
    await trio.lowlevel.checkpoint()
    raise ValueError(message)


# Order


async def test_results_come_in_the_order_of_spawning(autojump_clock):
    async with GreenPile() as pile:
        for seconds in (3, 1, 2):
            await pile.spawn(after, seconds, seconds)
        assert [x async for x in pile] == [3, 1, 2]


async def test_an_unordered_pile_yields_in_the_order_of_completion(autojump_clock):
    async with GreenPile(ordered=False) as pile:
        for seconds in (3, 1, 2):
            await pile.spawn(after, seconds, seconds)
        assert [x async for x in pile] == [1, 2, 3]


async def test_spawn_returns_the_greenthread_of_the_call():
    async with GreenPile(5) as pile:
        thread = await pile.spawn(after, 0, "x")
        assert type(thread) is GreenThread
        assert await pile.next() == "x"
        assert thread.value == "x"


async def test_spawn_passes_arguments_of_any_name():
    async def call(*args, **kwargs):
        return args, kwargs

    async with GreenPile(5) as pile:
        await pile.spawn(call, 1, func=2, self=3)
        assert await pile.next() == ((1,), {"func": 2, "self": 3})


@ORDERED
async def test_spawn_waits_for_a_slot_of_the_pool(ordered, autojump_clock):
    async with GreenPile(1, ordered=ordered) as pile:
        for _ in range(3):
            await pile.spawn(after, 5)
        assert trio.current_time() == 10


@ORDERED
async def test_spawn_and_next_are_checkpoints(ordered):
    async with GreenPile(ordered=ordered) as pile:
        with assert_checkpoints():
            await pile.spawn(after, 0)
        with assert_checkpoints():
            await pile.next()
        await pile.spawn(trio.lowlevel.checkpoint)
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await pile.next()
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await pile.next()


# Looking


@ORDERED
async def test_len_is_the_results_still_to_come(ordered, autojump_clock):
    async with GreenPile(2, ordered=ordered) as pile, trio.open_nursery() as nursery:
        assert len(pile) == 0
        for _ in range(2):
            await pile.spawn(after, 5)
        assert len(pile) == 2
        nursery.start_soon(pile.spawn, after, 5)
        await wait_all_tasks_blocked()
        assert len(pile) == 3  # with the one that waits for its slot
        await trio.sleep(20)
        assert len(pile) == 3
        await pile.next()
        assert len(pile) == 2
        nursery.cancel_scope.cancel()


async def test_a_pile_is_always_true_and_says_what_it_waits_for():
    async with GreenPile() as pile:
        assert pile
        await pile.spawn(after, 0)
        assert "GreenPile" in repr(pile)
        assert "1 result" in repr(pile)


# When it ends


@ORDERED
async def test_read_in_the_spawning_task_it_ends_when_nothing_is_outstanding(ordered):
    async with GreenPile(ordered=ordered) as pile:
        assert [x async for x in pile] == []
        for round in range(3):
            await pile.spawn(after, 0, round)
            assert [x async for x in pile] == [round]
            with pytest.raises(StopAsyncIteration):
                await pile.next()


@ORDERED
async def test_read_in_another_task_it_ends_after_close(ordered, autojump_clock):
    got = []

    async def read():
        async for x in pile:
            got.append(x)  # noqa: PERF401
        got.append("end")

    async with GreenPile(5, ordered=ordered) as pile, trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for x in range(3):
            await pile.spawn(after, 1, x)
            await trio.sleep(5)  # nothing is outstanding now, and still it goes on
        assert got == [0, 1, 2]
        pile.close()
        await wait_all_tasks_blocked()
        assert got == [0, 1, 2, "end"]


@ORDERED
async def test_after_close_another_reader_still_gets_what_was_spawned(ordered, autojump_clock):
    got = []

    async def read():
        got.extend([x async for x in pile])

    async with GreenPile(5, ordered=ordered) as pile, trio.open_nursery() as nursery:
        await pile.spawn(after, 5, "late")
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pile.close()
        await trio.sleep(10)
        assert got == ["late"]


async def test_a_reader_that_made_the_pile_for_another_spawner_waits_for_close(autojump_clock):
    async def spawn():
        await pile.spawn(after, 1, 1)
        await trio.sleep(5)
        await pile.spawn(after, 1, 2)
        pile.close()

    async with GreenPile(5) as pile, trio.open_nursery() as nursery:
        nursery.start_soon(spawn)
        await wait_all_tasks_blocked()
        assert [x async for x in pile] == [1, 2]


def test_a_pile_made_before_the_run_ends_when_nothing_is_outstanding():
    pile = GreenPile(5)

    async def main():
        async with pile:
            assert [x async for x in pile] == []
            await pile.spawn(trio.lowlevel.checkpoint)
            return [x async for x in pile]

    assert trio.run(main) == [None]


@ORDERED
async def test_nothing_is_spawned_after_close(ordered):
    async with GreenPile(ordered=ordered) as pile:
        await pile.spawn(after, 0, 1)
        pile.close()
        pile.close()
        with pytest.raises(trio.ClosedResourceError, match="this GreenPile is closed"):
            await pile.spawn(after, 0)
        assert [x async for x in pile] == [1]


# Errors


@ORDERED
async def test_a_failed_call_raises_when_it_is_read_and_reading_can_go_on(ordered):
    async with GreenPile(ordered=ordered) as pile:
        await pile.spawn(fail)
        with pytest.raises(ValueError, match="broken"):
            await pile.next()
        await pile.spawn(after, 0, "next")
        assert await pile.next() == "next"
        assert len(pile) == 0


@ORDERED
async def test_return_exceptions_hands_over_errors_as_values(ordered):
    async with GreenPile(ordered=ordered, return_exceptions=True) as pile:
        thread = await pile.spawn(fail)
        error = await pile.next()
        assert isinstance(error, ValueError)
        assert thread.exception is error
        thread = await pile.spawn(trio.sleep_forever)
        thread.kill_nowait(reason="enough")
        assert isinstance(await pile.next(), TaskKilled)
        await pile.spawn(after, 0, "fine")
        assert await pile.next() == "fine"
        thread = await pile.spawn(fail)
        await thread.join()  # what nobody reads is no error either


@ORDERED
async def test_a_killed_call_raises_when_it_is_read(ordered):
    async with GreenPile(ordered=ordered) as pile:
        thread = await pile.spawn(trio.sleep_forever)
        await thread.kill(KeyError("mine"))
        with pytest.raises(KeyError, match="mine"):
            await pile.next()
        await pile.spawn(trio.sleep_forever)
        await pile.pool.kill(reason="all of it")
        with pytest.raises(TaskKilled, match="all of it"):
            await pile.next()


@ORDERED
async def test_an_error_that_nobody_read_is_raised_when_the_block_is_left(ordered):
    with pytest.raises(ExceptionGroup, match="1 unobserved error in GreenPool") as caught:
        async with GreenPile(ordered=ordered) as pile:
            await pile.spawn(fail, "read")
            with pytest.raises(ValueError, match="read"):
                await pile.next()
            await pile.spawn(fail, "unread")
            await wait_all_tasks_blocked()
    assert [str(e) for e in caught.value.exceptions] == ["unread"]


@ORDERED
async def test_an_unread_error_of_a_borrowed_pool_is_raised_by_that_pool(ordered):
    with pytest.raises(ExceptionGroup, match="1 unobserved error in Pool"):
        async with Pool(2) as pool:
            async with GreenPile(pool, ordered=ordered) as pile:
                await pile.spawn(fail)
                await wait_all_tasks_blocked()
            assert len(pile) == 0


@ORDERED
@pytest.mark.parametrize("on_error", ["cancel", "log"])
async def test_on_error_does_not_concern_a_pile(ordered, on_error, caplog):
    async with GreenPool(2, on_error=on_error) as pool:
        pile = GreenPile(pool, ordered=ordered)
        await pile.spawn(fail)
        await wait_all_tasks_blocked()
        with pytest.raises(ValueError, match="broken"):
            await pile.next()
    assert not caplog.records


# Cancelling


@ORDERED
async def test_a_cancelled_next_loses_no_result(ordered, autojump_clock):
    async with GreenPile(ordered=ordered) as pile:
        await pile.spawn(after, 5, "kept")
        for _ in range(3):
            with trio.move_on_after(1) as scope:
                await pile.next()
            assert scope.cancelled_caught
        assert len(pile) == 1
        assert await pile.next() == "kept"
        await pile.spawn(after, 0, "ready")
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pile.next()
        assert await pile.next() == "ready"


@ORDERED
async def test_a_cancelled_spawn_started_nothing_and_nothing_is_to_come(ordered):
    ran = []

    async def note():
        ran.append(1)

    async with GreenPile(1, ordered=ordered) as pile:
        blocker = await pile.spawn(trio.sleep_forever)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pile.spawn(note)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pile.spawn, note)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert len(pile) == 1
        await blocker.kill()
        with pytest.raises(TaskKilled):
            await pile.next()
        assert [x async for x in pile] == []
    assert not ran


@ORDERED
async def test_a_reader_that_waits_while_a_spawn_is_cancelled_comes_to_its_end(ordered):
    got = []

    async def read(pile):
        got.append([x async for x in pile])

    async with GreenPool(1) as pool, trio.open_nursery() as nursery:
        pile = GreenPile(pool, ordered=ordered)
        blocker = await pool.spawn(trio.sleep_forever)
        spawner = trio.CancelScope()

        async def spawn():
            with spawner:
                await pile.spawn(after, 0)

        nursery.start_soon(spawn)
        await wait_all_tasks_blocked()
        pile.close()
        nursery.start_soon(read, pile)
        await wait_all_tasks_blocked()
        assert got == []
        spawner.cancel()
        await wait_all_tasks_blocked()
        assert got == [[]]
        await blocker.kill()


# Several readers


@ORDERED
async def test_each_result_goes_to_one_of_several_readers(ordered, autojump_clock):
    got = []

    async def read():
        async for x in pile:
            got.append(x)  # noqa: PERF401

    async with GreenPile(3, ordered=ordered) as pile, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for x in range(10):
            await pile.spawn(after, x % 3, x)
        pile.close()
        await trio.sleep(100)
    assert sorted(got) == list(range(10))


# Pools of one's own, and borrowed ones


@ORDERED
@pytest.mark.parametrize("kind", [Group, Pool, GreenPool])
async def test_on_a_pool_that_is_open_it_needs_no_block(kind, ordered, balanced):
    async with kind() as pool:
        pile = GreenPile(pool, ordered=ordered)
        assert pile.pool is pool
        for x in range(3):
            await pile.spawn(after, 0, x)
        assert sorted([x async for x in pile]) == [0, 1, 2]
        await pool.join()
        balanced(pool)


async def test_one_pool_may_serve_many_piles(autojump_clock):
    async with GreenPool(2) as pool:
        piles = [GreenPile(pool), GreenPile(pool, ordered=False)]
        for x in range(3):
            for pile in piles:
                await pile.spawn(after, 3 - x, x)
        assert [x async for x in piles[0]] == [0, 1, 2]
        assert sorted([x async for x in piles[1]]) == [0, 1, 2]


@ORDERED
async def test_the_block_of_a_borrowed_pile_cancels_what_is_unread(
    ordered, autojump_clock, balanced
):
    cleaned = []

    async def cleans_up():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            cleaned.append(1)

    async with GreenPool(3) as pool:
        other = await pool.spawn(after, 50, "spared")
        async with GreenPile(pool, ordered=ordered) as pile:
            await pile.spawn(after, 0, "read")
            threads = [await pile.spawn(cleans_up) for _ in range(2)]
            if not ordered:
                assert await pile.next() == "read"
            await trio.sleep(1)
        assert cleaned == [1, 1]
        assert len(pile) == 0
        assert [t.status for t in threads] == [TaskStatus.KILLED] * 2
        with pytest.raises(TaskKilled, match="the block of the pile was left"):
            await threads[0].get()
        with pytest.raises(trio.ClosedResourceError):
            await pile.spawn(after, 0)
        assert await other == "spared"
        balanced(pool)


@ORDERED
async def test_the_block_of_an_owned_pile_cancels_what_is_unread(ordered):
    async with GreenPile(ordered=ordered) as pile:
        thread = await pile.spawn(trio.sleep_forever)
        await wait_all_tasks_blocked()
    assert thread.status is TaskStatus.KILLED


@ORDERED
@pytest.mark.parametrize("owned", [True, False])
async def test_an_exception_leaves_the_block_of_a_pile_as_it_is(ordered, owned):
    async with GreenPool(2) as pool:
        with pytest.raises(KeyError, match="mine"):
            async with GreenPile(2 if owned else pool, ordered=ordered) as pile:
                thread = await pile.spawn(trio.sleep_forever)
                raise KeyError("mine")
        assert thread.status is TaskStatus.KILLED


@ORDERED
async def test_a_pile_left_while_somebody_waits_in_spawn_kills_that_call_too(ordered, balanced):
    ran = []

    async def note():
        ran.append(1)

    threads = []

    async def spawn(pile):
        threads.append(await pile.spawn(note))

    async with GreenPool(1) as pool, trio.open_nursery() as nursery:
        blocker = await pool.spawn(trio.sleep_forever)
        async with GreenPile(pool, ordered=ordered) as pile:
            nursery.start_soon(spawn, pile)
            await wait_all_tasks_blocked()
            assert len(pile) == 1
        await blocker.kill()
        await wait_all_tasks_blocked()
        assert len(pile) == 0
        assert threads[0].status is TaskStatus.KILLED
        with pytest.raises(TaskKilled, match="the block of the pile was left"):
            await threads[0].get()
        with pytest.raises(trio.ClosedResourceError, match="was left"):
            await pile.next()
        await pool.join()
        balanced(pool)
    assert not ran


@ORDERED
@pytest.mark.parametrize("owned", [True, False])
async def test_a_reader_parked_on_a_pile_that_is_left_gets_closedresourceerror(ordered, owned):
    outcomes = []

    async def read(pile):
        with pytest.raises(trio.ClosedResourceError, match="the block of this GreenPile was left"):
            await pile.next()
        outcomes.append("no silent end")

    async with (
        GreenPool(2) as pool,
        trio.open_nursery() as nursery,
        GreenPile(2 if owned else pool, ordered=ordered) as pile,
    ):
        await pile.spawn(trio.sleep_forever)
        nursery.start_soon(read, pile)
        await wait_all_tasks_blocked()
    assert outcomes == ["no silent end"]


@ORDERED
async def test_a_pile_that_was_read_to_its_end_stays_at_its_end_when_it_is_left(ordered):
    async with GreenPile(ordered=ordered) as pile:
        await pile.spawn(trio.lowlevel.checkpoint)
        assert await pile.next() is None
    with pytest.raises(StopAsyncIteration):
        await pile.next()


@ORDERED
async def test_a_pile_in_a_member_of_a_full_greenpool_runs_in_place(ordered, balanced):
    async def outer():
        pile = GreenPile(pool, ordered=ordered)
        for x in range(3):
            await pile.spawn(after, 0, x)
        await pile.spawn(fail)
        got = [await pile.next() for _ in range(3)]
        with pytest.raises(ValueError, match="broken"):
            await pile.next()
        assert len(pile) == 0
        return got

    async with GreenPool(1) as pool:
        assert await pool.apply(outer) == [0, 1, 2]
        balanced(pool)


# Memory


@ORDERED
async def test_eventlet_748_a_pile_keeps_no_task_whose_result_was_read(ordered, no_gc):
    class Result:
        pass

    async def call():
        return Result()

    async with GreenPile(2, ordered=ordered) as pile:
        refs = []
        for _ in range(5):
            thread = await pile.spawn(call)
            result = await pile.next()
            refs += [weakref.ref(thread), weakref.ref(result)]
            del thread, result
        gc.collect()
        assert [ref() for ref in refs] == [None] * 10


async def test_an_error_that_next_raised_does_not_keep_the_pile_alive(no_gc):
    async with GreenPool(2) as pool:
        pile = GreenPile(pool)
        await pile.spawn(fail)
        with pytest.raises(ValueError, match="broken") as caught:
            await pile.next()
        error = caught.value
        del caught
        ref = weakref.ref(pile)
        del pile
        gc.collect()
        assert ref() is None
        assert str(error) == "broken"


async def test_a_pile_forgets_tasks_that_spawned_and_are_over():
    async def spawn(x):
        await pile.spawn(give, x)

    async def give(x):
        return x

    async with GreenPool(5) as pool:
        pile = GreenPile(pool)
        for x in range(50):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(spawn, x)
        await pile.spawn(give, 50)
        assert [x async for x in pile] == list(range(51))


@pytest.mark.parametrize("ordered", [True, False])
async def test_reading_a_pile_in_a_member_whose_calls_get_no_slot_is_a_deadlock(ordered):
    async def spawns():
        await pool.spawn(trio.lowlevel.checkpoint)

    async def reads():
        pile = GreenPile(pool, ordered=ordered)
        await pile.spawn(spawns)
        async for _ in pile:
            pass

    async with Pool(2) as pool:
        task = await pool.spawn(reads)
        with pytest.raises(PoolDeadlock):
            await task.get()
        await pool.join()


@ORDERED
async def test_a_member_may_read_the_result_of_a_call_that_needs_no_slot_any_more(
    ordered, autojump_clock
):
    async def read():
        pile = GreenPile(pool, ordered=ordered)
        pool.discard(await pile.spawn(after, 1, "result"))
        return await pile.next()

    async with GreenPool(2) as pool:
        assert await pool.apply(read) == "result"


@ORDERED
async def test_a_member_may_wait_for_what_others_are_still_to_spawn(ordered):
    async with GreenPool(2) as pool:
        pile = GreenPile(pool, ordered=ordered)
        reader = await pool.spawn(pile.next)
        await wait_all_tasks_blocked()
        await pile.spawn(after, 0, "result")
        assert await reader == "result"


async def test_a_reader_in_another_task_hears_of_the_end_of_the_pool(autojump_clock):
    raised = []

    async def read(pile):
        try:
            await pile.next()
        except trio.ClosedResourceError as error:
            raised.append(str(error))

    async with trio.open_nursery() as nursery, GreenPool(1) as pool:
        nursery.start_soon(read, GreenPile(pool))
        await wait_all_tasks_blocked()
    assert raised == ["the pool was closed while this waited for a result"]
