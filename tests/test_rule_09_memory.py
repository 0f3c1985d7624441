"""Rule 9: memory is bounded."""

import gc
import itertools
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import GreenPool, Group, Pool, TaskKilled


class Thing:
    """Something that can be weakly referenced, and whose life shows."""


def generator(n):
    yield from range(n)


async def async_generator(n):
    for i in range(n):
        yield i


class Slow:
    """An input of a type that nobody knows, whose rows the feeder has to pull."""

    def __init__(self, n):
        self._rows = iter(range(n))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._rows)


kinds = {"range": range, "generator": generator, "async": async_generator, "other": Slow}
every_kind = pytest.mark.parametrize("kind", kinds.values(), ids=kinds)
streams = pytest.mark.parametrize("method", ["imap", "imap_unordered", "starmap"])


def start(pool, method, func, rows, **kwargs):
    if method != "starmap":
        return getattr(pool, method)(func, rows, **kwargs)
    if hasattr(rows, "__aiter__"):
        return pool.starmap(func, ((row,) async for row in rows), **kwargs)
    return pool.starmap(func, [(row,) for row in rows], **kwargs)


# maxsize


@every_kind
@streams
@pytest.mark.parametrize("maxsize", [1, 2, 3, 7])
async def test_running_and_unread_never_exceed_maxsize_and_reach_it(
    method, kind, maxsize, autojump_clock
):
    begun = read = most = 0
    got = []

    async def work(x):
        nonlocal begun, most
        begun += 1
        most = max(most, begun - read)
        await trio.sleep([0, 3, 1, 0, 7][x % 5])
        return x

    async with Pool() as pool:
        results = start(pool, method, work, kind(40), maxsize=maxsize)
        await trio.sleep(50)
        assert begun == most == maxsize
        for pause in itertools.cycle([0, 5, 0.5, 0]):
            await trio.sleep(pause)
            # What a reader waits for is read as soon as it is there.
            read += 1
            try:
                got.append(await anext(results))
            except StopAsyncIteration:
                break
        assert sorted(got) == list(range(40))
        assert most == maxsize


@every_kind
@streams
@pytest.mark.parametrize("size", [1, 2, None])
async def test_a_slow_first_row_does_not_let_the_ordered_iterator_pile_up_results(
    method, kind, size, autojump_clock
):
    begun = []

    async def work(x):
        begun.append(x)
        await trio.sleep(0 if x else 100)
        return x

    async with Pool(size) as pool:
        results = start(pool, method, work, kind(50), maxsize=5)
        await trio.sleep(99)
        assert len(begun) == (1 if size == 1 else 5)
        await trio.sleep(2)
        assert len(begun) == 5
        assert sorted([result async for result in results]) == list(range(50))


@every_kind
async def test_a_result_handed_to_a_waiting_reader_is_read(kind, autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)
        await trio.sleep(1)
        return x

    async with Pool() as pool:
        results = pool.imap(work, kind(5), maxsize=1)
        with trio.move_on_after(0.5):
            await anext(results)
        assert begun == [0]  # to wait for a result is not yet to have read it
        assert await anext(results) == 0  # it waited
        await wait_all_tasks_blocked()
        assert begun == [0, 1]
        await trio.sleep(5)
        assert begun == [0, 1]
        assert await anext(results) == 1  # it did not
        await wait_all_tasks_blocked()
        assert begun == [0, 1, 2]
        assert [x async for x in results] == [2, 3, 4]


async def test_several_waiting_readers_each_make_room(autojump_clock):
    begun = []
    got = []

    async def work(x):
        begun.append(x)
        await trio.sleep(1)
        return x

    async def read_one():
        got.append(await anext(results))

    async with Pool() as pool:
        results = pool.imap_unordered(work, range(10), maxsize=2)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(read_one)
        await trio.sleep(10)
        assert sorted(got) == [0, 1, 2, 3]
        assert sorted(begun) == [0, 1, 2, 3, 4, 5]
        await results.aclose()


@every_kind
@streams
async def test_failed_results_count_against_maxsize_too(method, kind, autojump_clock):
    begun = []

    async def fail(x):
        begun.append(x)
        raise ValueError(x)

    async with Pool() as pool:
        results = start(pool, method, fail, kind(10), maxsize=3, return_exceptions=True)
        await wait_all_tasks_blocked()
        assert len(begun) == 3
        assert len([error async for error in results]) == 10


