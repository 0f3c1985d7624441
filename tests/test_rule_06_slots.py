"""Rule 6: a slot is a token of one CapacityLimiter."""

import itertools
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import Group, Pool, PoolFull, Task, TaskKilled, TaskStatus


class Gauge:
    """How many calls run now, and the most that ever did since `peak` was set to 0."""

    def __init__(self, seconds=1):
        self.seconds = seconds
        self.now = self.peak = self.begun = 0

    async def work(self, x=None):
        self.now += 1
        self.begun += 1
        self.peak = max(self.peak, self.now)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.now -= 1
        return x


async def read(results):
    return [result async for result in results]


def in_tuples(rows):
    if hasattr(rows, "__aiter__"):
        return ((row,) async for row in rows)
    return ((row,) for row in rows)


ways = {
    "map": lambda pool, func, rows: pool.map(func, rows),
    "imap": lambda pool, func, rows: read(pool.imap(func, rows)),
    "imap_unordered": lambda pool, func, rows: read(pool.imap_unordered(func, rows)),
    "starmap": lambda pool, func, rows: read(pool.starmap(func, in_tuples(rows))),
    "map_cb": lambda pool, func, rows: pool.map_cb(func, rows),
    "map_async": lambda pool, func, rows: pool.map_async(func, rows).get(),
}
every_way = pytest.mark.parametrize("way", ways.values(), ids=ways)


def generator(rows):
    yield from rows


async def async_generator(rows):
    for row in rows:
        yield row


inputs = {"list": list, "generator": generator, "async": async_generator}
every_input = pytest.mark.parametrize("make", inputs.values(), ids=inputs)


async def test_a_slot_is_a_token_of_the_limiter(autojump_clock, balanced):
    async with Pool(3) as pool:
        assert isinstance(pool.limiter, trio.CapacityLimiter)
        assert pool.limiter.total_tokens == pool.size == 3
        await pool.spawn(trio.sleep, 1)
        pool.spawn_nowait(trio.sleep, 1)
        assert pool.limiter.borrowed_tokens == len(pool) == 2
        assert pool.free_count() == 1
        await pool.join()
        balanced(pool)


@every_way
@pytest.mark.parametrize("size", [1, 2, 5, None])
async def test_no_more_calls_run_than_there_are_slots_and_as_many_do(way, size, autojump_clock):
    gauge = Gauge()
    async with Pool(size) as pool:
        assert sorted(await way(pool, gauge.work, [1, 2, 3, 4, 5, 6, 7])) == [1, 2, 3, 4, 5, 6, 7]
    assert gauge.peak == min(size or 7, 7)


@every_input
async def test_rows_hold_slots_whatever_the_input_is(make, autojump_clock, balanced):
    gauge = Gauge()
    async with Pool(2) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.map, gauge.work, make(range(4)))
            await trio.sleep(0.5)
            assert (len(pool), pool.free_count(), pool.full()) == (2, 0, True)
            with pytest.raises(PoolFull):
                pool.spawn_nowait(trio.sleep, 1)
        balanced(pool)
    assert gauge.peak == 2


async def test_a_slot_is_held_from_start_to_end_cleanup_included(autojump_clock):
    async def slow_to_clean_up():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async with Pool(1) as pool:
        task = await pool.spawn(slow_to_clean_up)
        await trio.sleep(1)
        task.kill_nowait()
        await trio.sleep(4)
        assert pool.full()
        with pytest.raises(PoolFull):
            pool.spawn_nowait(trio.sleep, 0)
        await trio.sleep(2)
        assert pool.free_count() == 1


@every_input
async def test_the_slot_of_a_row_is_held_until_its_cleanup_is_over(make, autojump_clock):
    async def slow_to_clean_up(x):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async with Pool(1) as pool:
        results = pool.imap(slow_to_clean_up, make([1]))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(results.aclose)
            await trio.sleep(4)
            assert pool.full()
        assert trio.current_time() == 5
        assert pool.free_count() == 1


