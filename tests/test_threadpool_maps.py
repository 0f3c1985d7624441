"""Maps and iterators in a ThreadPool: rules 5, 6 and 8 to 13, with real threads."""

import contextlib
import gc
import itertools
import sys
import threading
import time
import warnings
import weakref

import pytest
import trio
from gates import Gate
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from triopool import (
    PoolDeadlock,
    Task,
    TaskKilled,
    TaskStatus,
    ThreadPool,
    _remote_rows,
    _thread_rows,
    current_task,
)

RUNNING, WAITING, KILLED = TaskStatus.RUNNING, TaskStatus.WAITING, TaskStatus.KILLED


class Oops(Exception):
    pass


def double(x):
    return 2 * x


def fail_if_odd(x):
    if x % 2:
        raise Oops(x)
    return x


async def in_turn(values):
    for value in values:
        await trio.lowlevel.checkpoint()
        yield value


# The same rows from what threads may pull themselves, from what runs code of the user's, and from
# what is awaited.
SOURCES = {
    "list": list,
    "generator": lambda values: (value for value in values),
    "async": in_turn,
}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
either_mode = pytest.mark.parametrize("abandons", [False, True], ids=["waits", "abandons"])
KINDS = ("map", "imap", "imap_unordered", "starmap")


async def results_of(pool, how, func, rows, **kwargs):
    """All results of a map, or of an iterator."""
    if how == "map":
        return await pool.map(func, rows, **kwargs)
    if how == "starmap":
        rows = starred(rows)
    return [x async for x in getattr(pool, how)(func, rows, **kwargs)]


def starred(rows):
    if hasattr(rows, "__aiter__"):

        async def in_tuples():
            async with contextlib.aclosing(rows):
                async for x in rows:
                    yield (x,)

        return in_tuples()
    return [(x,) for x in rows] if isinstance(rows, list) else ((x,) for x in rows)


# Order and input


@every_source
@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("size", [1, 4])
async def test_the_results_are_those_of_all_rows_in_order(how, source, size, balanced):
    async with ThreadPool(size) as pool:
        results = await results_of(pool, how, double, source(range(300)))
        if how == "imap_unordered":
            results.sort()
        assert results == [2 * x for x in range(300)]
        assert await results_of(pool, how, double, source([])) == []
        assert await results_of(pool, how, double, source([1])) == [2]
        balanced(pool)


@every_source
async def test_imap_is_in_input_order_and_imap_unordered_in_that_of_completion(source):
    async with ThreadPool(2) as pool, Gate() as gate:
        results = pool.imap_unordered(gate.hold, source(range(4)))
        await gate.until(2)
        slow = gate.begun[0]
        gate.open(*{0, 1, 2, 3} - {slow})
        assert sorted([await anext(results) for _ in range(3)]) == sorted({0, 1, 2, 3} - {slow})
        gate.open()
        assert [x async for x in results] == [slow]
    async with ThreadPool(2) as pool, Gate() as gate:
        results = pool.imap(gate.hold, source(range(4)))
        gate.open(1, 2, 3)
        await gate.until(4)
        gate.open()
        assert [x async for x in results] == [0, 1, 2, 3]


async def test_several_iterables_are_pulled_in_step_until_the_shortest_ends():
    def add(*numbers):
        return sum(numbers)

    async with ThreadPool(3) as pool:
        assert await pool.map(add, [1, 2, 3], (10, 20)) == [11, 22]
        assert await pool.map(add, (x for x in (1, 2)), in_turn([10, 20, 30]), [100, 200]) == [
            111,
            222,
        ]
        results = pool.imap(add, range(5), in_turn(range(5)))
        assert [x async for x in results] == [0, 2, 4, 6, 8]


async def test_starmap_takes_argument_tuples():
    async with ThreadPool(2) as pool:
        results = pool.starmap(pow, [(2, 3), (3, 2), [2, 10]], 2)
        assert [x async for x in results] == [8, 9, 1024]


async def test_map_cb_and_map_async_call_back_with_the_list():
    seen = []

    async def note(values):
        await trio.lowlevel.checkpoint()
        seen.append(values)

    async with ThreadPool(2) as pool:
        assert await pool.map_cb(double, [1, 2], seen.append) == [2, 4]
        assert await pool.map_cb(double, [1, 2], note) == [2, 4]
        task = pool.map_async(double, [3, 4], seen.append)
        assert await task == [6, 8]
        task = pool.map_async(double, in_turn([5]), note)
        await pool.join()
        assert task.value == [10]
        task = pool.map_async(fail_if_odd, [1], seen.append)
        with pytest.raises(Oops):
            await task
    assert seen == [[2, 4], [2, 4], [6, 8], [10]]


async def test_functions_are_called_in_threads_and_iterables_in_trio():
    here = threading.get_ident()
    pulled_in = []

    def rows():
        for x in range(20):
            pulled_in.append(threading.get_ident())
            yield x

    async with ThreadPool(2) as pool:
        made_in = await pool.map(lambda _: threading.get_ident(), rows())
        assert len(await pool.map(lambda _: threading.get_ident(), range(20))) == 20
    assert here not in made_in
    assert set(pulled_in) == {here}


# Rule 8: input is pulled lazily


async def test_slow_calls_have_at_most_one_row_pulled_ahead_of_them():
    begun = []  # this is a list, as its length may be seen in another thread
    farthest = 0

    def rows():
        nonlocal farthest
        for x in range(30):
            farthest = max(farthest, x - len(begun))
            yield x

    def run(x):
        begun.append(x)
        time.sleep(0.005)  # which is what makes it slow

    async with ThreadPool(1) as pool:
        await pool.map(run, rows())
    # The row before may have left the queue and not got to its first line.
    assert farthest <= 1 + 1


