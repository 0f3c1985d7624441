"""Rule 8: input is pulled lazily, in step, by one task, and closed."""

import array
import collections

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import Group, Pool, TaskKilled


async def give(x):
    return x


async def after_a_second(x):
    await trio.sleep(1)
    return x


async def pair(*args):
    return args


async def wait(x):
    await trio.sleep_forever()


async def read(results):
    return [result async for result in results]


ways = {
    "map": lambda pool, func, *rows: pool.map(func, *rows),
    "imap": lambda pool, func, *rows: read(pool.imap(func, *rows)),
    "imap_unordered": lambda pool, func, *rows: read(pool.imap_unordered(func, *rows)),
}
every_way = pytest.mark.parametrize("way", ways.values(), ids=ways)
streams = pytest.mark.parametrize("method", ["imap", "imap_unordered"])


class Source:
    """An input that notes what is done to it, and in which Trio task."""

    def __init__(self, length=3, error=None, delay=None, cleanup=None):
        self.length = length
        self.error = error
        self.delay = delay
        self.cleanup = cleanup
        self.pulled = 0
        self.closed = False
        self.tasks = set()

    def _note(self):
        self.tasks.add(trio.lowlevel.current_task())

    def rows(self):
        try:
            while self.pulled < self.length:
                self._note()
                self.pulled += 1
                yield self.pulled - 1
            self._note()
            if self.error is not None:
                raise self.error
        finally:
            self._note()
            self.closed = True

    async def async_rows(self):
        try:
            while self.pulled < self.length:
                self._note()
                if self.delay is not None:
                    await trio.sleep(self.delay)
                self.pulled += 1
                yield self.pulled - 1
            self._note()
            if self.error is not None:
                raise self.error
        finally:
            self._note()
            if self.cleanup is not None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.cleanup)
            self.closed = True


kinds = pytest.mark.parametrize("kind", ["rows", "async_rows"])


class OldProtocol:
    def __getitem__(self, index):
        if index == 3:
            raise IndexError
        return index


class AsyncIterator:
    """An async iterator that is no generator and has no aclose."""

    def __init__(self):
        self.left = 3

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return 2 - self.left


def channel():
    send, receive = trio.open_memory_channel(3)
    for i in range(3):
        send.send_nowait(i)
    send.close()
    return receive


iterables = {
    "list": lambda: [0, 1, 2],
    "tuple": lambda: (0, 1, 2),
    "range": lambda: range(3),
    "bytes": lambda: b"\0\1\2",
    "dict": lambda: {0: "a", 1: "b", 2: "c"},
    "values": lambda: {"a": 0, "b": 1, "c": 2}.values(),
    "deque": lambda: collections.deque([0, 1, 2]),
    "array": lambda: array.array("i", [0, 1, 2]),
    "iterator": lambda: iter([0, 1, 2]),
    "generator": lambda: (i for i in range(3)),
    "map": lambda: map(int, "012"),
    "old protocol": OldProtocol,
    "async generator": lambda: Source().async_rows(),
    "async iterator": AsyncIterator,
    "memory channel": channel,
}


@every_way
@pytest.mark.parametrize("make", iterables.values(), ids=iterables)
@pytest.mark.parametrize("size", [1, None])
async def test_any_iterable_is_an_input(way, make, size):
    async with Pool(size) as pool:
        assert sorted(await way(pool, give, make())) == [0, 1, 2]


@every_way
@pytest.mark.parametrize("first", iterables.values(), ids=iterables)
@pytest.mark.parametrize(
    "second",
    [lambda: "abcd", lambda: Source(9).rows(), AsyncIterator],
    ids=["str", "generator", "async iterator"],
)
async def test_any_mix_of_iterables_is_pulled_in_step(way, first, second):
    async with Pool(2) as pool:
        rows = sorted(await way(pool, pair, first(), second()))
    assert [row[0] for row in rows] == [0, 1, 2]
    assert len({row[1] for row in rows}) == 3
    assert rows == sorted(rows, key=lambda row: str(row[1]))


@every_way
@kinds
async def test_the_shortest_ends_it(way, kind):
    long = Source(10**9)
    async with Pool(2) as pool:
        assert sorted(await way(pool, pair, "ab", getattr(long, kind)())) == [("a", 0), ("b", 1)]
    assert long.pulled <= 3
    assert long.closed


