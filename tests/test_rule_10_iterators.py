"""Rule 10: breaking out of `async for` is clean."""

import gc
import sys
import threading
import warnings
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import GreenPool, Group, Pool, ResultIterator, TaskKilled

streams = pytest.mark.parametrize("method", ["imap", "imap_unordered"])


async def give(x):
    return x


async def fail(x):
    raise ValueError(x)


class Work:
    """Calls that end when they are cancelled, after a cleanup of some seconds."""

    def __init__(self, cleanup=0):
        self.cleanup = cleanup
        self.begun = []
        self.ended = []

    async def __call__(self, x):
        self.begun.append(x)
        if x == 0:
            return x
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.cleanup)
            self.ended.append(x)


@pytest.fixture
def raised_in_del(monkeypatch):
    """What was raised where nobody can catch it."""
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_value))
    return raised


@streams
async def test_break_cancels_the_unfinished_calls(method, autojump_clock, balanced):
    work = Work()
    async with Pool(3) as pool:
        async for x in getattr(pool, method)(work, range(10)):
            assert x == 0
            break
        await wait_all_tasks_blocked()
        assert sorted(work.begun) == sorted([0, *work.ended])
        balanced(pool)
        assert await pool.apply(give, (1,)) == 1


@streams
async def test_an_exception_in_the_loop_cancels_the_unfinished_calls(method, balanced):
    work = Work()
    async with Pool(3) as pool:
        with pytest.raises(KeyError):
            async for _ in getattr(pool, method)(work, range(10)):
                raise KeyError
        await wait_all_tasks_blocked()
        assert sorted(work.begun) == sorted([0, *work.ended])
        balanced(pool)


@streams
async def test_return_from_the_loop_cancels_the_unfinished_calls(method, balanced):
    work = Work()

    async def first():
        async for x in getattr(pool, method)(work, range(10)):
            return x
        return None

    async with Pool(3) as pool:
        assert await first() == 0
        await wait_all_tasks_blocked()
        assert sorted(work.begun) == sorted([0, *work.ended])
        balanced(pool)


@streams
async def test_a_dropped_iterator_is_closed_in_the_next_pass_of_the_loop(method):
    """The drop itself runs no code of the pool's: it may happen in the middle of anything."""
    work = Work()
    async with Pool(3) as pool:
        results = getattr(pool, method)(work, range(10))
        await anext(results)
        await wait_all_tasks_blocked()
        stream = results._stream
        del results
        assert not stream.closed
        assert len(pool) == 3
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert stream.closed
        await wait_all_tasks_blocked()
        assert len(pool) == 0


@streams
async def test_slots_return_after_cleanup(method, autojump_clock, balanced):
    work = Work(cleanup=5)
    async with Pool(3) as pool:
        results = getattr(pool, method)(work, range(10))
        await anext(results)
        await wait_all_tasks_blocked()
        del results
        await trio.sleep(4)
        assert pool.full()
        await trio.sleep(2)
        balanced(pool)


@streams
async def test_aclose_waits_for_the_cleanup(method, autojump_clock, balanced):
    work = Work(cleanup=5)
    async with Pool(3) as pool:
        results = getattr(pool, method)(work, range(10))
        await anext(results)
        await wait_all_tasks_blocked()
        await results.aclose()
        assert trio.current_time() == 5
        assert len(work.ended) == 3
        balanced(pool)
        await results.aclose()


@streams
async def test_async_with_waits_for_the_cleanup(method, autojump_clock, balanced):
    work = Work(cleanup=5)
    async with Pool(3) as pool:
        async with getattr(pool, method)(work, range(10)) as results:
            assert isinstance(results, ResultIterator)
            async for _ in results:
                await wait_all_tasks_blocked()
                break
        assert trio.current_time() == 5
        assert len(work.ended) == 3
        balanced(pool)


@streams
async def test_async_with_lets_an_exception_through_after_the_cleanup(method, autojump_clock):
    work = Work(cleanup=5)
    async with Pool(3) as pool:
        with pytest.raises(KeyError):
            async with getattr(pool, method)(work, range(10)):
                await wait_all_tasks_blocked()
                raise KeyError
        assert trio.current_time() == 5


@streams
async def test_aclose_from_a_call_of_the_iterator_cancels_that_call(method, autojump_clock):
    async def closes(x):
        await kept[0].aclose()
        raise AssertionError

    kept = []
    async with Pool(2) as pool:
        kept.append(getattr(pool, method)(closes, range(2)))
        await wait_all_tasks_blocked()
        assert len(pool) == 0
        with pytest.raises(trio.ClosedResourceError):
            await anext(kept.pop())


@streams
async def test_a_closed_iterator_says_so(method):
    async with Pool(2) as pool:
        results = getattr(pool, method)(give, range(10))
        await anext(results)
        await results.aclose()
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError, match="closed"):
                await anext(results)