async def test_quick_calls_have_at_most_64_rows_pulled_ahead_of_them():
    ended = []  # this is a list, as its length may be seen in another thread
    farthest = 0

    def rows():
        nonlocal farthest
        for x in range(3_000):
            farthest = max(farthest, x - len(ended))
            yield x

    async with ThreadPool(2) as pool:
        await pool.map(ended.append, rows())
    assert len(ended) == 3_000
    assert farthest <= 64 + 2


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_the_error_of_an_iterable_comes_after_the_results_before_it(is_async, balanced):
    def rows():
        yield from range(3)
        raise Oops

    def given():
        return in_turn(rows()) if is_async else rows()

    async with ThreadPool(2) as pool:
        with pytest.raises(Oops):
            await pool.map(double, given())
        for results in (
            pool.imap(double, given()),
            pool.imap_unordered(double, given()),
            pool.starmap(double, starred(given())),
        ):
            assert sorted([await anext(results) for _ in range(3)]) == [0, 2, 4]
            with pytest.raises(Oops):
                await anext(results)
            with pytest.raises(StopAsyncIteration):
                await anext(results)
        await pool.join()
        balanced(pool)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_sys_exit_in_an_iterable_takes_the_pool_down(is_async):
    def rows():
        yield 1
        sys.exit(3)

    with pytest.raises(SystemExit):
        async with ThreadPool(1) as pool:
            results = pool.imap(double, in_turn(rows()) if is_async else rows())
            async for _ in results:
                pass
            await trio.sleep_forever()


async def test_an_iterable_that_cancels_itself_is_an_error():
    async def rows():
        yield 1
        with trio.CancelScope() as scope:
            scope.cancel()
            yield 2

    async with ThreadPool(1) as pool:
        results = pool.imap(double, rows())
        with pytest.raises(RuntimeError, match="cancelled by a scope of its own"):
            async for _ in results:
                pass


async def test_the_error_of_a_builtin_iterable_that_threads_pull_is_the_readers(balanced):
    async with ThreadPool(2) as pool:
        rows = dict.fromkeys(range(10))

        def grow(x):
            rows[f"new {x}"] = None
            return x

        with pytest.raises(RuntimeError, match="changed size"):
            await pool.map(grow, rows)
        rows = dict.fromkeys(range(10))
        results = pool.imap(grow, rows)
        with pytest.raises(RuntimeError, match="changed size"):
            async for _ in results:
                pass
        await pool.join()
        balanced(pool)


async def test_a_generator_is_closed_in_trio_when_its_map_ends_early():
    closed = []

    def rows():
        try:
            yield from range(100)
        finally:
            closed.append(threading.get_ident())

    async def async_rows():
        try:
            for x in range(100):
                yield x
        finally:
            closed.append(threading.get_ident())

    async with ThreadPool(2) as pool:
        for given in (rows(), async_rows()):
            with pytest.raises(Oops):
                await pool.map(fail_if_odd, given)
            async with pool.imap(double, rows()) as results:
                assert await anext(results) == 0
    assert closed == [threading.get_ident()] * 4


async def test_no_slot_is_held_while_input_is_awaited(balanced):
    async def rows():
        for x in range(3):
            await go[x].wait()
            yield x

    go = [trio.Event() for _ in range(3)]
    async with ThreadPool(1) as pool:
        results = pool.imap(double, rows())
        for x in range(3):
            await wait_all_tasks_blocked()
            balanced(pool)
            assert await pool.apply(double, (10,)) == 20
            go[x].set()
            assert await anext(results) == 2 * x
        assert [x async for x in results] == []


async def test_an_unlimited_pool_pulls_a_bounded_number_of_rows_at_once():
    pulled = []

    def rows():
        for x in range(400):
            pulled.append(x)
            yield x

    async with ThreadPool(trio.CapacityLimiter(200)) as pool:
        results = pool.imap(double, rows())
        while not pulled:
            await trio.lowlevel.checkpoint()
        assert len(pulled) <= 2 * (64 + 2)  # in this pass of the loop, and maybe in the one before
        assert len([x async for x in results]) == 400


# Rule 9: memory


@every_source
@pytest.mark.parametrize("how", ["imap", "imap_unordered", "starmap"])
async def test_calls_running_plus_results_unread_never_exceed_maxsize(how, source):
    lock = threading.Lock()
    begun = read = most = 0

    def run(x):
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun - read)
        return x

    async with ThreadPool(4) as pool:
        rows = source(range(400))
        results = getattr(pool, how)(run, starred(rows) if how == "starmap" else rows, maxsize=5)
        async for _ in results:
            with lock:
                read += 1
    assert (begun, read) == (400, 400)
    # A result that is handed to a reader who waits for it is read before that one says so.
    assert most <= 5 + 1


async def test_while_calls_are_slow_at_most_one_row_is_pulled_ahead(monkeypatch):
    for module in (_remote_rows, _thread_rows):
        monkeypatch.setattr(module, "QUICK", 0)  # however quick they are
    pulled = []

    def rows():
        for x in range(9):
            pulled.append(x)
            yield x

    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.hold, rows())
        for x in range(6):
            await gate.until(x + 1)
            await wait_all_tasks_blocked()
            assert len(pulled) <= x + 2
            gate.open(x)
        gate.open()
        assert [x async for x in results] == list(range(9))


async def test_an_input_that_is_being_closed_is_not_cancelled_when_the_last_row_is_over():
    closing, release = trio.Event(), trio.Event()
    closed = []

    async def rows():
        try:
            while True:
                yield 0
        finally:
            closing.set()
            with trio.CancelScope(shield=True):
                await release.wait()
            await trio.lowlevel.checkpoint()
            closed.append("in peace")

    def hold(x, _):
        return gate.hold(x)

    async with ThreadPool(2) as pool, Gate() as gate:
        results = pool.imap(hold, [1, 2], rows())
        await gate.until(2)
        gate.open(1)
        await closing.wait()
        gate.open()
        assert [await anext(results), await anext(results)] == [1, 2]
        release.set()
        with pytest.raises(StopAsyncIteration):
            await anext(results)
    assert closed == ["in peace"]