@every_way
async def test_no_iterable_or_something_else_is_a_type_error(way, balanced):
    async with Pool(2) as pool:
        for bad in (None, 3, give, object()):
            with pytest.raises(TypeError, match="iterable"):
                await way(pool, give, bad)
            with pytest.raises(TypeError, match="iterable"):
                await way(pool, pair, [1], bad)
        with pytest.raises(TypeError, match="iterable"):
            await way(pool, give)
        balanced(pool)
        assert await way(pool, give, [1]) == [1]


# Lazily


@every_way
@kinds
@pytest.mark.parametrize("size", [0, 1, 3])
async def test_at_most_one_row_is_pulled_ahead_of_the_free_slots(way, kind, size):
    source = Source(100)
    async with Pool(size) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(way, pool, wait, getattr(source, kind)())
        await wait_all_tasks_blocked()
        assert size <= source.pulled <= size + 1
        nursery.cancel_scope.cancel()


@streams
@kinds
async def test_maxsize_holds_the_input_back_too(method, kind):
    source = Source(100)
    async with Pool() as pool:
        results = getattr(pool, method)(give, getattr(source, kind)(), maxsize=4)
        await wait_all_tasks_blocked()
        assert 4 <= source.pulled <= 5
        assert sorted(await read(results)) == list(range(100))


@kinds
@every_way
async def test_a_pool_without_limit_pulls_a_bounded_number_of_rows_in_one_pass(way, kind):
    source = Source(10**9)
    async with Group() as group, trio.open_nursery() as nursery:
        nursery.start_soon(way, group, wait, getattr(source, kind)())
        pulled = []
        for _ in range(20):
            before = source.pulled
            await trio.lowlevel.checkpoint()
            pulled.append(source.pulled - before)
        assert 0 < max(pulled) <= 2 * 64 + 2
        nursery.cancel_scope.cancel()


@every_way
async def test_an_async_input_that_never_yields_to_the_loop_does_not_block_it(way):
    source = Source(10**9)
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(way, pool, give, source.async_rows())
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert source.closed


# By one task


@every_way
@kinds
@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("reuse", [True, False])
async def test_one_task_pulls_every_row_and_closes(way, kind, size, reuse):
    source = Source(30)

    async def work(x):
        await trio.lowlevel.checkpoint()

    async with Pool(size, reuse_tasks=reuse) as pool:
        await way(pool, work, getattr(source, kind)())
    assert source.pulled == 30
    assert source.closed
    assert len(source.tasks) == 1


@every_way
async def test_one_task_pulls_a_mix_of_generators(way):
    one, two = Source(5), Source(9)
    async with Pool(2) as pool:
        await way(pool, pair, one.rows(), two.async_rows())
    assert one.closed
    assert two.closed
    assert len(one.tasks | two.tasks) == 1


async def test_an_input_may_keep_a_cancel_scope_open_between_two_rows(autojump_clock):
    async def rows():
        with trio.move_on_after(1_000):
            for i in range(4):
                await trio.sleep(1)
                yield i

    async with Pool(2) as pool:
        assert await pool.map(give, rows()) == [0, 1, 2, 3]


async def test_an_input_may_keep_a_nursery_open_between_two_rows(autojump_clock):
    async def rows():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 2)
            for i in range(4):
                yield i

    async with Pool(2) as pool:
        assert await read(pool.imap(give, rows())) == [0, 1, 2, 3]
    assert trio.current_time() == 2


# Closed at the end


@kinds
async def test_the_input_is_closed_when_a_call_fails(kind):
    source = Source(100)

    async def fail(x):
        raise ValueError

    async with Pool(2) as pool:
        with pytest.raises(ValueError):
            await pool.map(fail, getattr(source, kind)())
        assert source.closed
    assert len(source.tasks) == 1


@kinds
async def test_the_input_is_closed_when_a_map_is_cancelled(kind, autojump_clock):
    """It has ended, its cleanup included, when `map` has raised the cancellation."""
    source = Source(100, cleanup=5)
    async with Pool(2) as pool:
        with trio.move_on_after(1) as scope:
            await pool.map(wait, getattr(source, kind)())
        assert scope.cancelled_caught
        assert source.closed
        assert trio.current_time() == (6 if kind == "async_rows" else 1)
    assert len(source.tasks) == 1