@pytest.mark.parametrize("reuse", [True, False])
async def test_a_slot_is_given_back_on_every_path(reuse, autojump_clock, balanced):
    async def fail(x=0):
        raise ValueError(x)

    async def wait(x=0):
        await trio.sleep_forever()

    async def swallow(x=0):
        with trio.CancelScope():
            await trio.lowlevel.checkpoint()
        return x

    async with Pool(2, reuse_tasks=reuse) as pool:
        assert await pool.apply(swallow, (1,)) == 1
        for call in (pool.apply(fail), pool.map(fail, [1, 2]), pool.map(fail, generator([1]))):
            with pytest.raises(ValueError):
                await call
            balanced(pool)
        for call in (pool.apply(wait), pool.map(wait, [1, 2, 3]), pool.spawn(wait)):
            async with trio.open_nursery() as nursery:

                async def killed(call=call):
                    with pytest.raises(TaskKilled):
                        await call
                        raise TaskKilled

                nursery.start_soon(killed)
                await wait_all_tasks_blocked()
                await pool.kill()
            balanced(pool)
        for call in (pool.apply(wait), pool.map(wait, [1, 2, 3])):
            with trio.move_on_after(1) as scope:
                await call
            assert scope.cancelled_caught
            balanced(pool)
        results = pool.imap(wait, [1, 2, 3])
        await wait_all_tasks_blocked()
        assert pool.full()
        await results.aclose()
        balanced(pool)


async def test_no_slot_is_held_while_input_is_awaited(autojump_clock, balanced):
    async def slow_rows():
        for i in range(3):
            await trio.sleep(10)
            yield i

    async def quick(x):
        return x

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, quick, slow_rows())
        for _ in range(3):
            await trio.sleep(9)
            balanced(pool)
            assert await pool.wait_available(timeout=0) == 1
            await trio.sleep(1)


async def test_waiters_are_served_first_come_first_served(autojump_clock):
    order = []

    async def note(x):
        order.append(x)
        await trio.sleep(1)

    async with Pool(1) as pool:
        await pool.spawn(trio.sleep, 1)
        async with trio.open_nursery() as nursery:
            asking = [
                lambda: nursery.start_soon(pool.spawn, note, 0),
                lambda: pool.apply_async(note, (1,)),
                lambda: nursery.start_soon(pool.apply, note, (2,)),
                lambda: nursery.start_soon(pool.start, Task(note, 3)),
                lambda: pool.apply_async(note, (4,)),
                lambda: pool.apply_async(note, (5,)),
                lambda: nursery.start_soon(pool.map, note, [6]),
                lambda: nursery.start_soon(pool.spawn, note, 7),
            ]
            for ask in asking:
                ask()
                await wait_all_tasks_blocked()
    assert order == [0, 1, 2, 3, 4, 5, 6, 7]


@every_input
async def test_a_long_map_does_not_starve_a_spawn(make, autojump_clock):
    gauge = Gauge()
    async with Pool(2) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, gauge.work, make(range(50)))
        await trio.sleep(5.5)
        other = await pool.spawn(gauge.work, "other")
        assert trio.current_time() <= 6.5
        assert await other == "other"


async def test_a_long_map_of_calls_without_a_checkpoint_does_not_starve_a_spawn():
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, busy, range(10**8))
        while not calls:
            await trio.lowlevel.checkpoint()
        await pool.apply(busy, (0,))
        assert calls < 10_000
        nursery.cancel_scope.cancel()


async def test_a_long_map_does_not_starve_one_who_uses_the_limiter_directly():
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, busy, range(10**8))
        while not calls:
            await trio.lowlevel.checkpoint()
        async with pool.limiter:
            seen = calls
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            assert calls == seen
        nursery.cancel_scope.cancel()


async def test_two_maps_share_the_slots(autojump_clock):
    ended = []

    async def work(x):
        await trio.sleep(1)
        ended.append(x)

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, work, ["a"] * 20)
        await wait_all_tasks_blocked()
        nursery.start_soon(pool.map, work, ["b"] * 20)
        await trio.sleep(10.5)
        assert ended.count("b") >= 5
        assert ended.count("a") >= 5


@every_way
async def test_size_none_means_no_limit(way, autojump_clock):
    gauge = Gauge()
    async with Pool(None) as pool:
        assert (pool.size, pool.free_count(), pool.full()) == (None, 1, False)
        await way(pool, gauge.work, range(300))
    assert gauge.peak == 300
    assert trio.current_time() == 1