@every_source
async def test_of_what_an_iterator_is_full_of_only_what_is_unread_holds_it_up(source):
    def run(x):
        return x if x in (2, 3) else gate.hold(x)

    async with ThreadPool(4) as pool, Gate() as gate:
        results = pool.imap_unordered(run, source(range(50)), maxsize=4)
        await gate.until(2)
        while results._stream.feeder.stalled is None or results._stream.ready < 2:
            await trio.lowlevel.checkpoint()
        assert await anext(results) in (2, 3)
        await gate.until(3)
        assert sorted(gate.begun) == [0, 1, 4]
        gate.open()
        await results.aclose()


@every_source
async def test_with_maxsize_no_more_rows_begin_than_are_wanted(source):
    async with ThreadPool(4) as pool, Gate() as gate:
        results = pool.imap(gate.hold, source(range(20)), maxsize=2)
        await gate.until(2)
        await wait_all_tasks_blocked()
        gate.open()
        # Both have ended, and nobody reads.
        assert await pool.join()
        assert sorted(gate.begun) == [0, 1]
        assert await anext(results) == 0
        assert [x async for x in results] == list(range(1, 20))


async def test_the_bound_holds_for_rows_that_are_pulled_ahead():
    pulled = []
    read = most = 0

    def rows():
        nonlocal most
        for x in range(2_000):
            pulled.append(x)
            most = max(most, len(pulled) - read)
            yield x

    async with ThreadPool(2) as pool:
        async for _ in pool.imap(double, rows(), maxsize=10):
            read += 1
    assert len(pulled) == 2_000
    assert most <= 10 + 1


class Thing:
    """Something to refer to weakly."""


@every_source
@pytest.mark.parametrize("how", KINDS)
async def test_rows_and_results_are_let_go_as_soon_as_they_are_read(how, source, no_gc):
    refs = []

    def make(_):
        thing = Thing()
        refs.append(weakref.ref(thing))
        return thing

    arguments = [Thing() for _ in range(5)]
    refs += map(weakref.ref, arguments)
    async with ThreadPool(2) as pool:
        rows = source(arguments)
        del arguments
        results = await results_of(pool, how, make, rows)
        rows = None
        assert len(results) == 5
        del results
        await pool.join()
        # A thread may be on its way from the end of a call to its next wait.
        for _ in range(1000):
            if not any(ref() for ref in refs):
                break
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)
        assert [ref() for ref in refs] == [None] * 10


async def test_an_error_of_a_row_keeps_nothing_alive_but_what_its_call_had(no_gc):
    class Unbroken(Exception):
        pass

    def fail(thing):
        raise Unbroken

    async with ThreadPool(1) as pool:
        thing = Thing()
        ref = weakref.ref(thing)
        with pytest.raises(Unbroken):
            await pool.map(fail, [thing])
        del thing
        await pool.join()
        for _ in range(1000):
            if not ref():
                break
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)
        assert ref() is None


# Who runs what


async def test_one_slow_call_does_not_hold_up_the_quick_ones_behind_it():
    for source in SOURCES.values():
        async with ThreadPool(2) as pool, Gate() as gate:

            def run(x, gate=gate):
                return gate.hold(x) if x == "slow" else x

            results = pool.imap_unordered(run, source(["slow", *range(200)]))
            quick = [await anext(results) for _ in range(200)]
            assert quick == list(range(200))
            gate.open()
            assert [x async for x in results] == ["slow"]


async def test_a_slow_call_after_quick_ones_does_not_hold_up_those_behind_it():
    for source in SOURCES.values():
        async with ThreadPool(2) as pool, Gate() as gate:

            def run(x, gate=gate):
                return gate.hold(x) if x == "slow" else x

            rows = [*range(500), "slow", *range(500, 1000)]
            results = pool.imap_unordered(run, source(rows))
            quick = [await anext(results) for _ in range(1000)]
            assert sorted(quick) == list(range(1000))
            gate.open()
            assert [x async for x in results] == ["slow"]


@every_source
async def test_a_long_map_that_others_wait_behind_gives_its_slot_back_after_the_current_call(
    source,
):
    async with ThreadPool(1) as pool, Gate() as gate, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, gate.hold, source(range(5)))
        await gate.until(1)
        queued = pool.apply_async(gate.hold, ("queued",))
        await wait_all_tasks_blocked()
        nursery.start_soon(pool.spawn, gate.hold, "spawned")
        await wait_all_tasks_blocked()
        gate.open()
        await queued
        await pool.join()
        order = gate.begun
    # The map stood in line with its second row before the others came.
    assert order == [0, 1, "queued", "spawned", 2, 3, 4]


@every_source
async def test_a_long_map_of_quick_calls_does_not_starve_a_spawn(source):
    done = []

    def endless():
        n = 0
        while not done:
            yield n
            n += 1

    async with ThreadPool(2) as pool:
        rows = itertools.count() if source is list else source(endless())
        results = pool.imap_unordered(double, rows, maxsize=1000)
        async with trio.open_nursery() as nursery:

            async def read():
                async for _ in results:
                    pass

            nursery.start_soon(read)
            for x in range(30):
                task = await pool.spawn(double, x)
                assert await task == 2 * x
                assert await pool.apply(double, (x,)) == 2 * x
            done.append(True)
            nursery.cancel_scope.cancel()
        await results.aclose()


@every_source
async def test_many_spawns_do_not_starve_a_map(source):
    done = []
    spawned = 0

    async def spawn():
        nonlocal spawned
        while not done and spawned < 300:
            await pool.spawn(double, 1)
            spawned += 1

    async with ThreadPool(1) as pool, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(spawn)
        assert await pool.map(double, source(range(5))) == [0, 2, 4, 6, 8]
        done.append(True)
    assert spawned < 100