async def test_a_map_is_cancelled_while_its_input_sleeps(autojump_clock):
    source = Source(100, delay=10, cleanup=1)
    async with Pool(2) as pool:
        with trio.move_on_after(5) as scope:
            await pool.map(give, source.async_rows())
        assert scope.cancelled_caught
        assert source.closed
        assert (trio.current_time(), source.pulled) == (6, 0)
    assert len(source.tasks) == 1


async def test_a_call_that_fails_ends_a_map_whose_input_sleeps(autojump_clock):
    async def fail(x):
        await trio.sleep(1)
        raise ValueError(x)

    async def rows():
        yield 1
        await trio.sleep(100)

    async with Pool(2) as pool:
        with pytest.raises(ValueError, match="1"):
            await pool.map(fail, rows())
    assert trio.current_time() == 1


@kinds
async def test_the_input_is_closed_when_the_pool_is_killed(kind):
    source = Source(100)
    async with Pool(2) as pool, trio.open_nursery() as nursery:

        async def mapping():
            with pytest.raises(TaskKilled):
                await pool.map(wait, getattr(source, kind)())

        nursery.start_soon(mapping)
        await wait_all_tasks_blocked()
        assert await pool.kill()
        assert source.closed


@kinds
@streams
async def test_the_input_is_closed_when_an_iterator_is_closed_or_dropped(method, kind):
    for close in (True, False):
        source = Source(100)
        async with Pool(2) as pool:
            results = getattr(pool, method)(give, getattr(source, kind)(), maxsize=2)
            await anext(results)
            if close:
                await results.aclose()
                assert source.closed
            del results
            await wait_all_tasks_blocked()
            assert source.closed
        assert len(source.tasks) == 1


@kinds
@streams
async def test_the_input_is_closed_when_the_block_is_left_or_cancelled(method, kind):
    for cancel in (True, False):
        source = Source(100)
        async with Pool(2) as pool:
            results = getattr(pool, method)(wait, getattr(source, kind)())
            await wait_all_tasks_blocked()
            if cancel:
                pool.cancel_scope.cancel()
        assert source.closed
        with pytest.raises(trio.ClosedResourceError):
            await anext(results)


@kinds
async def test_an_input_that_was_never_begun_is_closed_too(kind):
    source = Source(100)
    rows = getattr(source, kind)()
    async with Pool(2) as pool:
        results = pool.imap(give, rows)
        pool.cancel_scope.cancel()
    assert source.pulled == 0
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)
    if kind == "rows":
        assert list(rows) == []
    else:
        assert await read(rows) == []


async def test_every_input_is_closed_although_one_cannot_be(autojump_clock):
    closed = []

    class Bad(AsyncIterator):
        async def aclose(self):
            closed.append(self)
            raise ValueError("cannot be closed")

    async with Pool(2) as pool:
        source = Source(3)
        with pytest.raises(ValueError, match="cannot be closed"):
            await pool.map(pair, Bad(), source.async_rows(), Bad())
        assert source.closed
        assert len(closed) == 2


async def test_an_input_that_is_no_generator_stays_open():
    class File:
        closed = False

        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        def close(self):
            self.closed = True

    file = File()
    async with Pool(2) as pool:
        assert await pool.map(give, file) == []
    assert not file.closed


# Errors of the input


@kinds
@every_way
async def test_an_error_of_the_input_reaches_the_reader(way, kind, balanced):
    source = Source(0, KeyError("input"))
    async with Pool(2) as pool:
        with pytest.raises(KeyError, match="input"):
            await way(pool, give, getattr(source, kind)())
        balanced(pool)
    assert source.closed


@kinds
@streams
@pytest.mark.parametrize("size", [1, 2, 10])
async def test_an_error_of_the_input_comes_after_the_results_before_it(
    method, kind, size, autojump_clock
):
    async def work(x):
        await trio.sleep(10 - x)
        return x

    source = Source(5, KeyError("input"))
    async with Pool(size) as pool:
        results = getattr(pool, method)(work, getattr(source, kind)())
        got = [await anext(results) for _ in range(5)]
        with pytest.raises(KeyError, match="input"):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        assert sorted(got) == [0, 1, 2, 3, 4]
        if method == "imap":
            assert got == sorted(got)