@streams
async def test_closing_wakes_readers_that_are_parked(method):
    ends = []

    async def read():
        try:
            await anext(results)
        except trio.ClosedResourceError as error:
            ends.append(error)

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        results = getattr(pool, method)(trio.sleep, [1000, 1000])
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await results.aclose()
        await wait_all_tasks_blocked()
        assert len(ends) == 2


@streams
async def test_closing_at_the_end_changes_nothing(method):
    async with Pool(2) as pool:
        results = getattr(pool, method)(give, range(3))
        assert sorted([x async for x in results]) == [0, 1, 2]
        await results.aclose()
        with pytest.raises((StopAsyncIteration, trio.ClosedResourceError)):
            await anext(results)


# The collector


@streams
async def test_an_iterator_in_a_cycle_is_closed_when_it_is_collected(method, no_gc):
    work = Work()

    class Holder:
        pass

    async with Pool(3) as pool:
        holder = Holder()
        holder.itself = holder
        holder.results = getattr(pool, method)(work, range(10))
        await anext(holder.results)
        await wait_all_tasks_blocked()
        del holder
        await wait_all_tasks_blocked()
        assert len(pool) == 3
        gc.collect()
        await wait_all_tasks_blocked()
        assert len(pool) == 0


@streams
async def test_an_iterator_dropped_in_another_thread_is_closed(method, no_gc):
    work = Work()
    done = threading.Event()
    async with Pool(3) as pool:
        holder = [getattr(pool, method)(work, range(10))]
        await anext(holder[0])
        await wait_all_tasks_blocked()

        def drop():
            holder.clear()
            done.set()

        thread = threading.Thread(target=drop)
        thread.start()
        done.wait()
        thread.join()
        assert len(pool) == 3
        await wait_all_tasks_blocked()
        while len(pool):
            await trio.lowlevel.checkpoint()
        assert len(work.ended) == 3


@streams
async def test_an_iterator_collected_in_another_thread_is_closed(method, no_gc):
    work = Work()
    async with Pool(3) as pool:
        holder = [getattr(pool, method)(work, range(10))]
        holder.append(holder)
        await anext(holder[0])
        await wait_all_tasks_blocked()
        del holder
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()
        while len(pool):
            await trio.lowlevel.checkpoint()
        assert len(work.ended) == 3


@pytest.mark.parametrize("left", ["pool", "run"])
def test_an_iterator_may_be_dropped_after_its_pool_or_its_run_has_ended(left, raised_in_del):
    kept = []

    async def main():
        async with Pool(2) as pool:
            kept.append(pool.imap(give, range(3)))
            await anext(kept[0])
            kept.append(pool.imap(give, range(3)))
            assert [x async for x in kept[1]] == [0, 1, 2]
        if left == "pool":
            kept.clear()
            await wait_all_tasks_blocked()

    trio.run(main)
    kept.clear()
    gc.collect()
    assert raised_in_del == []


def test_an_iterator_may_be_dropped_outside_of_the_run_whose_pool_is_open(raised_in_del):
    kept = []

    async def main():
        pool = Pool(2)
        await pool.__aenter__()
        kept.append(pool.imap(trio.sleep, [1000]))
        with pytest.raises(KeyError):
            try:
                raise KeyError
            except KeyError:
                await pool.__aexit__(*sys.exc_info())
                raise

    trio.run(main)
    kept.clear()
    gc.collect()
    assert raised_in_del == []


async def test_an_iterator_whose_arguments_were_wrong_leaves_nothing_behind(balanced):
    async with Pool(2) as pool:
        with pytest.raises(TypeError):
            pool.imap(give, None)
        with pytest.raises(TypeError):
            pool.imap(3, [1])
        gc.collect()
        balanced(pool)


# Errors that nobody read


@streams
@pytest.mark.parametrize("how", ["drop", "aclose", "leave", "break"])
async def test_rows_that_failed_unread_are_reported_when_the_block_is_left(method, how):
    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(2) as pool:
            results = getattr(pool, method)(fail, range(4))
            with pytest.raises(ValueError):
                await anext(results)
            await wait_all_tasks_blocked()
            if how == "aclose":
                await results.aclose()
            elif how == "break":
                async with results:
                    pass
            elif how == "drop":
                del results
                await wait_all_tasks_blocked()
    errors = caught.value.exceptions
    assert [type(error) for error in errors] == [ValueError] * 3
    assert len({error.args for error in errors}) == 3


async def test_rows_that_failed_early_in_an_ordered_iterator_are_reported_too(autojump_clock):
    async def work(x):
        if x:
            raise ValueError(x)
        await trio.sleep(10)

    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(3) as pool:
            results = pool.imap(work, range(3))
            await trio.sleep(1)
            await results.aclose()
    assert sorted(error.args for error in caught.value.exceptions) == [(1,), (2,)]