async def test_a_map_gives_way_to_another_pool_and_to_others_who_share_its_limiter():
    limiter = trio.CapacityLimiter(1)
    async with (
        ThreadPool(limiter) as one,
        ThreadPool(limiter) as other,
        Gate() as gate,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(one.map, gate.hold, range(3))
        await gate.until(1)
        nursery.start_soon(other.map, gate.hold, ["other"])
        await wait_all_tasks_blocked()

        async def use_it():
            async with limiter:
                gate.begun.append("without a pool")

        nursery.start_soon(use_it)
        await wait_all_tasks_blocked()
        gate.open()
        await gate.until(5)
        assert gate.begun == [0, 1, "other", "without a pool", 2]


async def test_a_map_goes_on_with_fewer_threads_when_its_pool_shrinks():
    async with ThreadPool(3) as pool, Gate() as gate, trio.open_nursery() as nursery:
        nursery.start_soon(pool.map, gate.hold, range(6))
        await gate.until(3)
        pool.maxsize = 1
        gate.open(*gate.begun)
        await gate.until(4)
        await wait_all_tasks_blocked()
        assert len(gate.begun) == 4
        assert pool.limiter.borrowed_tokens == 1
        gate.open()


async def test_two_iterators_advance_side_by_side_in_one_slot():
    async with ThreadPool(1) as pool:
        one, other = pool.imap(double, range(10)), pool.imap(double, (x for x in range(10)))
        for x in range(10):
            assert (await anext(one), await anext(other)) == (2 * x, 2 * x)
        assert [x async for x in one] == [x async for x in other] == []


async def test_a_discarded_row_frees_its_slot_and_its_thread_takes_no_other_row(balanced):
    running = most = 0
    lock = threading.Lock()

    def run(x):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            if x is not None:
                gate.hold(x)
        finally:
            with lock:
                running -= 1
        return x

    for source in (list, SOURCES["generator"]):
        async with ThreadPool(1) as pool, Gate() as gate:
            results = pool.imap(run, source(range(6)))
            await gate.until(1)
            (row,) = [task for task in pool if task.status is RUNNING]
            pool.discard(row)
            # Its slot may be the next row's already, which begins beside it.
            await gate.until(2)
            most = 0
            gate.open(0)
            assert await anext(results) == 0
            for x in range(1, 6):
                await gate.until(x + 1)
                await wait_all_tasks_blocked()
                assert gate.begun == list(range(x + 1))
                gate.open(x)
                assert await anext(results) == x
            assert [x async for x in results] == []
            await pool.join()
            balanced(pool)
        assert most == 1


async def test_a_discarded_row_is_no_longer_in_the_pool():
    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.hold, [1])
        await gate.until(1)
        (row,) = pool
        pool.discard(row)
        assert row not in pool
        assert (len(pool), list(pool)) == (0, [])
        await wait_all_tasks_blocked()  # for the feeder has got the slot first, in vain
        assert pool.free_count() == 1
        gate.open()
        assert [x async for x in results] == [1]


# Errors of rows


@every_source
async def test_the_first_error_of_a_map_cancels_the_rest_and_is_raised_bare(source, balanced):
    cancelled = []

    def run(x):
        gate.hold(x)
        if x == 1:
            raise Oops(x)
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            cancelled.append(x)
            raise
        return x

    async with ThreadPool(3) as pool, Gate() as gate, trio.open_nursery() as nursery:

        async def map_all():
            with pytest.raises(Oops) as info:
                await pool.map(run, source(range(20)))
            assert info.value.args == (1,)

        nursery.start_soon(map_all)
        await gate.until(3)
        tasks = sorted(pool, key=lambda task: task.args)[:3]
        gate.open(1)
        await tasks[1].join()
        # What runs is waited for, and sees that it is cancelled.
        await wait_all_tasks_blocked()
        gate.open()
        await pool.join()
        assert sorted(gate.begun) == [0, 1, 2]
        assert [task.status for task in tasks] == [KILLED, TaskStatus.FAILED, KILLED]
        balanced(pool)
    assert sorted(cancelled) == [0, 2]


async def test_after_an_error_of_a_map_no_row_begins_that_was_pulled_ahead():
    for _ in range(30):
        begun = []

        def run(x, begun=begun):
            begun.append(x)
            if x == 20:
                raise Oops

        async with ThreadPool(1) as pool:
            with pytest.raises(Oops):
                await pool.map(run, (x for x in range(1000)))
            with pytest.raises(Oops):
                await pool.map(run, range(1000))
        assert begun == [*range(21), *range(21)]


@pytest.mark.parametrize("source", [list, SOURCES["generator"]], ids=["list", "generator"])
async def test_on_a_tie_the_error_that_is_first_in_the_input_is_raised_with_notes_of_others(source):
    barrier = threading.Barrier(3)

    def run(x):
        barrier.wait()
        raise Oops(x)

    async with ThreadPool(3) as pool:
        # The loop looks at nothing until all three have failed.
        task = pool.map_async(run, source([0, 1, 2]))
        with pytest.raises(Oops) as info:
            await task
    notes = getattr(info.value, "__notes__", [])
    others = {repr(Oops(x)) for x in range(3) if x != info.value.args[0]}
    assert {note.rpartition(": ")[2] for note in notes} <= others


@every_source
async def test_with_return_exceptions_errors_come_as_values(source, balanced):
    async with ThreadPool(2) as pool:
        for how in KINDS:
            values = await results_of(
                pool, how, fail_if_odd, source(range(20)), return_exceptions=True
            )
            if how != "imap_unordered":
                assert [type(x) for x in values] == [int, Oops] * 10
            assert sorted(x.args[0] if isinstance(x, Oops) else x for x in values) == [*range(20)]
        balanced(pool)


@every_source
async def test_a_failing_row_of_an_iterator_raises_at_its_place_and_iteration_goes_on(source):
    async with ThreadPool(2) as pool:
        results = pool.imap(fail_if_odd, source(range(6)))
        seen = []
        while True:
            try:
                seen.append(await anext(results))
            except Oops as error:
                seen.append(error.args)
            except StopAsyncIteration:
                break
        assert seen == [0, (1,), 2, (3,), 4, (5,)]


@every_source
async def test_a_row_that_failed_unread_is_reported_when_the_block_is_left(source):
    with pytest.raises(ExceptionGroup, match="1 unobserved error") as info:
        async with ThreadPool(1) as pool:
            results = pool.imap(fail_if_odd, source([0, 1, 2]))
            assert await anext(results) == 0
            assert await pool.join()
    assert [error.args for error in info.value.exceptions] == [(1,)]