@streams
async def test_an_error_of_next_itself_comes_after_the_results_before_it(method):
    class Broken:
        def __init__(self):
            self.left = 2

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise KeyError("next")
            self.left -= 1
            return self.left

    async with Pool(2) as pool:
        results = getattr(pool, method)(give, Broken())
        assert sorted([await anext(results), await anext(results)]) == [0, 1]
        with pytest.raises(KeyError, match="next"):
            await anext(results)
        with pytest.raises(KeyError, match="next"):
            await pool.map(give, Broken())


async def test_an_error_of_a_builtin_iterator_that_a_worker_meets(autojump_clock):
    """A dict that grows is noticed by whoever pulls next, which may be a worker."""

    async def work(x):
        if x == 1:
            rows["more"] = 1
        await trio.sleep(1)
        return x

    for size in (1, 2):
        rows = {0: 0, 1: 1, 2: 2, 3: 3}
        async with Pool(size) as pool:
            results = pool.imap(work, rows)
            assert [await anext(results), await anext(results)] == [0, 1]
            with pytest.raises(RuntimeError, match="changed size"):
                await anext(results)
            rows = {0: 0, 1: 1, 2: 2, 3: 3}
            with pytest.raises(RuntimeError, match="changed size"):
                await pool.map(work, rows)
            rows = {0: 0, 1: 1, 2: 2, 3: 3}
            results = pool.imap(work, rows, maxsize=1)
            assert [await anext(results), await anext(results)] == [0, 1]
            with pytest.raises(RuntimeError, match="changed size"):
                await anext(results)


@kinds
async def test_an_error_of_the_input_of_a_map_cancels_its_calls(kind, autojump_clock):
    begun, ended = [], []

    async def work(x):
        begun.append(x)
        try:
            await trio.sleep(100 if x else 1)
        finally:
            ended.append(x)

    source = Source(4, KeyError("input"))
    async with Pool(3) as pool:
        # The fourth row is pulled ahead of its slot, and the error when there is one.
        with pytest.raises(KeyError, match="input"):
            await pool.map(work, getattr(source, kind)())
        assert sorted(ended) == sorted(begun)
        assert {0, 1, 2} <= set(begun)
    assert trio.current_time() == 1


async def test_an_error_of_the_input_is_no_error_of_a_call(autojump_clock):
    """`return_exceptions` hands over the errors of calls as values, never those of the input."""

    async def fail(x):
        raise ValueError(x)

    async with Pool(1) as pool:
        with pytest.raises(KeyError):
            await pool.map(fail, Source(2, KeyError()).rows(), return_exceptions=True)
        results = pool.imap(fail, Source(2, KeyError()).rows(), return_exceptions=True)
        assert [repr(await anext(results)) for _ in range(2)] == ["ValueError(0)", "ValueError(1)"]
        with pytest.raises(KeyError):
            await anext(results)


@kinds
async def test_an_error_of_the_input_that_nobody_reads_is_reported(kind):
    source = Source(2, KeyError("input"))
    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(2) as pool:
            results = pool.imap(give, getattr(source, kind)())
            await anext(results)
            await wait_all_tasks_blocked()
            await results.aclose()
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def test_an_error_of_the_inputs_cleanup_is_raised(autojump_clock):
    async def rows():
        try:
            while True:
                yield 1
        finally:
            raise KeyError("cleanup")

    async def fail(x):
        await trio.lowlevel.checkpoint()

    async with Pool(1) as pool:
        with pytest.raises(KeyError, match="cleanup"):
            await pool.map(pair, "ab", rows())
    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(1) as pool:
            results = pool.imap(give, rows())
            await anext(results)
            await results.aclose()
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def test_of_two_errors_of_an_input_the_first_is_raised_and_no_other_is_lost():
    class Bad:
        def __aiter__(self):
            return self

        async def __anext__(self):
            raise KeyError("pulled")

        async def aclose(self):
            raise ValueError("closed")

    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(2) as pool:
            with pytest.raises(KeyError, match="pulled"):
                await pool.map(give, Bad())
            results = pool.imap(give, Bad())
            with pytest.raises(KeyError, match="pulled"):
                await anext(results)
    assert [error.args for error in caught.value.exceptions] == [("closed",)] * 2