async def test_a_killed_row_gives_back_its_place(autojump_clock):
    async def work(x):
        await trio.sleep(1 if x else 100)
        return x

    async with Pool() as pool:
        results = pool.imap(work, range(6), maxsize=2)
        await trio.sleep(5)
        (task,) = pool
        await pool.killone(task)
        with pytest.raises(TaskKilled):
            await anext(results)
        assert [x async for x in results] == [1, 2, 3, 4, 5]


@streams
async def test_maxsize_none_is_unbounded(method, autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)
        return x

    async with Pool(2) as pool:
        results = start(pool, method, work, range(5_000), maxsize=None)
        await wait_all_tasks_blocked()
        assert len(begun) == 5_000
        assert sorted([x async for x in results]) == list(range(5_000))


@streams
@pytest.mark.parametrize(
    ("maxsize", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("3", TypeError), (True, TypeError)],
)
async def test_what_is_no_maxsize_is_an_error(method, maxsize, error, balanced):
    async def give(x):
        return x

    async with Pool(2) as pool:
        with pytest.raises(error, match="maxsize"):
            start(pool, method, give, [1], maxsize=maxsize)
        balanced(pool)
        assert [x async for x in start(pool, method, give, [1], maxsize=1)] == [1]


@pytest.mark.parametrize("method", ["imap", "starmap"])
@pytest.mark.parametrize("size", [1, 4])
async def test_the_iterators_of_a_green_pool_are_bounded_by_its_size(method, size, autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)
        return x

    async with GreenPool(size) as pool:
        results = start(pool, method, work, range(50))
        await wait_all_tasks_blocked()
        assert len(begun) == size
        assert [x async for x in results] == list(range(50))
        results = start(pool, method, work, range(50), maxsize=9)
        begun.clear()
        await wait_all_tasks_blocked()
        assert len(begun) == 9
        await results.aclose()


async def test_unread_iterators_of_a_pool_are_bounded_each(autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)

    async with Pool(2) as pool:
        many = [pool.imap(work, range(100), maxsize=3) for _ in range(5)]
        await wait_all_tasks_blocked()
        assert len(begun) == 15
        for results in many:
            await results.aclose()


@streams
async def test_an_iterator_that_was_full_goes_on_when_half_of_it_is_read(method):
    begun = []

    async def work(x):
        begun.append(x)

    async with Pool() as pool:
        results = start(pool, method, work, range(50), maxsize=10)
        await wait_all_tasks_blocked()
        for _ in range(2):
            full = len(begun)
            for _ in range(4):
                await anext(results)
                await wait_all_tasks_blocked()
                assert len(begun) == full
            await anext(results)
            await wait_all_tasks_blocked()
            assert len(begun) == full + 5
        await results.aclose()


async def test_of_what_an_iterator_is_full_of_only_what_is_unread_holds_it_up(autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)
        if x in (0, 1):
            await trio.sleep_forever()
        return x

    async with Pool() as pool:
        results = pool.imap_unordered(work, range(50), maxsize=4)
        await wait_all_tasks_blocked()
        assert sorted(begun) == [0, 1, 2, 3]
        await anext(results)
        await wait_all_tasks_blocked()
        assert sorted(begun) == [0, 1, 2, 3, 4]
        await results.aclose()


# References


class Watched:
    """Makes things, and knows which of them still live."""

    def __init__(self):
        self.refs = []

    def make(self):
        thing = Thing()
        self.refs.append(weakref.ref(thing))
        return thing

    def make_many(self, n):
        for _ in range(n):
            yield self.make()

    def living(self):
        return sum(ref() is not None for ref in self.refs)


@pytest.mark.parametrize("reuse", [True, False])
async def test_a_pool_keeps_no_reference_to_a_finished_call(reuse, no_gc):
    watched = Watched()

    async def work(thing, keyword):
        await trio.lowlevel.checkpoint()
        return watched.make()

    async with Pool(2, reuse_tasks=reuse) as pool:
        for _ in range(3):
            await (await pool.spawn(work, watched.make(), keyword=watched.make()))
            await pool.apply(work, (watched.make(),), {"keyword": watched.make()})
            pool.apply_async(work, (watched.make(), watched.make()), {}, lambda result: None)
            pool.spawn_nowait(work, watched.make(), keyword=watched.make())
            pool.apply_async(work, (watched.make(), watched.make()))
            await pool.join()
            await wait_all_tasks_blocked()
        assert len(watched.refs) == 45
        assert watched.living() == 0