async def test_stop_iteration_of_a_row_ends_no_iterator():
    async with ThreadPool(1) as pool:
        for error in (StopIteration, StopAsyncIteration):

            def run(x, error=error):
                if x:
                    raise error
                return x

            results = pool.imap(run, [0, 1, 0])
            assert await anext(results) == 0
            with pytest.raises(RuntimeError):
                await anext(results)
            assert await anext(results) == 0


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_sys_exit_in_a_row_takes_the_pool_down(how, return_exceptions):
    def run(x):
        if x == 2:
            sys.exit(3)
        return x

    with pytest.raises(SystemExit) as info:
        async with ThreadPool(2) as pool:
            await results_of(pool, how, run, [0, 1, 2, 3], return_exceptions=return_exceptions)
            await trio.sleep_forever()
    assert info.value.code == 3


async def test_a_link_of_a_row_that_raises_system_exit_takes_the_pool_down():
    with pytest.raises(SystemExit):
        async with ThreadPool(1) as pool, Gate() as gate:
            results = pool.imap(gate.hold, [1])
            await gate.until(1)
            (task,) = pool
            task.link(lambda _: sys.exit(3))
            gate.open()
            async for _ in results:
                pass
            await trio.sleep_forever()


# Rule 5: kill


async def ahead(pool, gate):
    """An iterator one of whose rows is held, while others wait behind it that were pulled ahead.

    Whether any are pulled ahead depends on how quickly calls come back; sooner or later some are.
    """
    while True:
        count = len(gate.begun)

        def run(x, held=f"held {count}"):
            return gate.ask(held) if x is None else x

        rows = itertools.chain(range(300), [None], range(300, 600))
        results = pool.imap(run, rows, maxsize=1000)
        await gate.until(count + 1)
        await wait_all_tasks_blocked()
        waiting = [task for task in pool if task.status is WAITING]
        if len(waiting) > 1:
            return results, waiting
        gate.open(f"held {count}")
        await results.aclose()


async def test_rows_pulled_ahead_are_waiting_and_have_not_started():
    async with ThreadPool(1) as pool, Gate() as gate:
        results, waiting = await ahead(pool, gate)
        running = [task for task in pool if task.status is RUNNING]
        assert [task.args for task in running] == [(None,)]
        assert len(pool) == len(waiting) + 1 <= 65
        assert [task.args[0] for task in waiting] == [*range(300, 300 + len(waiting))]
        assert not any(task.started for task in waiting)
        assert all(task in pool for task in waiting)
        assert list(pool) == [*running, *waiting]
        gate.open()
        assert await waiting[0] == 300
        assert waiting[0].started
        values = [x async for x in results]
        assert values[:300] + values[301:] == list(range(600))
        assert waiting[-1].successful()


@pytest.mark.parametrize("how", ["killone", "task.kill", "task.kill_nowait"])
async def test_a_row_pulled_ahead_that_is_killed_never_runs_and_raises_at_its_place(how, balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        results, waiting = await ahead(pool, gate)
        victim = waiting[1]
        if how == "killone":
            assert await pool.killone(victim, reason="too old") is True
        elif how == "task.kill":
            assert await victim.kill(reason="too old") is True
        else:
            victim.kill_nowait(reason="too old")
        assert victim.status is KILLED
        assert not victim.started
        assert victim not in pool
        gate.open()
        seen = []
        while True:
            try:
                seen.append(await anext(results))
            except TaskKilled as error:
                seen.append(str(error).rpartition(": ")[2])
            except StopAsyncIteration:
                break
        assert seen[:300] == list(range(300))
        assert seen[301:] == [300, "too old", *range(302, 600)]
        await pool.join()
        balanced(pool)


async def test_a_map_with_a_row_that_is_killed_raises_task_killed(balanced):
    for source in (list, SOURCES["generator"]):
        async with ThreadPool(2) as pool, Gate() as gate, trio.open_nursery() as nursery:

            async def map_all(source=source, gate=gate, pool=pool):
                with pytest.raises(TaskKilled, match="enough"):
                    await pool.map(gate.ask, source(range(5)))

            nursery.start_soon(map_all)
            await gate.until(2)
            task = min(pool, key=lambda task: task.args)
            task.kill_nowait(reason="enough")
            gate.open()
            await pool.join()
            assert task.status is KILLED
            balanced(pool)


async def test_a_killed_row_of_an_iterator_raises_at_its_place_and_others_go_on(balanced):
    for source in SOURCES.values():
        async with ThreadPool(1) as pool, Gate() as gate:
            results = pool.imap(gate.ask, source(range(4)))
            await gate.until(1)
            (task,) = [task for task in pool if task.status is RUNNING]
            assert await pool.killone(task, KeyError("x"), block=False) is False
            gate.open()
            with pytest.raises(KeyError):
                await anext(results)
            assert [x async for x in results] == [1, 2, 3]
            await pool.join()
            balanced(pool)


async def test_a_killed_row_that_returns_all_the_same_has_done_so():
    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.hold, range(3))
        await gate.until(1)
        (task,) = pool
        task.kill_nowait()
        gate.open()
        assert [x async for x in results] == [0, 1, 2]
        assert task.value == 0


async def test_a_row_that_is_killed_when_it_is_over_is_not_killed():
    async with ThreadPool(1) as pool:
        token = trio.lowlevel.current_trio_token()
        done = threading.Event()
        tasks = []

        def run(x):
            if x:
                done.set()
            else:
                tasks.append(current_task())
            return x

        async with trio.open_nursery() as nursery:
            results = pool.imap(run, [0, 1])
            while not tasks:
                await trio.lowlevel.checkpoint()
            done.wait()  # so that nothing is settled meanwhile
            tasks[0].kill_nowait()
            nursery.cancel_scope.cancel()
        assert [x async for x in results] == [0, 1]
        assert tasks[0].successful()
        assert token is trio.lowlevel.current_trio_token()