async def test_an_iterable_that_raises_a_typeerror_raises_that():
    class Bad:
        def __iter__(self):
            raise TypeError("my own")

    async with Pool(2) as pool:
        with pytest.raises(TypeError, match="my own"):
            await pool.map(give, Bad())


@every_way
@kinds
@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
async def test_an_input_that_raises_no_exception_takes_the_pool_down(way, kind, exception):
    source = Source(2, exception())
    with pytest.raises(exception):
        async with Pool() as pool:
            await way(pool, wait, getattr(source, kind)())
    assert source.closed


@pytest.mark.parametrize("error", [None, KeyError("cleanup")])
async def test_a_scope_around_a_yield_that_cancels_the_feeder_is_an_error_of_the_input(
    error, autojump_clock, balanced
):
    async def rows():
        with trio.move_on_after(1):
            try:
                for x in range(9):
                    yield x
            finally:
                if error is not None:
                    raise error

    async with Pool(1) as pool:
        with pytest.raises(RuntimeError if error is None else KeyError):
            await pool.map(trio.sleep, rows())
        results = pool.imap(trio.sleep, rows())
        assert await anext(results) is None
        assert await anext(results) is None
        with pytest.raises(RuntimeError if error is None else KeyError):
            await anext(results)
        balanced(pool)


async def test_an_input_may_kill_its_own_map(balanced):
    begun = []

    async def note(x):
        begun.append(x)

    def rows():
        pool.kill_nowait(reason="enough")
        yield 0

    async with Pool(2) as pool:
        with pytest.raises(TaskKilled, match="enough"):
            await pool.map(note, rows())
        balanced(pool)
    assert begun == []


@pytest.mark.parametrize("before", [0, 1])  # the first row, which is on the slot, or the second
async def test_an_input_may_discard_the_member_whose_slot_it_uses(before, autojump_clock, balanced):
    now = most = 0

    async def work(x):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1)
        now -= 1

    def rows(task):
        for row in range(3):
            if row == before:
                pool.discard(task)
            yield row

    async def member():
        await pool.map(work, rows(triopool.current_task()))
        await trio.sleep(1)

    async def outer(x):
        await pool.map(inner, [x])

    async def inner(x):
        async with pool.imap(work, rows(triopool.current_task())) as results:
            await anext(results)
            await anext(results)

    async with Pool(1) as pool:
        await (await pool.spawn(member))
        balanced(pool)
        # A slot that was lent to the member, too.
        await pool.map(outer, [1, 2])
        await pool.join()
        balanced(pool)
    assert most == 1


# Empty and slow ones


@every_way
@pytest.mark.parametrize("size", [0, 1, 2, None])
async def test_an_empty_async_input_ends_at_once(way, size, autojump_clock):
    async with Pool(size) as pool:
        assert await way(pool, give, Source(0).async_rows()) == []


@every_way
@pytest.mark.parametrize("size", [0, 1, 2, None])
async def test_an_empty_input_ends_at_once(way, size, autojump_clock):
    async with Pool(size) as pool:
        for empty in ((), "", {}, range(0), iter([]), Source(0).rows()):
            assert await way(pool, give, empty) == []
            assert await way(pool, pair, [1, 2, 3], empty) == []
            assert await way(pool, pair, empty, Source(3).async_rows()) == []
    assert trio.current_time() == 0


@every_way
async def test_the_end_of_the_input_is_found_without_a_slot(way, autojump_clock):
    async with Pool(1) as pool:
        member = await pool.spawn(trio.sleep, 5)
        assert await way(pool, give, []) == await way(pool, give, Source(0).rows()) == []
        assert trio.current_time() == 0
        await member
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def take_the_slot_after_the_row():
                await wait_all_tasks_blocked()
                await pool.spawn(trio.sleep_forever)

            with trio.fail_after(2):
                assert await way(pool, after_a_second, ["row"]) == ["row"]
        pool.kill_nowait()


async def test_an_input_may_be_longer_than_can_be_counted(autojump_clock):
    async with Pool(1) as pool, pool.imap(after_a_second, range(1 << 80)) as rows:
        assert [await anext(rows) for _ in range(3)] == [0, 1, 2]


