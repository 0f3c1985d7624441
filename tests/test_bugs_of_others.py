"""The bugs of gevent and eventlet that must not come back, each by its number."""

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import (
    GreenPile,
    GreenPool,
    Group,
    Pool,
    PoolDeadlock,
    TaskStatus,
)


async def give(x):
    return x


async def fail(x=None):
    raise ValueError(x)


async def read(results):
    return [result async for result in results]


streams = pytest.mark.parametrize("method", ["imap", "imap_unordered"])


async def test_gevent_36_join_with_a_timeout_and_raise_error_raises_real_errors_only(
    autojump_clock,
):
    async with Pool() as pool:
        running = await pool.spawn(trio.sleep, 10)
        assert await pool.join(timeout=3, raise_error=True) is False
        await pool.spawn(fail)
        with pytest.raises(ExceptionGroup) as caught:
            await pool.join(timeout=3, raise_error=True)
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        assert running.status is TaskStatus.RUNNING
        assert await pool.join(timeout=10, raise_error=True) is True


@pytest.mark.parametrize("inside", [True, False])
async def test_gevent_85_kill_takes_what_waits_for_a_slot(inside, autojump_clock):
    begun = []

    async def work(x):
        begun.append(x)
        await trio.sleep(1)
        if inside and x == 0:
            await pool.kill()
            await trio.sleep(1)
            raise AssertionError

    async with Pool(15) as pool:
        tasks = [pool.apply_async(work, (x,)) for x in range(100)]
        await trio.sleep(0.5)
        if not inside:
            assert await pool.kill()
        await pool.join()
        assert sorted(begun) == list(range(15))
        assert {task.status for task in tasks[15:]} == {TaskStatus.KILLED}
        assert tasks[0].status is TaskStatus.KILLED
        assert pool.free_count() == 15
        assert await pool.apply(give, (1,)) == 1


@streams
async def test_gevent_138_an_iterator_over_nothing_ends(method, autojump_clock):
    async def nothing():
        for x in ():
            yield x

    async with Pool() as pool:
        for rows in ([], iter([]), (x for x in ()), nothing()):
            assert await read(getattr(pool, method)(give, rows)) == []


async def test_gevent_142_a_map_of_nothing_is_empty(autojump_clock):
    async with Pool(4) as pool:
        assert await pool.map(give, []) == []
        assert await pool.map_async(give, []).get() == []
        assert await pool.map_cb(give, []) == []
        assert await read(pool.imap(give, [])) == []


@pytest.mark.parametrize("size", [1, 2, None])
@pytest.mark.parametrize("method", ["imap", "imap_unordered", "starmap"])
async def test_gevent_216_an_iterator_swallows_no_error(method, size):
    async def odd_only(x):
        if x % 2 == 0:
            raise ValueError(x)
        return x

    async with Pool(size) as pool:
        rows = [(x,) for x in range(6)] if method == "starmap" else range(6)
        results = getattr(pool, method)(odd_only, rows)
        got, errors = [], []
        while True:
            try:
                got.append(await anext(results))
            except ValueError as error:
                errors.append(error.args[0])
            except StopAsyncIteration:
                break
        assert sorted(got) == [1, 3, 5]
        assert sorted(errors) == [0, 2, 4]
        with pytest.raises(ValueError, match="0" if size == 1 else None):
            await pool.map(odd_only, range(6))


@pytest.mark.parametrize("size", [1, 3, None])
@streams
async def test_gevent_311_an_input_that_ends_late_does_not_hang(method, size, autojump_clock):
    async def rows():
        for x in range(3):
            yield x
        await trio.sleep(20)

    async with Pool(size) as pool:
        assert sorted(await read(getattr(pool, method)(give, rows()))) == [0, 1, 2]
        assert await pool.map(give, rows()) == [0, 1, 2]
    assert trio.current_time() == 40


async def test_gevent_368_calls_of_a_full_pool_that_spawn_into_it_do_not_hang(autojump_clock):
    ended = []

    async def inner():
        ended.append("inner")

    async def outer():
        await trio.sleep(1)
        await pool.spawn(inner)
        ended.append("outer")

    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(5) as pool:
            for _ in range(5):
                await pool.spawn(outer)
    assert [type(error) for error in caught.value.exceptions] == [PoolDeadlock]
    assert sorted(ended) == ["inner"] * 4 + ["outer"] * 4
    ended.clear()
    async with Group() as pool:
        for _ in range(5):
            await pool.spawn(outer)
    assert sorted(ended) == ["inner"] * 5 + ["outer"] * 5