@every_source
async def test_a_kill_of_the_pool_ends_maps_and_iterators_and_the_pool_goes_on(source, balanced):
    outcomes = []

    async with ThreadPool(3) as pool, Gate() as gate, trio.open_nursery() as nursery:

        async def map_all():
            try:
                await pool.map(gate.ask, source(["map", "another"]))
            except TaskKilled as error:
                outcomes.append(str(error))

        results = pool.imap(gate.ask, source([0, 1, 2, 3]), maxsize=2)
        gate.open(0)
        await gate.until(2)
        nursery.start_soon(map_all)
        task = pool.map_async(gate.ask, source(["async"]))
        await gate.until(4)
        await wait_all_tasks_blocked()
        assert await pool.kill(reason="enough", block=False) is False
        gate.open()
        await pool.join()
        await wait_all_tasks_blocked()
        assert outcomes == ["gates.Gate.ask was killed: enough"]
        assert task.status is KILLED
        assert await anext(results) == 0
        for _ in range(2):
            with pytest.raises(TaskKilled, match="enough"):
                await anext(results)
        balanced(pool)
        assert await pool.map(double, source([1])) == [2]


async def test_a_kill_of_the_pool_takes_the_rows_that_were_pulled_ahead(balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        results, waiting = await ahead(pool, gate)
        assert await pool.kill(block=False) is False
        assert {task.status for task in waiting} == {KILLED}
        gate.open()
        assert await pool.join()
        assert [await anext(results) for _ in range(300)] == list(range(300))
        with pytest.raises(TaskKilled):
            await anext(results)
        balanced(pool)


async def test_kill_of_the_pool_bounds_its_wait_for_maps(autojump_clock):
    async with ThreadPool(1) as pool, Gate() as gate:
        task = pool.map_async(gate.ask, range(3))
        results = pool.imap(gate.ask, range(3))
        await gate.until(1)
        assert await pool.kill(timeout=5) is False
        assert trio.current_time() == 5
        gate.open()
        assert await pool.kill() is True
        assert task.status is KILLED
        with pytest.raises(TaskKilled):
            await anext(results)
        await results.aclose()
        await results.aclose()


async def test_a_map_async_with_a_row_that_is_killed_ends_killed():
    async with ThreadPool(1) as pool, Gate() as gate:
        task = pool.map_async(gate.ask, range(3))
        await gate.until(1)
        (row,) = [task for task in pool if task.status is RUNNING]
        row.kill_nowait(reason="enough")
        gate.open()
        with pytest.raises(TaskKilled, match="enough"):
            await task
        assert task.status is KILLED


async def test_nothing_is_in_a_pool_whose_iterator_waits_for_its_input():
    go = trio.Event()

    async def rows():
        await go.wait()
        yield 1

    async with ThreadPool(1) as pool:
        results = pool.imap(double, rows())
        await wait_all_tasks_blocked()
        assert (len(pool), list(pool)) == (0, [])
        go.set()
        assert [x async for x in results] == [2]


@pytest.mark.parametrize("what", ["kill", "discard"])
async def test_a_row_that_is_just_over_is_neither_killed_nor_discarded(what, balanced):
    tasks = []
    begun = threading.Event()

    def run(x):
        tasks.append(current_task())
        if x == 1:
            begun.set()
        return x

    async with ThreadPool(1) as pool:
        for _ in range(10):
            tasks.clear()
            begun.clear()
            results = pool.imap(run, range(3))
            while not tasks:
                await trio.lowlevel.checkpoint()
            begun.wait()  # of which the loop does not hear, nor of the end of the first one
            if what == "kill":
                tasks[0].kill_nowait()
            else:
                pool.discard(tasks[0])
            assert [x async for x in results] == [0, 1, 2]
            assert tasks[0].successful()
            await pool.join()
            balanced(pool)


async def test_a_pool_that_is_cancelled_at_any_moment_leaves_nothing_behind_but_what_runs(balanced):
    for passes in range(40):
        async with ThreadPool(4, abandon_on_cancel=True) as pool:
            results = pool.imap(double, (x for x in range(2_000)), maxsize=2_000)
            await pool.spawn(double, 1)
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            await pool.spawn(double, 1)
            pool.cancel_scope.cancel()
        with pytest.raises((TaskKilled, trio.ClosedResourceError)):
            while True:
                await anext(results)
        while pool.limiter.borrowed_tokens or pool.size:
            await trio.lowlevel.checkpoint()
        balanced(pool)


async def test_a_killed_map_async_ends_its_rows(balanced):
    async with ThreadPool(2) as pool, Gate() as gate:
        task = pool.map_async(gate.ask, range(5))
        await gate.until(2)
        task.kill_nowait(KeyError)
        gate.open()
        with pytest.raises(KeyError):
            await task
        await pool.join()
        assert sorted(gate.begun) == [0, 1]
        balanced(pool)


@every_source
async def test_a_cancelled_map_cancels_its_calls_and_waits_for_them(source, balanced):
    async with ThreadPool(2) as pool, Gate() as gate:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.map, gate.ask, source(range(5)))
                await gate.until(2)
                scope.cancel()
                trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
        assert scope.cancelled_caught
        assert (len(pool), sorted(gate.begun)) == (0, [0, 1])
        await pool.join()
        balanced(pool)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.map(gate.ask, source(["never"]))
        assert "never" not in gate.begun


async def open_when_all_is_blocked(gate):
    await wait_all_tasks_blocked()
    gate.open()


@every_source
async def test_a_map_from_a_pool_that_is_cancelled_ends_with_it(source):
    gate = Gate()
    async with ThreadPool(2) as pool:
        results = pool.imap(gate.ask, source(range(5)))
        await gate.until(2)
        pool.cancel_scope.cancel()
        gate.open()
    assert sorted(gate.begun) == [0, 1]
    assert pool.limiter.borrowed_tokens == 0
    with pytest.raises((trio.ClosedResourceError, TaskKilled)):
        while True:
            await anext(results)