async def test_an_input_that_takes_its_time_to_close_holds_nobody_up(nursery):
    closing = trio.Event()

    class Empty:
        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        async def aclose(self):
            await closing.wait()

    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        nursery.start_soon(pool.map, give, Empty())
        await wait_all_tasks_blocked()
        blocker.kill_nowait()
        await wait_all_tasks_blocked()
        assert await pool.spawn_nowait(give, 1) == 1
        closing.set()


@every_way
@pytest.mark.parametrize("length", [1, 2])
async def test_an_input_ends_with_its_last_row_though_another_call_has_the_slot(
    way, length, autojump_clock
):
    gate, done = trio.Event(), trio.Event()

    async def row(x):
        await gate.wait()
        return x

    async def iterate():
        assert await way(pool, row, range(length)) == list(range(length))
        done.set()

    with trio.fail_after(1):
        async with Pool(1) as pool, trio.open_nursery() as nursery:
            nursery.start_soon(iterate)
            await wait_all_tasks_blocked()
            nursery.start_soon(pool.spawn, done.wait)
            await wait_all_tasks_blocked()
            gate.set()


@every_way
@pytest.mark.parametrize("size", [1, 2, None])
async def test_a_slow_input_never_hangs(way, size, autojump_clock):
    """Slow before its first row, between rows, and to end after all calls are over."""

    async def rows():
        for i in range(3):
            await trio.sleep(10)
            yield i
        await trio.sleep(10)

    async with Pool(size) as pool:
        assert await way(pool, give, rows()) == [0, 1, 2]
    assert trio.current_time() == 40


@every_way
async def test_results_of_a_slow_input_come_as_they_are_done(way, autojump_clock):
    async def rows():
        for i in range(3):
            yield i
            await trio.sleep(10)

    async with Pool() as pool:
        times = [trio.current_time() async for _ in pool.imap(give, rows())]
    assert times == [0, 10, 20]


async def test_an_input_may_be_fed_by_what_reads_it(autojump_clock):
    """A crawl: results go back into the input."""
    send, receive = trio.open_memory_channel(100)
    send.send_nowait(1)
    seen = []
    async with Pool(2) as pool:
        async for x in pool.imap_unordered(give, receive):
            seen.append(x)
            if x < 20:
                await send.send(2 * x)
                await send.send(2 * x + 1)
            if len(seen) == 39:
                send.close()
    assert sorted(seen) == list(range(1, 40))


async def test_an_input_may_use_the_pool_itself(autojump_clock):
    async def rows(pool):
        for i in range(3):
            yield await pool.apply(give, (i,))

    async with Pool(1) as pool:
        assert await pool.map(give, rows(pool)) == [0, 1, 2]
        assert await read(pool.imap(give, pool.imap(give, pool.imap(give, [1, 2, 3])))) == [1, 2, 3]


async def test_a_chain_of_iterators_is_closed_with_the_last(autojump_clock):
    source = Source(100)
    async with Pool(4) as pool:
        results = pool.imap(give, pool.imap(give, source.rows(), maxsize=2), maxsize=2)
        assert await anext(results) == 0
        await results.aclose()
        await wait_all_tasks_blocked()
        assert source.closed
        assert len(pool) == 0


async def test_the_input_sees_the_context_of_whoever_asked():
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    def rows():
        yield variable.get()
        yield variable.get()

    async with Pool(2) as pool:
        variable.set("asked")
        results = pool.imap(give, rows())
        variable.set("later")
        assert await read(results) == ["asked", "asked"]


async def test_the_one_shot_map_takes_any_input_too():
    source = Source(3)
    assert await triopool.map(pair, source.async_rows(), "abc") == [(0, "a"), (1, "b"), (2, "c")]
    assert source.closed


@pytest.mark.parametrize("make", [range, lambda n: (x for x in range(n))], ids=["range", "rows"])
@pytest.mark.parametrize("rows", [0, 1])
async def test_a_map_whose_rows_are_over_needs_no_slot_to_end(make, rows):
    first, mapped = trio.Event(), trio.Event()

    async def call(_):
        await trio.lowlevel.checkpoint()

    async def maps():
        await pool.map(call, make(rows))
        mapped.set()

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        await pool.spawn(first.wait)
        nursery.start_soon(maps)
        await wait_all_tasks_blocked()
        pool.apply_async(mapped.wait)  # has the slot after the first row
        first.set()
        await wait_all_tasks_blocked()
        assert mapped.is_set()
        mapped.set()