async def test_a_group_has_no_limit(autojump_clock):
    gauge = Gauge()
    async with Group() as group:
        assert group.size is None
        await group.map(gauge.work, range(300))
    assert gauge.peak == 300


@every_input
@every_way
async def test_size_zero_means_nothing_starts_until_it_is_resized(way, make, autojump_clock):
    gauge = Gauge()
    async with Pool(0) as pool, trio.open_nursery() as nursery:
        assert (pool.size, pool.free_count(), pool.full()) == (0, 0, True)
        with pytest.raises(PoolFull):
            pool.spawn_nowait(gauge.work)
        task = pool.apply_async(gauge.work)
        nursery.start_soon(pool.spawn, gauge.work)
        nursery.start_soon(way, pool, gauge.work, make([1, 2]))
        await trio.sleep(100)
        assert gauge.begun == 0
        assert task.status is TaskStatus.WAITING
        assert not await pool.join(timeout=1)
        pool.size = 1
        await pool.join()
        assert gauge.peak == 1


async def test_resizing_kills_nothing(autojump_clock):
    async def work(x):
        await trio.sleep(10)
        return x

    async with Pool(4) as pool:
        tasks = [await pool.spawn(work, i) for i in range(4)]
        pool.size = 0
        assert (pool.free_count(), pool.full(), len(pool)) == (0, True, 4)
        await pool.join()
        assert [task.value for task in tasks] == [0, 1, 2, 3]


@every_input
@every_way
@pytest.mark.parametrize("small", [0, 1, 2])
async def test_a_map_that_runs_keeps_to_a_smaller_size(way, make, small, autojump_clock, balanced):
    gauge = Gauge()
    async with Pool(4) as pool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(way, pool, gauge.work, make(range(100)))
            await trio.sleep(2.5)
            assert gauge.now == 4
            pool.size = small
            await trio.sleep(1)
            gauge.peak = 0
            await trio.sleep(10)
            assert gauge.peak == small
            pool.size = 6
            await trio.sleep(1.75)
            assert gauge.now == 6
        assert gauge.begun == 100
        balanced(pool)


async def test_down_and_up_again_between_two_rows_loses_nothing(autojump_clock, balanced):
    gauge = Gauge()
    async with Pool(4) as pool:
        async with trio.open_nursery() as nursery:
            done = []

            async def mapping():
                done.append(await pool.map(gauge.work, range(60)))

            nursery.start_soon(mapping)
            for size in itertools.islice(itertools.cycle([1, 4, 0, 2, None, 3]), 60):
                pool.size = size
                await trio.sleep(0.4)
            pool.size = 4
        assert done == [list(range(60))]
        balanced(pool)


async def test_shrinking_the_limiter_itself_resizes_a_map_too(autojump_clock):
    gauge = Gauge()
    async with Pool(4) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, gauge.work, range(20))
        await trio.sleep(1.5)
        pool.limiter.total_tokens = 1
        await trio.sleep(1)
        gauge.peak = 0
        await trio.sleep(3)
        assert gauge.peak == 1


async def test_a_map_of_calls_without_a_checkpoint_sees_a_shrink():
    calls = 0

    async def busy(x):
        nonlocal calls
        calls += 1

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, busy, range(10**8))
        while not calls:
            await trio.lowlevel.checkpoint()
        pool.size = 0
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        seen = calls
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert calls == seen
        pool.size = 1
        while calls == seen:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("size", "error"),
    [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (True, TypeError)],
)
async def test_what_is_no_size_is_an_error(size, error):
    with pytest.raises(error, match="size"):
        Pool(size)
    async with Pool(1) as pool:
        with pytest.raises(error, match="size"):
            pool.size = size
        with pytest.raises(TypeError, match="limiter"):
            pool.size = trio.CapacityLimiter(3)
        assert pool.size == 1


@every_way
async def test_a_limiter_is_one_limit_over_several_pools(way, autojump_clock):
    limiter = trio.CapacityLimiter(3)
    gauge = Gauge()
    async with Pool(limiter) as one, Pool(limiter) as two, trio.open_nursery() as nursery:
        assert one.limiter is two.limiter is limiter
        for pool in (one, two):
            nursery.start_soon(way, pool, gauge.work, range(12))
        await trio.sleep(0.5)
        assert len(one) + len(two) == 3
        assert one.full()
        assert two.full()
    assert gauge.begun == 24
    assert gauge.peak == 3
    assert limiter.borrowed_tokens == 0