@every_source
async def test_quick_rows_of_a_cancelled_pool_do_not_go_on(source):
    async def cancel():
        await trio.lowlevel.checkpoint()
        pool.cancel_scope.cancel()

    rows = itertools.count() if source is list else source(itertools.count())
    async with ThreadPool(2) as pool:
        trio.lowlevel.spawn_system_task(cancel)
        with trio.CancelScope(shield=True), pytest.raises(TaskKilled):
            await pool.map(double, rows)


# Leaving rows behind


@every_source
async def test_a_map_that_fails_leaves_its_running_rows_behind(source, balanced):
    def run(x):
        gate.hold(x)
        if x == 1:
            raise Oops
        return x

    async with ThreadPool(2, abandon_on_cancel=True) as pool, Gate() as gate:
        async with trio.open_nursery() as nursery:

            async def map_all():
                with pytest.raises(Oops):
                    await pool.map(run, source(range(10)))

            nursery.start_soon(map_all)
            await gate.until(2)
            gate.open(1)
        assert pool.limiter.borrowed_tokens == 1
        assert sorted(gate.begun) == [0, 1]
        gate.open()
        while pool.limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        await pool.join()
        balanced(pool)


@every_source
async def test_a_killed_row_is_left_behind_and_the_others_go_on(source, balanced):
    async with ThreadPool(1, abandon_on_cancel=True) as pool, Gate() as gate:
        results = pool.imap(gate.hold, source(range(4)))
        await gate.until(1)
        (task,) = [task for task in pool if task.status is RUNNING]
        assert await task.kill(reason="enough") is True
        with pytest.raises(TaskKilled, match="enough"):
            await anext(results)
        assert pool.full()
        gate.open()
        assert [x async for x in results] == [1, 2, 3]
        await pool.join()
        balanced(pool)


@every_source
async def test_closing_an_iterator_leaves_its_running_rows_behind(source, balanced):
    async with ThreadPool(1, abandon_on_cancel=True) as pool, Gate() as gate:
        async with pool.imap(gate.hold, source(range(4))):
            await gate.until(1)
        assert (len(pool), pool.full()) == (0, True)
        gate.open()
        while pool.full():
            await trio.lowlevel.checkpoint()
        assert gate.begun == [0]
        await pool.join()
        balanced(pool)


async def test_a_cancelled_map_leaves_its_rows_behind(balanced):
    async with ThreadPool(2, abandon_on_cancel=True) as pool, Gate() as gate:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.map, gate.hold, range(5))
                await gate.until(2)
                scope.cancel()
        assert scope.cancelled_caught
        assert (len(pool), pool.free_count()) == (0, 0)
        gate.open()
        while pool.limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        balanced(pool)
        assert sorted(gate.begun) == [0, 1]


async def test_leaving_the_block_leaves_behind_what_iterators_run():
    gate = Gate()
    async with ThreadPool(1, abandon_on_cancel=True) as pool:
        results = pool.imap(gate.hold, range(3))
        await gate.until(1)
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)
    gate.open()


# Rule 10: breaking out


@every_source
async def test_closing_an_iterator_cancels_its_rows_and_waits_for_them(source, balanced):
    cancelled = []

    def run(x):
        gate.hold(x)
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            cancelled.append(x)
            raise
        return x

    async with ThreadPool(2) as pool, Gate() as gate:
        async with pool.imap(run, source(range(9))) as results:
            gate.open(0)
            assert await anext(results) == 0
            await gate.until(3)
            trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
        assert sorted(cancelled) == [1, 2]
        assert len(pool) == 0
        balanced(pool)
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)


@every_source
async def test_dropping_an_iterator_cancels_its_rows(source, no_gc, balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.ask, source(range(9)))
        gate.open(0)
        assert await anext(results) == 0
        await gate.until(2)
        del results
        await wait_all_tasks_blocked()
        gate.open()
        await pool.join()
        assert gate.begun == [0, 1]
        balanced(pool)
    gc.collect()


async def test_an_iterator_that_is_dropped_unread_warns():
    async with ThreadPool(1) as pool:
        with pytest.warns(ResourceWarning, match="dropped before it was read"):
            pool.imap(double, range(9))


async def test_an_iterator_may_be_dropped_in_a_thread():
    async with ThreadPool(1) as pool, Gate() as gate:
        box = [pool.imap(gate.ask, range(9))]
        await gate.until(1)
        gate.open(0)
        assert await anext(box[0]) == 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await trio.to_thread.run_sync(box.clear)
        gate.open()
        await pool.join()
        assert len(gate.begun) <= 9


async def test_a_plain_for_says_async_for():
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match="async for"):
            list(pool.imap(double, [1]))


async def test_leaving_the_block_closes_iterators_and_a_parked_reader_hears_of_it():
    async def read():
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)
        ended.append(1)

    ended = []
    async with trio.open_nursery() as nursery:
        gate = Gate()
        async with ThreadPool(1) as pool:
            results = pool.imap(gate.ask, range(9))
            await gate.until(1)
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
        await wait_all_tasks_blocked()
        assert ended == [1]
    assert gate.begun == [0]


async def test_next_is_a_checkpoint_and_a_cancelled_one_loses_no_result():
    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.hold, range(3))
        with trio.move_on_after(0):
            await anext(results)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(results.__anext__)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        gate.open()
        for x in range(3):
            with assert_checkpoints():
                assert await anext(results) == x
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(results)


# Rule 11: members


@either_mode
async def test_waiting_in_a_row_for_one_that_was_pulled_ahead_is_a_deadlock(abandons):
    def run(x):
        if isinstance(x, str):
            gate.hold(x)
            if waiting:
                with pytest.raises(PoolDeadlock):
                    trio.from_thread.run(waiting[0].get)
        return x

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool, Gate() as gate:
        for attempt in itertools.count(1):
            rows = itertools.chain(range(300), [f"attempt {attempt}"], range(300, 600))
            results = pool.imap(run, rows)
            await gate.until(attempt)
            await wait_all_tasks_blocked()
            waiting = [task for task in pool if task.status is WAITING]
            if waiting:
                break
            # The quick rows were not quick enough for more to be pulled ahead.
            gate.open(f"attempt {attempt}")
            await results.aclose()
        gate.open()
        assert len([x async for x in results]) == 601