async def test_a_pool_keeps_no_reference_to_a_finished_task_or_its_function(no_gc):
    async with Pool(2) as pool:

        async def work():
            await trio.lowlevel.checkpoint()

        refs = [weakref.ref(await pool.spawn(work)), weakref.ref(work)]
        del work
        await pool.join()
        await wait_all_tasks_blocked()
        assert [ref() for ref in refs] == [None, None]


async def test_a_task_that_is_over_keeps_its_result_and_nothing_else(no_gc):
    watched = Watched()

    async def work(thing):
        return watched.make()

    async with Pool(2) as pool:
        task = await pool.spawn(work, watched.make())
        await task.join()
        assert [ref() for ref in watched.refs] == [None, task.value]
        assert (task.func, task.args, task.kwargs) == (None, (), {})


@pytest.mark.parametrize("end", ["fail", "kill", "cancel"])
async def test_a_pool_keeps_no_reference_to_a_call_that_did_not_succeed(end, no_gc):
    watched = Watched()

    async def work(thing):
        if end == "fail":
            raise ValueError
        await trio.sleep_forever()

    async with Pool(2) as pool:
        task = await pool.spawn(work, watched.make())
        await wait_all_tasks_blocked()
        if end == "kill":
            await task.kill()
        elif end == "cancel":
            pool.cancel_scope.cancel()
        else:
            with pytest.raises(ValueError):
                await task
        del task
        if end != "cancel":
            await wait_all_tasks_blocked()
            assert watched.living() == 0
    assert watched.living() == 0


@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("reuse", [True, False])
async def test_a_map_keeps_no_reference_to_the_arguments_of_finished_rows(size, reuse, no_gc):
    watched = Watched()
    most = 0

    async def work(thing):
        nonlocal most
        await trio.lowlevel.checkpoint()
        most = max(most, watched.living())

    async with Pool(size, reuse_tasks=reuse) as pool:
        await pool.map(work, watched.make_many(100))
        assert watched.living() == 0
        assert most <= (size or 100) + 1
        await pool.map(work, [watched.make()])
        await wait_all_tasks_blocked()
        assert watched.living() == 0


async def test_a_map_that_failed_or_was_killed_is_forgotten(no_gc):
    watched = Watched()

    async def fail(thing):
        await trio.lowlevel.checkpoint()
        raise ValueError

    async def wait(thing):
        await trio.sleep_forever()

    async with Pool(2) as pool:
        with pytest.raises(ValueError):
            await pool.map(fail, watched.make_many(10))
        await wait_all_tasks_blocked()
        assert watched.living() == 0
        with trio.move_on_after(0):
            await pool.map(wait, watched.make_many(10))
        await wait_all_tasks_blocked()
        assert watched.living() == 0


@pytest.mark.parametrize("way", ["map", "imap", "imap_unordered"])
async def test_a_pool_keeps_no_reference_to_results_that_were_read(way, no_gc):
    watched = Watched()
    most = 0

    async def work(x):
        await trio.lowlevel.checkpoint()
        return watched.make()

    async with Pool(2) as pool:
        if way == "map":
            results = await pool.map(work, range(10))
            assert watched.living() == 10
            del results
        else:
            async for _ in getattr(pool, way)(work, range(100), maxsize=3):
                most = max(most, watched.living())
                del _
            assert 0 < most <= 4
        await wait_all_tasks_blocked()
        assert watched.living() == 0
        assert len(watched.refs) >= 10


async def test_results_that_nobody_read_go_with_their_iterator(no_gc):
    watched = Watched()

    async def work(x):
        return watched.make()

    async with Pool(2) as pool:
        results = pool.imap(work, range(10))
        await anext(results)
        await wait_all_tasks_blocked()
        assert watched.living() == 9
        await results.aclose()
        assert watched.living() == 0