async def test_a_shared_limiter_is_taken_in_turn(autojump_clock):
    limiter = trio.CapacityLimiter(2)
    ended = []

    async def work(x):
        await trio.sleep(1)
        ended.append(x)

    async with Pool(limiter) as one, Pool(limiter) as two, trio.open_nursery() as nursery:
        nursery.start_soon(one.map, work, ["one"] * 20)
        await wait_all_tasks_blocked()
        nursery.start_soon(two.map, work, ["two"] * 20)
        await trio.sleep(10.5)
        assert ended.count("one") >= 8
        assert ended.count("two") >= 8


async def test_a_shared_limiter_is_resized_for_all(autojump_clock):
    limiter = trio.CapacityLimiter(1)
    gauge = Gauge()
    async with Pool(limiter) as one, Pool(limiter) as two, trio.open_nursery() as nursery:
        nursery.start_soon(one.map, gauge.work, range(30))
        nursery.start_soon(two.map, gauge.work, range(30))
        await trio.sleep(1.5)
        assert gauge.peak == 1
        one.size = 4
        assert two.size == 4
        await trio.sleep(1.75)
        assert gauge.now == 4
        two.size = 2
        await trio.sleep(1)
        gauge.peak = 0
        await trio.sleep(3)
        assert gauge.peak == 2


async def test_a_pool_on_a_shared_limiter_ends_while_another_holds_all_slots(autojump_clock):
    limiter = trio.CapacityLimiter(1)
    async with Pool(limiter) as one:
        await one.spawn(trio.sleep, 100)
        async with Pool(limiter) as two:
            results = two.imap(trio.sleep, [1, 2])
            await wait_all_tasks_blocked()
        assert trio.current_time() == 0
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)
        assert limiter.statistics().tasks_waiting == 0
        assert limiter.borrowed_tokens == 1


@pytest.mark.parametrize("shared", [True, False])
async def test_whoever_waits_for_a_slot_of_a_pool_that_ends_gets_closedresourceerror(shared):
    limiter = trio.CapacityLimiter(1)
    ends = []

    async def ask(pool):
        try:
            await pool.spawn(trio.sleep, 1)
        except trio.ClosedResourceError:
            ends.append("closed")

    async with Pool(limiter) as other, trio.open_nursery() as nursery:
        if shared:
            await other.spawn(trio.sleep_forever)
        async with Pool(limiter if shared else 1) as pool:
            if not shared:
                await pool.spawn(trio.sleep_forever)
            nursery.start_soon(ask, pool)
            await wait_all_tasks_blocked()
            pool.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert ends == ["closed"]
        assert pool.limiter.statistics().tasks_waiting == 0
        other.kill_nowait()


async def test_a_map_inside_a_member_of_a_full_pool_runs_on_the_members_slot(autojump_clock):
    gauge = Gauge()

    async def member(pool):
        return await pool.map(gauge.work, range(3))

    async with Pool(1) as pool:
        task = await pool.spawn(member, pool)
        assert await task == [0, 1, 2]
    assert gauge.peak == 1
    assert trio.current_time() == 3


@every_input
async def test_a_map_inside_a_member_uses_free_slots_beside_the_members(make, autojump_clock):
    gauge = Gauge()

    async def member(pool):
        return await pool.map(gauge.work, make(range(6)))

    async with Pool(3) as pool:
        task = await pool.spawn(member, pool)
        assert await task == [0, 1, 2, 3, 4, 5]
    assert gauge.peak == 3


@every_input
@pytest.mark.parametrize("maxsize", [1, 2, None])
async def test_an_iterator_inside_a_member_runs_on_the_members_slot(make, maxsize, autojump_clock):
    gauge = Gauge()

    async def member(pool):
        return await read(pool.imap(gauge.work, make(range(4)), maxsize=maxsize))

    async with Pool(1) as pool:
        assert await pool.apply(member, (pool,)) == [0, 1, 2, 3]
    assert gauge.peak == 1