@either_mode
@every_source
async def test_rows_may_map_in_the_same_pool(abandons, source, balanced):
    def inner(x):
        return sum(trio.from_thread.run(pool.map, double, source(range(x))))

    async with ThreadPool(2, abandon_on_cancel=abandons) as pool:
        assert await pool.map(inner, source(range(6))) == [0, 0, 2, 6, 12, 20]
        balanced(pool)


# Rule 12: tasks of rows


async def test_rows_with_a_task_class_of_their_own_are_of_that_class():
    class Mine(Task):
        pass

    def run(_):
        return current_task()

    async with ThreadPool(2) as pool:
        pool.task_class = Mine
        for source in SOURCES.values():
            tasks = await pool.map(run, source(range(5)))
            assert {type(task) for task in tasks} == {Mine}
            assert len(set(tasks)) == 5


async def test_a_row_has_one_handle_whoever_looks_first():
    looking = threading.Barrier(2)

    class Slow(Task):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            looking.wait()

    def run(gate):
        gate.hold()
        return current_task()

    async with ThreadPool(1) as pool, Gate() as gate:
        pool.task_class = Slow
        results = pool.imap(run, [gate])
        await gate.until(1)
        gate.open()
        (task,) = pool  # while its thread looks, too
        assert await anext(results) is task
        assert task.successful()


async def test_the_handle_of_a_row_tells_what_became_of_it():
    async with ThreadPool(2) as pool, Gate() as gate:

        def run(x):
            gate.hold(x)
            return fail_if_odd(x)

        results = pool.imap(run, range(2), return_exceptions=True)
        await gate.until(2)
        good, bad = list(pool)
        seen = []
        good.link_value(lambda task: seen.append(task.value))
        bad.link_exception(lambda task: seen.append(type(task.exception)))
        gate.open()
        assert await good == 0
        with pytest.raises(Oops):
            await bad
        assert [type(x) async for x in results] == [int, Oops]
        assert sorted(seen, key=str) == [0, Oops]


# Rule 13: join


@every_source
async def test_join_does_not_wait_for_rows_that_nobody_reads(source):
    async with ThreadPool(2) as pool:
        results = pool.imap(double, source(range(10)), maxsize=3)
        assert await pool.join() is True
        assert len(pool) == 0
        assert [x async for x in results] == [2 * x for x in range(10)]


@every_source
async def test_join_waits_for_maps_and_iterators_that_can_advance(source):
    async with ThreadPool(2) as pool, Gate() as gate:
        results = pool.imap(gate.hold, source(range(5)))
        await gate.until(2)
        assert await pool.join(timeout=0) is False
        gate.open()
        assert await pool.join() is True
        assert sorted(gate.begun) == list(range(5))
        assert [x async for x in results] == list(range(5))


def until_it_rests(worker):
    """Wait for a thread, without letting Trio's loop go on."""
    while not worker.hand.resting:
        time.sleep(1e-4)


@pytest.mark.parametrize("way", ["kill", "close", "drop"])
@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
async def test_a_link_of_a_row_may_end_its_iterator_when_the_thread_rests(way, how, fails):
    held = []

    def last(x):
        gate.hold(x)
        if fails and x:
            raise Oops(x)
        return x

    def end(_):
        if way == "kill":
            pool.kill_nowait()
        elif way == "close":
            held[0]._stream.close("the test")
        held.clear()

    with pytest.raises(ExceptionGroup) if fails else contextlib.nullcontext():
        async with ThreadPool(1) as pool, Gate() as gate:
            held.append(getattr(pool, how)(last, [0, 1]))
            await gate.until(1)
            gate.open(0)
            assert await anext(held[0]) == 0
            await gate.until(2)
            next(iter(pool)).link(end)
            worker = next(iter(pool._threads.threads))
            gate.open()
            until_it_rests(worker)  # so that Trio hears of both at once
            await pool.join()
            assert len(pool) == 0
            assert await pool.map(double, [1, 2]) == [2, 4]


ROWS = pytest.mark.parametrize(
    "kind", [list, iter, lambda rows: (x for x in rows)], ids=["list", "iterator", "generator"]
)


@ROWS
async def test_a_map_without_rows_ends_at_once_while_all_threads_are_busy(kind):
    async with ThreadPool(1) as pool, Gate() as gate:
        await pool.spawn(gate.hold)
        assert await pool.map(abs, kind([])) == []
        assert [x async for x in pool.imap(abs, kind([]))] == []


@ROWS
async def test_a_map_whose_last_row_is_over_ends_though_others_have_the_thread(kind):
    async with ThreadPool(1) as pool, Gate() as gate:
        await pool.spawn(gate.hold, 0)
        results = pool.map_async(abs, kind([-3]))
        await wait_all_tasks_blocked()
        pool.apply_async(gate.hold, (1,))
        gate.open(0)
        assert await results == [3]


@pytest.mark.parametrize("attempt", range(5))
async def test_a_thread_of_a_map_sees_who_waits_when_its_feeder_has_just_got_a_slot(attempt):
    async with ThreadPool(2) as pool, Gate() as gate, trio.open_nursery() as nursery:
        await pool.spawn(gate.hold, "spawned")
        await gate.until(1)
        nursery.start_soon(pool.map, gate.hold, [0, 1, 2])
        await gate.until(2)
        await wait_all_tasks_blocked()  # the feeder is in line with its second row
        nursery.start_soon(pool.apply, gate.hold, ("waits",))
        await wait_all_tasks_blocked()
        gate.open("spawned", 0)
        await gate.until(4)
        await wait_all_tasks_blocked()
        begun = gate.begun[2:4]
        gate.open()
    assert sorted(map(str, begun)) == ["1", "waits"]