@streams
async def test_a_row_that_fails_in_its_cleanup_is_reported(method):
    async def work(x):
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError(x)

    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(3) as pool:
            results = getattr(pool, method)(work, range(3))
            await wait_all_tasks_blocked()
            await results.aclose()
    assert sorted(error.args for error in caught.value.exceptions) == [(0,), (1,), (2,)]


@streams
@pytest.mark.parametrize("how", ["drop", "aclose", "leave"])
async def test_with_return_exceptions_nothing_unread_is_reported(method, how):
    async with Pool(2) as pool:
        results = getattr(pool, method)(fail, range(4), return_exceptions=True)
        assert isinstance(await anext(results), ValueError)
        await wait_all_tasks_blocked()
        if how == "aclose":
            await results.aclose()
        elif how == "drop":
            del results
            await wait_all_tasks_blocked()


@streams
async def test_results_and_killed_rows_are_no_errors_when_they_are_dropped(method):
    async with Pool(4) as pool:
        results = getattr(pool, method)(Work(), range(3))
        await anext(results)
        await wait_all_tasks_blocked()
        for task in pool:
            await pool.killone(task)
        await results.aclose()


@streams
async def test_errors_that_were_read_are_not_reported_again(method):
    async with Pool(2) as pool:
        results = getattr(pool, method)(fail, range(4))
        errors = []
        while True:
            try:
                await anext(results)
            except ValueError as error:
                errors.append(error.args[0])
            except StopAsyncIteration:
                break
        assert sorted(errors) == [0, 1, 2, 3]


# Never read


@streams
async def test_an_iterator_dropped_before_it_was_read_warns(method, balanced):
    async with Pool(2) as pool:
        with pytest.warns(ResourceWarning, match="before it was read"):
            getattr(pool, method)(trio.sleep, [1000])
        await wait_all_tasks_blocked()
        balanced(pool)


async def test_it_warns_even_if_its_calls_have_ended_meanwhile():
    async with Pool(2) as pool:
        results = pool.imap(give, [1, 2])
        await wait_all_tasks_blocked()
        with pytest.warns(ResourceWarning, match="before it was read"):
            del results
        await wait_all_tasks_blocked()


async def test_an_iterator_that_was_read_or_closed_or_killed_does_not_warn():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with Pool(2) as pool:
            results = pool.imap(trio.sleep, [0, 1000])
            await anext(results)
            del results
            results = pool.imap(trio.sleep, [0, 1000])
            with trio.move_on_after(0):
                await anext(results)
            del results
            results = pool.imap(trio.sleep, [0, 1000])
            await results.aclose()
            del results
            async with pool.imap(trio.sleep, [1000]):
                pass
            async with pool.imap(give, []):
                await wait_all_tasks_blocked()
            results = pool.imap(trio.sleep, [1000])
            await pool.kill()
            del results
            gc.collect()
    assert caught == []


async def test_a_plain_for_is_a_type_error_that_says_async_for(balanced):
    async with Pool(2) as pool:
        results = pool.imap(trio.sleep, [1000])
        with pytest.raises(TypeError, match="async for"):
            for _ in results:
                pass
        with pytest.raises(TypeError, match="async for"):
            list(results)
        await results.aclose()
        with pytest.raises(TypeError, match="async for"):
            for _ in pool.starmap(give, [(1,)]):
                pass
        await wait_all_tasks_blocked()
        balanced(pool)


# The end of the block, and kills


@streams
async def test_leaving_the_block_closes_what_is_open_and_never_ends_silently(
    method, autojump_clock
):
    ends = []

    async def read():
        try:
            async for _ in results:
                pass
            ends.append("end")
        except trio.ClosedResourceError:
            ends.append("closed")

    async with trio.open_nursery() as nursery, Pool(2) as pool:
        results = getattr(pool, method)(trio.sleep, [1, 1000])
        nursery.start_soon(read)
        await trio.sleep(2)
    assert ends == ["closed"]
    assert trio.current_time() == 2


@streams
async def test_an_iterator_that_can_be_read_after_the_block_is_closed(method):
    async with Pool(2) as pool:
        results = getattr(pool, method)(give, range(3))
        await wait_all_tasks_blocked()
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)


@streams
async def test_a_member_may_iterate_while_the_block_is_left(method, autojump_clock):
    async def member():
        await trio.sleep(1)
        return [x async for x in getattr(pool, method)(give, range(3))]

    async with Pool(2) as pool:
        task = await pool.spawn(member)
    assert sorted(task.value) == [0, 1, 2]


