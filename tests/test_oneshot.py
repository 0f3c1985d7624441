"""One job without a pool of one's own: `triopool.map`, `imap` and `imap_unordered`."""

import gc
import inspect

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import ResultIterator

streams = pytest.mark.parametrize(
    "stream", [triopool.imap, triopool.imap_unordered], ids=["imap", "imap_unordered"]
)


async def give(x):
    return x


async def add(*args):
    return sum(args)


async def fail(x):
    raise ValueError(x)


class Gauge:
    """How many calls run at once."""

    def __init__(self):
        self.now = self.peak = 0

    async def __call__(self, x):
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await trio.sleep(1)
        finally:
            self.now -= 1
        return x


@pytest.mark.parametrize(("size", "peak"), [(None, 9), (1, 1), (4, 4)])
async def test_map_is_a_map_in_a_pool_of_its_own(size, peak, autojump_clock):
    gauge = Gauge()
    assert await triopool.map(gauge, range(9), size=size) == list(range(9))
    assert gauge.peak == peak
    assert await triopool.map(add, [1, 2], rows(), size=size) == [1, 3]


async def rows():
    yield 0
    yield 1


async def test_map_without_a_size_has_no_limit(autojump_clock):
    assert await triopool.map(trio.sleep, [1] * 500) == [None] * 500
    assert trio.current_time() == 1


async def test_maps_may_share_a_limiter(autojump_clock):
    gauge = Gauge()
    limiter = trio.CapacityLimiter(3)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: triopool.map(gauge, range(6), size=limiter))
        async with triopool.imap(gauge, range(6), size=limiter) as results:
            assert [x async for x in results] == list(range(6))
    assert gauge.peak == 3
    assert limiter.borrowed_tokens == 0


async def test_map_raises_the_first_error_bare_after_the_rest_has_ended(autojump_clock):
    gauge = Gauge()

    async def work(x):
        if x == 2:
            raise ValueError(x)
        await gauge(x)

    with pytest.raises(ValueError, match="2"):
        await triopool.map(work, range(5))
    assert gauge.now == 0
    errors = await triopool.map(fail, range(2), return_exceptions=True)
    assert [error.args for error in errors] == [(0,), (1,)]


async def test_map_can_be_cancelled(autojump_clock):
    gauge = Gauge()
    with trio.move_on_after(2.5) as scope:
        await triopool.map(gauge, range(10), size=2)
    assert scope.cancelled_caught
    assert gauge.now == 0


@streams
@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("maxsize", [1, None])
async def test_an_iterator_in_a_pool_of_its_own(stream, size, maxsize, autojump_clock):
    gauge = Gauge()
    async with stream(gauge, range(6), size=size, maxsize=maxsize) as results:
        assert isinstance(results, ResultIterator)
        got = [x async for x in results]
    assert sorted(got) == list(range(6))
    assert gauge.peak == min(size or 6, maxsize or 6)
    if stream is triopool.imap:
        assert got == sorted(got)


@streams
async def test_leaving_the_block_cancels_what_is_unfinished_and_waits_for_it(
    stream, autojump_clock
):
    ended = []

    async def work(x):
        try:
            await trio.sleep(1 if x == 0 else 100)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2 if x else 0)
            ended.append(x)
        return x

    async with stream(work, range(3)) as results:
        async for x in results:
            assert x == 0
            break
    assert trio.current_time() == 3
    assert sorted(ended) == [0, 1, 2]
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)


@streams
async def test_an_exception_in_the_block_comes_out_as_it_is(stream, autojump_clock):
    with pytest.raises(KeyError):
        async with stream(trio.sleep, [100, 100]):
            await wait_all_tasks_blocked()
            raise KeyError
    with pytest.raises(ValueError):
        async with stream(fail, [1]) as results:
            await anext(results)


@streams
async def test_errors_of_rows_that_nobody_read_are_raised_at_the_end_of_the_block(stream):
    with pytest.raises(ExceptionGroup) as caught:
        async with stream(fail, [1, 2]):
            await wait_all_tasks_blocked()
    assert len(caught.value.exceptions) == 2
    async with stream(fail, [1, 2], return_exceptions=True) as results:
        assert isinstance(await anext(results), ValueError)
        await wait_all_tasks_blocked()


@streams
async def test_a_block_in_which_nothing_was_read_does_not_warn(stream):
    for awaiting in (trio.lowlevel.checkpoint, wait_all_tasks_blocked):
        for values in ([], [1]):
            async with stream(give, values) as results:
                await awaiting()
            del results
            gc.collect()
            await wait_all_tasks_blocked()


@streams
async def test_it_may_be_cancelled(stream, autojump_clock):
    with trio.move_on_after(1) as scope:
        async with stream(trio.sleep, [100]) as results:
            await anext(results)
    assert scope.cancelled_caught


@streams
async def test_what_is_wrong_is_said_when_the_block_is_entered(stream):
    for error, args, options in (
        (TypeError, (give, None), {}),
        (TypeError, (3, [1]), {}),
        (TypeError, (give,), {}),
        (ValueError, (give, [1]), {"maxsize": 0}),
        (ValueError, (give, [1]), {"size": -1}),
        (TypeError, (give, [1]), {"size": 1.5}),
    ):
        with pytest.raises(error):
            async with stream(*args, **options):
                raise AssertionError


@streams
async def test_it_cannot_be_entered_twice(stream):
    manager = stream(give, [1])
    async with manager as results:
        assert await anext(results) == 1
    with pytest.raises(RuntimeError):
        async with manager:
            pass


@streams
async def test_iterating_over_it_without_a_block_is_a_type_error_that_says_async_with(stream):
    with pytest.raises(TypeError, match="async with"):
        async for _ in stream(give, [1]):
            pass
    with pytest.raises(TypeError, match="async with"):
        for _ in stream(give, [1]):
            pass
    with pytest.raises(TypeError):
        await stream(give, [1])


async def test_map_is_for_a_librarys_function_and_as_safe_channel_for_its_generator():
    @trio.as_safe_channel
    async def doubled(values):
        async with triopool.imap(add, values, values, size=2) as results:
            async for x in results:
                yield x

    async with doubled([1, 2, 3]) as values:
        assert [x async for x in values] == [2, 4, 6]
    async with doubled(range(1_000)) as values:
        async for x in values:
            if x > 10:
                break


def test_they_are_exported_and_documented():
    for name in ("map", "imap", "imap_unordered"):
        assert name in triopool.__all__
        assert inspect.getdoc(getattr(triopool, name))