async def test_an_error_that_was_read_is_forgotten_with_its_frames(no_gc):
    watched = Watched()

    class Oops(Exception):
        pass

    async def fail(thing):
        await trio.lowlevel.checkpoint()
        error = Oops()
        watched.refs.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async with Pool(2) as pool:
        for ask in (
            lambda: pool.map(fail, [watched.make()]),
            lambda: pool.apply(fail, (watched.make(),)),
            lambda: anext(pool.imap(fail, [watched.make()])),
            lambda: anext(pool.imap_unordered(fail, watched.make_many(1))),
            lambda: pool.map_async(fail, [watched.make()]).get(),
        ):
            with pytest.raises(Oops):
                await ask()
            await wait_all_tasks_blocked()
        assert len(watched.refs) == 10
        assert watched.living() == 0


async def test_an_unobserved_error_is_kept_until_somebody_looks(no_gc):
    watched = Watched()

    async def fail():
        error = ValueError()
        error.thing = watched.make()
        try:
            raise error
        finally:
            del error

    async with Pool(2) as pool:
        await pool.spawn(fail)
        await wait_all_tasks_blocked()
        assert watched.living() == 1
        with pytest.raises(ExceptionGroup):
            await pool.join(raise_error=True)
        assert watched.living() == 0


async def test_a_row_that_somebody_looked_at_is_forgotten_too(no_gc):
    watched = Watched()

    async def work(thing):
        await trio.lowlevel.checkpoint()

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, work, watched.make_many(10))
        while not watched.refs or watched.living():
            for task in pool:
                watched.refs.append(weakref.ref(task))
                del task
            await trio.lowlevel.checkpoint()
    assert watched.living() == 0
    assert len(watched.refs) > 10


async def test_maps_and_iterators_that_are_over_are_no_longer_in_the_pool(no_gc):
    async def give(x):
        return x

    async with Pool(2) as pool:
        await pool.map(give, range(3))
        assert [x async for x in pool.imap(give, range(3))] == [0, 1, 2]
        results = pool.imap_unordered(give, range(3))
        await anext(results)
        await results.aclose()
        refs = [weakref.ref(results), weakref.ref(results._stream)]
        del results
        await wait_all_tasks_blocked()
        assert [ref() for ref in refs] == [None, None]
        assert not pool._series


async def test_a_pool_that_is_left_goes_away_without_the_collector(no_gc):
    async def give(x):
        return x

    async with Pool(2) as pool:
        await pool.map(give, range(3))
        await (await pool.spawn(give, 1))
    ref = weakref.ref(pool)
    del pool
    await wait_all_tasks_blocked()
    gc.collect()
    assert ref() is None


async def test_a_pool_on_a_limiter_of_the_users_leaves_nothing_behind_when_both_are_gone():
    def ours():
        gc.collect()
        return [x for x in gc.get_objects() if str(type(x).__module__).startswith("triopool.")]

    async def use(*limiters):
        for limiter in limiters:
            async with Pool(limiter) as pool, Pool(limiter) as other:
                await (await pool.spawn(trio.lowlevel.checkpoint))
                await (await other.spawn(trio.lowlevel.checkpoint))

    await use(trio.CapacityLimiter(1))
    before = len(ours())
    await use(*(trio.CapacityLimiter(1) for _ in range(5)))
    assert len(ours()) <= before


async def test_idle_workers_do_not_pile_up():
    async def work():
        await trio.lowlevel.checkpoint()

    async with Group() as group:
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(5_000):
            group.spawn_nowait(work)
        await group.join()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living - before <= 256


async def test_a_worker_that_finds_the_end_of_the_input_tells_a_feeder_that_has_no_room():
    go = trio.Event()

    async def first_waits(x):
        if x == 0:
            await go.wait()
        return x

    async with Pool(2) as pool:
        results = pool.imap_unordered(first_waits, range(6), maxsize=6)
        await wait_all_tasks_blocked()
        assert await anext(results) == 1
        go.set()
        await wait_all_tasks_blocked()
        assert sorted([x async for x in results]) == [0, 2, 3, 4, 5]


async def test_a_call_that_was_cancelled_from_outside_is_in_no_cycle(no_gc):
    refs = []

    async def call():
        thing = Thing()
        refs.append(weakref.ref(thing))
        await trio.sleep_forever()

    async with Pool() as pool:
        await pool.spawn(call)
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
    assert [ref() for ref in refs] == [None]