@streams
async def test_kill_lets_an_iterator_yield_what_it_has_and_then_raises(method, autojump_clock):
    async def work(x):
        await trio.sleep(x)
        return x

    for readers_wait in (True, False):
        async with Pool() as pool:
            results = getattr(pool, method)(work, [1, 2, 1000, 1000, 3])
            await trio.sleep(5)
            assert await pool.kill(KeyError("why"))
            if readers_wait:
                await trio.sleep(1)
            got = [await anext(results) for _ in range(3)]
            assert sorted(got) == [1, 2, 3]
            for _ in range(2):
                with pytest.raises(KeyError, match="why"):
                    await anext(results)


@streams
async def test_kill_wakes_every_reader_with_the_error(method):
    ends = []

    async def read():
        try:
            async for _ in results:
                pass
            ends.append("end")
        except TaskKilled:
            ends.append("killed")

    async with Pool(2) as pool, trio.open_nursery() as nursery:
        results = getattr(pool, method)(trio.sleep, [1000, 1000])
        for _ in range(3):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await pool.kill()
    assert ends == ["killed"] * 3


@streams
async def test_a_killed_iterator_can_be_closed(method, autojump_clock, balanced):
    work = Work(cleanup=5)
    async with Pool(2) as pool:
        results = getattr(pool, method)(work, range(1, 5))
        await wait_all_tasks_blocked()
        pool.kill_nowait()
        await results.aclose()
        assert trio.current_time() == 5
        balanced(pool)
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)


@streams
async def test_a_pool_cancelled_while_its_body_is_shielded_kills_its_iterators(
    method, autojump_clock
):
    async with Pool(1) as pool:
        results = getattr(pool, method)(trio.sleep, [100, 100])
        slow = getattr(pool, method)(trio.sleep, never())
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            for ended in (results, slow):
                with pytest.raises(TaskKilled):
                    await anext(ended)


async def never():
    await trio.sleep_forever()
    yield


async def test_a_kill_before_its_first_row_began_begins_nothing():
    begun = []

    async def note(x):
        begun.append(x)

    async with Pool(2) as pool:
        results = pool.imap(note, range(10))
        pool.kill_nowait(reason="too late")
        with pytest.raises(TaskKilled, match="too late"):
            await anext(results)
        assert begun == []


@streams
async def test_a_pool_that_is_cancelled_gives_its_reader_no_foreign_cancelled(method):
    ends = []

    async def read():
        try:
            async for _ in results:
                pass
        except (TaskKilled, trio.ClosedResourceError) as error:
            ends.append(type(error))

    async with trio.open_nursery() as nursery, Pool(2) as pool:
        results = getattr(pool, method)(trio.sleep, [1000, 1000, 1000])
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
    assert len(ends) == 1


@streams
async def test_several_tasks_may_read_one_iterator(method, autojump_clock):
    got = []

    async def read():
        async for x in results:
            got.append(x)
            await trio.sleep(1)

    async with Group() as group, trio.open_nursery() as nursery:
        results = getattr(group, method)(give, range(30))
        for _ in range(3):
            nursery.start_soon(read)
    assert sorted(got) == list(range(30))


async def test_an_iterator_knows_its_name_and_keeps_its_own_identity():
    async with Pool(2) as pool:
        results = pool.imap(give, range(3))
        assert "give" in repr(results)
        assert aiter(results) is results
        assert weakref.ref(results)() is results
        await results.aclose()


async def test_the_iterators_of_a_green_pool_break_as_cleanly(balanced):
    work = Work()
    async with GreenPool(3) as pool:
        async for _ in pool.imap(work, range(10)):
            break
        await wait_all_tasks_blocked()
        balanced(pool)


async def test_an_iterator_of_a_member_that_is_dropped_gives_the_members_slot_back(
    autojump_clock, balanced
):
    work = Work(cleanup=2)

    async def member():
        async for _ in pool.imap(work, range(10)):
            await wait_all_tasks_blocked()
            break
        return await pool.map(give, range(3))

    async with Pool(1) as pool:
        assert await pool.apply(member) == [0, 1, 2]
        await pool.join()
        balanced(pool)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
async def test_leaving_the_block_closes_iterators_that_read_each_other_without_an_error(
    method, balanced
):
    async def nap(x):
        if x:
            await trio.sleep_forever()
        return x

    async def reads(x):
        inner = getattr(pool, method)(nap, [0, 1])
        return [await anext(inner) for _ in range(1 + x)]

    async with Pool(10) as pool:
        pipeline = getattr(pool, method)(nap, getattr(pool, method)(nap, [0, 1]))
        nested = getattr(pool, method)(reads, [0, 1])
        assert await anext(pipeline) == 0
        assert await anext(nested) == [0]
        await wait_all_tasks_blocked()
    balanced(pool)