async def test_a_slot_that_others_leave_is_taken_while_the_members_own_is_in_use(autojump_clock):
    gauge = Gauge()

    async def member(pool):
        return await pool.map(gauge.work, range(6))

    async with Pool(2) as pool:
        await pool.spawn(trio.sleep, 1.5)
        task = await pool.spawn(member, pool)
        await trio.sleep(1.4)
        assert gauge.now == 1
        await trio.sleep(0.4)
        assert gauge.now == 2
        assert await task == [0, 1, 2, 3, 4, 5]
    assert trio.current_time() == 4


@every_input
async def test_a_member_that_ends_leaves_its_slot_to_the_row_that_uses_it(
    make, autojump_clock, balanced
):
    gauge = Gauge(5)
    results = []

    async def member(pool):
        results.append(pool.imap(gauge.work, make([1, 2])))
        await trio.sleep(1)

    async with Pool(1) as pool:
        await pool.spawn(member, pool)
        await trio.sleep(2)
        # The member is over; its row goes on, and counts.
        assert (len(pool), pool.full()) == (1, True)
        waiting = pool.apply_async(trio.sleep, (1,))
        await trio.sleep(1)
        assert waiting.status is TaskStatus.WAITING
        assert await read(results.pop()) == [1, 2]
        await waiting
        balanced(pool)
    assert gauge.peak == 1


async def test_a_member_inside_a_row_on_a_loan_leaves_it_to_its_own_row(autojump_clock, balanced):
    gauge = Gauge(5)
    kept = []

    async def middle(pool):
        kept.append(pool.imap(gauge.work, [1]))
        await trio.sleep(1)

    async def outer(pool):
        await pool.map(middle, [pool])
        await trio.sleep(10)
        return gauge.now

    async with Pool(1) as pool:
        task = await pool.spawn(outer, pool)
        await trio.sleep(3)
        assert gauge.now == 1
        assert await task == 0
        assert await read(kept.pop()) == [1]
        balanced(pool)
    assert gauge.peak == 1


@pytest.mark.parametrize("maxsize", [1, None])
@pytest.mark.parametrize("rows", [list, generator])
async def test_a_row_that_lent_its_slot_is_not_followed_by_another_on_it(
    maxsize, rows, autojump_clock
):
    now = peak = 0
    kept = []

    async def work(seconds):
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await trio.sleep(seconds)
        now -= 1

    async def row(x):
        if x == 0:
            kept.append(pool.imap(work, [5], maxsize=maxsize))
        await work(1)

    async with Pool(1) as pool:
        await pool.map(row, rows(range(3)))
        assert len(await read(kept.pop())) == 1
    assert trio.current_time() >= 7
    assert peak == 2


async def test_a_map_of_a_child_task_of_a_member_takes_slots_of_its_own(autojump_clock):
    gauge = Gauge()

    async def member(pool):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.map, gauge.work, range(2))

    async with Pool(2) as pool:
        await pool.spawn(member, pool)
        await pool.spawn(trio.sleep, 10)
        await trio.sleep(5)
        assert gauge.begun == 0
        pool.size = 3
        await trio.sleep(2)
        assert gauge.begun == 2


async def test_a_queued_call_whose_slot_lives_on_in_a_row_leaves_the_next_queued_call_in_peace(
    autojump_clock, balanced
):
    async def slow(x):
        await trio.sleep(5)
        return x

    async def lends():
        kept.append(pool.imap(slow, [1]))
        await trio.sleep(0.5)

    kept = []
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep, 1)
        await pool.apply_async(lends)
        assert await pool.apply_async(slow, (2,)) == 2
        assert [x async for x in kept[0]] == [1]
        await pool.join()
        balanced(pool)


async def test_a_slot_may_come_before_the_timeout_of_start(autojump_clock, balanced):
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep, 1)
        task = Task(trio.sleep, 1)
        await pool.start(task, timeout=5)
        assert await task.join()
        balanced(pool)


async def start(pool, func, x):
    await pool.start(Task(func, x))


WAYS = {
    "spawn": lambda pool, func, x: pool.spawn(func, x),
    "apply": lambda pool, func, x: pool.apply(func, (x,)),
    "start": start,
}