@streams
async def test_gevent_423_an_iterator_over_a_queue_ends_when_the_queue_does(method, autojump_clock):
    async def close_later():
        await trio.sleep(10)
        send.close()

    send, receive = trio.open_memory_channel(1)
    send.send_nowait(123)
    async with Group() as group, trio.open_nursery() as nursery:
        nursery.start_soon(close_later)
        assert await read(getattr(group, method)(give, receive)) == [123]
    assert trio.current_time() == 10


async def test_gevent_521_join_raises_what_failed_before_it_was_called(autojump_clock):
    async with Group() as group:
        await group.spawn(fail, 1)
        await trio.sleep(1)
        await group.spawn(fail, 2)
        with pytest.raises(ExceptionGroup) as caught:
            await group.join(raise_error=True)
        assert sorted(error.args[0] for error in caught.value.exceptions) == [1, 2]
        assert await group.join(raise_error=True) is True


@streams
async def test_gevent_638_unread_results_do_not_pile_up(method, autojump_clock):
    begun = got = 0

    async def work(x):
        nonlocal begun
        begun += 1
        await trio.sleep(0.1)

    async with Pool(20) as pool:
        results = getattr(pool, method)(work, range(100), maxsize=3)
        await trio.sleep(5)
        assert begun == 3
        async for _ in results:
            got += 1
            await trio.sleep(1)
            assert begun - got <= 3
    assert (begun, got) == (100, 100)


async def test_gevent_1933_a_map_that_raises_leaves_no_call_running(autojump_clock):
    ended = []

    async def work(x):
        if x == 2:
            raise ValueError(x)
        await trio.sleep(10)
        ended.append(x)

    async with Group() as group:
        other = await group.spawn(trio.sleep, 20)
        with pytest.raises(ValueError, match="2"):
            await group.map(work, [1, 2, 3])
        assert list(group) == [other]
        await trio.sleep(15)
        assert ended == []


async def test_eventlet_215_the_iterators_use_the_slots_of_their_pool(autojump_clock):
    ended = []

    async def work(x):
        await trio.sleep(1)
        ended.append(x)

    async with GreenPool(2) as pool:
        results = pool.imap(work, range(2))
        await wait_all_tasks_blocked()
        assert (pool.running(), pool.free()) == (2, 0)
        await pool.waitall()
        assert sorted(ended) == [0, 1]
        assert await read(results) == [None, None]
        rows = pool.starmap(work, [(x,) for x in range(9)])
        await trio.sleep(0.5)
        assert (pool.running(), pool.free()) == (2, 0)
        # What only its reader holds back is not waited for.
        await pool.waitall()
        assert len(ended) == 4
        await rows.aclose()


async def test_eventlet_748_a_pile_does_not_keep_what_was_read(no_gc, autojump_clock):
    class Payload:
        pass

    refs = []

    async def nothing(payload):
        await trio.lowlevel.checkpoint()

    async with GreenPool(10) as pool:
        for ordered in (True, False):
            pile = GreenPile(pool, ordered=ordered)
            for _ in range(200):
                payload = Payload()
                refs.append(weakref.ref(payload))
                refs.append(weakref.ref(await pile.spawn(nothing, payload)))
                del payload
                await pile.next()
            await wait_all_tasks_blocked()
            assert [ref for ref in refs if ref() is not None] == []
        # Unread, it keeps results, but no arguments; and all goes with the pile.
        refs.clear()
        pile = GreenPile(pool)
        for _ in range(200):
            payload = Payload()
            refs.append(weakref.ref(payload))
            del payload
            await pile.spawn(nothing, refs[-1]())
        await pool.waitall()
        assert len(pile) == 200
        assert [ref for ref in refs if ref() is not None] == []
        threads = [weakref.ref(task) for task in pile._tasks]
        del pile
        gc.collect()
        assert [ref for ref in threads if ref() is not None] == []