@pytest.mark.parametrize("attempt", range(20))  # Trio shuffles
@pytest.mark.parametrize("while_map_begins", [False, True], ids=["", "while a map gets in line"])
@pytest.mark.parametrize("first", WAYS.values(), ids=WAYS)
async def test_whoever_asks_a_pass_of_the_loop_before_another_is_served_before(
    first, while_map_begins, attempt, balanced
):
    order = []

    async def call(x):
        order.append(x)

    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        async with trio.open_nursery() as nursery:
            if while_map_begins:
                nursery.start_soon(pool.map, call, [-1, -2])
            await trio.lowlevel.checkpoint()
            for x, way in enumerate([first, WAYS["spawn"], first, WAYS["apply"]]):
                nursery.start_soon(way, pool, call, x)
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            blocker.kill_nowait()
        await pool.join()
        balanced(pool)
    assert [x for x in order if x >= 0] == [0, 1, 2, 3]


@pytest.mark.parametrize("attempt", range(10))  # Trio shuffles
async def test_a_spawn_that_is_cancelled_in_the_line_holds_up_nobody(attempt, balanced):
    async def call(x=None):
        return x

    async with Pool(1) as pool:
        with trio.CancelScope() as scope:
            results = pool.imap(call, [1, 2])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.spawn, call)
                nursery.start_soon(pool.wait_available)
                scope.cancel()
        task = await pool.spawn(call, 3)
        assert await task == 3
        assert [result async for result in results] == [1, 2]
        await pool.join()
        balanced(pool)


class Passes(trio.abc.Instrument):
    """Counts the passes of Trio's loop."""

    count = 0

    def before_io_wait(self, timeout):
        self.count += 1


@pytest.mark.parametrize("quick", [0, 100, 1000])
async def test_a_map_of_slow_rows_after_quick_ones_fills_the_pool_in_a_few_passes(quick):
    passes = Passes()
    at = []  # in which pass each slow row began
    release = trio.Event()

    async def row(x):
        if x < quick:
            await trio.lowlevel.checkpoint()
        else:
            at.append(passes.count)
            await release.wait()

    trio.lowlevel.add_instrument(passes)
    async with Pool(100) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, row, range(quick + 200))
        await wait_all_tasks_blocked()
        assert len(at) == 100
        assert at[-1] - at[0] < 20
        release.set()
    trio.lowlevel.remove_instrument(passes)


async def test_a_call_in_a_burst_of_apply_async_costs_the_same_however_many_there_are():
    package = str(Path(triopool.__file__).parent)

    async def steps(count):
        """How many functions of the package are called for each of so many calls."""
        calls = 0

        def profile(frame, event, _):
            nonlocal calls
            calls += event == "call" and frame.f_code.co_filename.startswith(package)

        async with Pool(2) as pool:
            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                for _ in range(count):
                    pool.apply_async(trio.lowlevel.checkpoint)
                await pool.join()
            finally:
                sys.setprofile(before)
        return calls / count

    assert await steps(1000) < 1.2 * await steps(100)


async def test_the_worker_of_a_row_that_was_discarded_takes_no_other(autojump_clock):
    running = most = 0

    async def work(x: int) -> int:
        nonlocal running, most
        if x:
            running += 1
            most = max(most, running)
        await trio.sleep(1 if x else 2.5)
        running -= bool(x)
        return x

    async with Pool(1) as pool:
        results = pool.imap_unordered(work, range(7))
        await wait_all_tasks_blocked()
        (task,) = pool
        pool.discard(task)
        assert sorted([x async for x in results]) == list(range(7))
    assert most == 1


@pytest.mark.parametrize("shared", [True, False])
async def test_an_apply_is_served_after_the_call_that_was_queued_a_pass_before(shared):
    order = []

    async def note(x):
        order.append(x)

    for _ in range(10):
        order.clear()
        async with (
            Pool(trio.CapacityLimiter(1) if shared else 1) as pool,
            trio.open_nursery() as nursery,
        ):
            blocker = await pool.spawn(trio.sleep_forever)
            pool.apply_async(note, (1,))
            nursery.start_soon(pool.apply, note, (2,))
            await wait_all_tasks_blocked()
            blocker.kill_nowait()
        assert order == [1, 2]
