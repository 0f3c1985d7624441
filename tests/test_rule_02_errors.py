"""Rule 2: no error is ever lost, and none is reported twice."""

import logging
import random
import re
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import triopool
from triopool import GreenPile, GreenPool, Group, Pool, Task, TaskStatus, ThreadPool


class Oops(Exception):
    pass


async def fail(x: object = None) -> None:
    await trio.lowlevel.checkpoint()
    raise Oops(x)


async def failed(pool: Pool) -> Task[None]:
    task = await pool.spawn(fail)
    await task.join()
    return task


def unobserved(info: pytest.ExceptionInfo[ExceptionGroup[Any]]) -> list[object]:
    """The arguments of the errors in a group of nothing but `Oops`."""
    assert all(type(error) is Oops for error in info.value.exceptions)
    return sorted(error.args[0] for error in info.value.exceptions)


# Every way in which an error is observed. `observe` is run in a block that must then end in peace.


async def by_get(pool: Pool) -> None:
    task = await failed(pool)
    with pytest.raises(Oops):
        await task.get()


async def by_get_that_waited(pool: Pool) -> None:
    task = await pool.spawn(fail)
    with pytest.raises(Oops):
        await task.get()


async def by_get_with_a_timeout(pool: Pool) -> None:
    task = await pool.spawn(fail)
    with pytest.raises(Oops):
        await task.get(timeout=1000)


async def by_await(pool: Pool) -> None:
    with pytest.raises(Oops):
        await (await pool.spawn(fail))


async def by_wait_of_a_green_thread(_: Pool) -> None:
    async with GreenPool() as pool:
        thread = await pool.spawn(fail)
        with pytest.raises(Oops):
            await thread.wait()


async def by_exception(pool: Pool) -> None:
    task = await failed(pool)
    assert isinstance(task.exception, Oops)


async def by_apply(pool: Pool) -> None:
    with pytest.raises(Oops):
        await pool.apply(fail)


async def by_apply_inside(pool: Pool) -> None:
    await (await pool.spawn(by_apply, pool))


async def by_apply_cb(pool: Pool) -> None:
    with pytest.raises(Oops):
        await pool.apply_cb(fail, (), {}, print)


async def by_map(pool: Pool) -> None:
    with pytest.raises(Oops):
        await pool.map(fail, range(5))


async def by_map_values(pool: Pool) -> None:
    errors = await pool.map(fail, range(5), return_exceptions=True)
    assert [type(error) for error in errors] == [Oops] * 5


async def by_map_cb(pool: Pool) -> None:
    with pytest.raises(Oops):
        await pool.map_cb(fail, range(5), print)


async def by_map_async(pool: Pool) -> None:
    with pytest.raises(Oops):
        await pool.map_async(fail, range(5)).get()


async def by_iterator(pool: Pool) -> None:
    results = pool.imap(fail, range(5))
    for _ in range(5):
        with pytest.raises(Oops):
            await anext(results)
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def by_unordered_iterator(pool: Pool) -> None:
    results = pool.imap_unordered(fail, range(5))
    for _ in range(5):
        with pytest.raises(Oops):
            await anext(results)


async def by_iterator_values(pool: Pool) -> None:
    async for error in pool.imap(fail, range(5), return_exceptions=True):
        assert isinstance(error, Oops)


async def by_unread_values(pool: Pool) -> None:
    async with pool.imap(fail, range(5), return_exceptions=True) as results:
        assert isinstance(await anext(results), Oops)
        await pool.join()


async def by_pile(pool: Pool) -> None:
    pile: GreenPile[None] = GreenPile(pool)
    await pile.spawn(fail)
    with pytest.raises(Oops):
        await pile.next()


async def by_pile_values(pool: Pool) -> None:
    pile: GreenPile[Any] = GreenPile(pool, return_exceptions=True)
    await pile.spawn(fail)
    assert isinstance(await pile.next(), Oops)


async def by_join(pool: Pool) -> None:
    await pool.spawn(fail, 1)
    await pool.spawn(fail, 2)
    with pytest.raises(ExceptionGroup) as info:
        await pool.join(raise_error=True)
    assert unobserved(info) == [1, 2]


WAYS = [
    by_get,
    by_get_that_waited,
    by_get_with_a_timeout,
    by_await,
    by_wait_of_a_green_thread,
    by_exception,
    by_apply,
    by_apply_inside,
    by_apply_cb,
    by_map,
    by_map_values,
    by_map_cb,
    by_map_async,
    by_iterator,
    by_unordered_iterator,
    by_iterator_values,
    by_unread_values,
    by_pile,
    by_pile_values,
    by_join,
]


@pytest.mark.parametrize("observe", WAYS, ids=lambda way: way.__name__)
async def test_error_is_observed(observe: Callable[[Pool], Awaitable[None]]) -> None:
    async with Pool(3) as pool:
        await observe(pool)


async def test_error_that_on_error_received_is_observed() -> None:
    async with Pool(on_error=lambda task: None) as pool:
        await pool.spawn(fail)


@pytest.mark.parametrize("on_error", ["collect", "log"])
async def test_observed_error_is_neither_raised_nor_logged(
    on_error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(on_error=on_error) as pool:
        await by_get_that_waited(pool)
        await by_apply(pool)
        await by_map(pool)
        await by_iterator(pool)
    assert caplog.records == []


# What is not observed


async def test_unobserved_errors_are_raised_as_a_group_when_the_block_is_left() -> None:
    with pytest.raises(ExceptionGroup, match="2 unobserved errors in Pool at 0x") as info:
        async with Pool() as pool:
            await pool.spawn(fail, 1)
            pool.apply_async(fail, (2,))
            await pool.spawn(trio.lowlevel.checkpoint)
    assert unobserved(info) == [1, 2]


async def test_one_unobserved_error_is_in_a_group_too() -> None:
    with pytest.raises(ExceptionGroup, match="1 unobserved error in Group at 0x") as info:
        async with Group() as group:
            await group.spawn(fail, 1)
    assert unobserved(info) == [1]


async def test_join_and_wait_of_a_task_do_not_observe() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            task = await pool.spawn(fail, 1)
            await triopool.wait([task])
            await task.join()
            await task.kill()
            assert await pool.join()
            assert task.status is TaskStatus.FAILED
            repr(task)
    assert unobserved(info) == [1]


async def test_link_does_not_observe() -> None:
    seen = []
    with pytest.raises(ExceptionGroup):
        async with Pool() as pool:
            (await pool.spawn(fail)).link_exception(seen.append)
    assert len(seen) == 1


async def test_get_that_was_cancelled_or_too_late_does_not_observe(
    autojump_clock: MockClock,
) -> None:
    async def fail_later() -> None:
        await trio.sleep(5)
        raise Oops(1)

    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            task = await pool.spawn(fail_later)
            with pytest.raises(trio.TooSlowError):
                await task.get(timeout=1)
            with trio.move_on_after(1):
                await task.get()
            with pytest.raises(trio.TooSlowError):
                await task.get(timeout=0)
    assert unobserved(info) == [1]


async def test_error_whose_waiter_is_cancelled_by_a_link_is_raised() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            release = trio.Event()

            async def fail_when_released() -> None:
                await release.wait()
                raise Oops(1)

            task = await pool.spawn(fail_when_released)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task.get)
                await wait_all_tasks_blocked()
                task.link(lambda _: nursery.cancel_scope.cancel())
                release.set()
    assert unobserved(info) == [1]


@pytest.mark.parametrize("attempt", range(20))
async def test_error_whose_waiter_is_cancelled_in_the_same_tick_is_reported_once(
    attempt: int,
) -> None:
    reports: list[str] = []
    release = trio.Event()

    async def fail_when_released() -> None:
        await release.wait()
        raise Oops

    async def reader(task: Task[None]) -> None:
        try:
            await task.get()
        except Oops:
            reports.append("to the waiter")

    async def cancel(scope: trio.CancelScope) -> None:
        await release.wait()
        scope.cancel()

    try:
        async with Pool() as pool, trio.open_nursery() as nursery:
            task = await pool.spawn(fail_when_released)
            nursery.start_soon(reader, task)
            nursery.start_soon(cancel, nursery.cancel_scope)
            await wait_all_tasks_blocked()
            release.set()
    except* Oops:
        reports.append("at the end")
    assert len(reports) == 1


async def test_rows_that_failed_unread_are_raised_when_the_block_is_left() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            results = pool.imap(fail, range(4))
            with pytest.raises(Oops):
                await anext(results)
            await pool.join()
            await results.aclose()
    assert unobserved(info) == [1, 2, 3]


async def test_rows_of_an_iterator_that_nobody_closed_are_raised_too() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            results = pool.imap_unordered(fail, range(4))
            with pytest.raises(Oops):
                await anext(results)
            await pool.join()
    assert len(info.value.exceptions) == 3


async def test_unread_pile_is_raised_when_the_block_is_left() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            pile: GreenPile[None] = GreenPile(pool)
            await pile.spawn(fail, 1)
            await pile.spawn(fail, 2)
            with pytest.raises(Oops):
                await pile.next()
            await pool.join()
    assert unobserved(info) == [2]


async def test_unread_input_error_is_raised_when_the_block_is_left() -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise Oops("input")

    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            results = pool.imap(trio.sleep, rows())
            await pool.join()
            await results.aclose()
    assert unobserved(info) == ["input"]


async def test_map_async_that_nobody_awaits_is_raised_when_the_block_is_left() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            pool.map_async(fail, [1])
    assert unobserved(info) == [1]


@pytest.mark.parametrize("callback_is_async", [True, False])
async def test_error_of_a_callback_is_raised_when_the_block_is_left(
    callback_is_async: bool,
) -> None:
    def sync_callback(_: object) -> None:
        raise Oops("callback")

    async def async_callback(_: object) -> None:
        raise Oops("callback")

    callback: Any = async_callback if callback_is_async else sync_callback
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            task = pool.apply_async(trio.sleep, (0,), callback=callback)
            assert await task is None
    assert unobserved(info) == ["callback"]
    async with Pool() as pool:
        with pytest.raises(Oops):
            await pool.apply_cb(trio.sleep, (0,), {}, callback)
        with pytest.raises(Oops):
            await pool.map_cb(trio.sleep, [0], callback)
        with pytest.raises(Oops):
            await pool.map_async(trio.sleep, [0], callback)


async def test_error_that_a_link_has_looked_at_is_observed() -> None:
    async with Pool() as pool:
        (await pool.spawn(fail)).link(lambda task: task.exception)


# Once and only once


async def test_get_may_raise_the_same_error_again() -> None:
    async with Pool() as pool:
        task = await failed(pool)
        errors = []
        for _ in range(3):
            with pytest.raises(Oops) as info:
                await task.get()
            errors.append(info.value)
    assert errors == [errors[0]] * 3


async def test_join_raises_each_error_once() -> None:
    async with Pool() as pool:
        await pool.spawn(fail, 1)
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(raise_error=True)
        assert unobserved(info) == [1]
        assert await pool.join(raise_error=True) is True
        task = await pool.spawn(fail, 2)
        with pytest.raises(Oops):
            await task
        await pool.spawn(fail, 3)
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(raise_error=True)
        assert unobserved(info) == [3]


async def test_join_does_not_miss_tasks_that_failed_before_it_was_called() -> None:
    async with Pool() as pool:
        await failed(pool)
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(raise_error=True)
        assert len(info.value.exceptions) == 1


async def test_join_raises_what_it_has_when_its_time_is_over(autojump_clock: MockClock) -> None:
    async with Pool() as pool:
        await pool.spawn(trio.sleep, 10)
        await pool.spawn(fail, 1)
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(timeout=5, raise_error=True)
        assert unobserved(info) == [1]
        assert await pool.join(timeout=1, raise_error=True) is False


async def test_join_that_was_cancelled_observes_nothing() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            await pool.spawn(fail, 1)
            with trio.CancelScope() as scope:
                scope.cancel()
                await pool.join(raise_error=True)
    assert unobserved(info) == [1]


async def test_error_that_leaves_the_block_itself_is_not_in_the_group_again() -> None:
    # It was observed, and then let go on by whoever got it.
    with pytest.raises(Oops):
        async with Pool() as pool:
            task = await pool.spawn(fail)
            await task
    with pytest.raises(Oops):
        async with Pool() as pool:
            await pool.map(fail, [1])
    with pytest.raises(Oops):
        async with Pool() as pool:
            async for _ in pool.imap(fail, [1]):
                pass


async def test_unobserved_error_raised_by_hand_is_not_in_the_group_again() -> None:
    errors = [Oops(1)]

    async def fail_with_it() -> None:
        raise errors[0]

    with pytest.raises(Oops) as info:
        async with Pool() as pool:
            await (await pool.spawn(fail_with_it)).join()
            raise errors[0]
    assert info.value is errors[0]


async def test_added_task_reports_its_error_to_its_owner_only() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as owner, Pool() as pool:
            task = await owner.spawn(fail, 1)
            await pool.add(task)
            assert await pool.join(raise_error=True)
    assert unobserved(info) == [1]
    assert info.value.message.endswith(f"in Pool at {id(owner):#x}")


async def test_raised_group_shows_where_each_error_came_from() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            await pool.spawn(fail, 1)
            results = pool.imap(fail, [2])
            await pool.join()
            await results.aclose()
    for error in info.value.exceptions:
        frames = traceback.extract_tb(error.__traceback__)
        assert [frame.name for frame in frames] == ["fail"]


# On the way out of a block that is cancelled


@pytest.mark.parametrize("kind", ["imap", "pile"])
async def test_an_error_that_was_read_leaves_its_block_though_the_reader_was_cancelled(
    kind: str,
) -> None:
    async def fail(number: int) -> None:
        raise Oops(number)

    async def read(pool: GreenPool, scope: trio.CancelScope) -> None:
        try:
            if kind == "imap":
                async with pool.imap(fail, [1]) as results:
                    try:
                        await anext(results)
                    finally:
                        scope.cancel()
            async with GreenPile(pool) as pile:
                await pile.spawn(fail, 1)
                try:
                    await pile.next()
                finally:
                    scope.cancel()
        except Oops as error:
            told.append(error.args)

    told: list[tuple[int]] = []
    async with GreenPool(2) as pool:
        with trio.CancelScope() as scope:
            await read(pool, scope)
    assert told == [(1,)]


# Of maps that nobody waits for


@pytest.mark.parametrize("attempt", range(60))  # Trio shuffles who comes first
async def test_an_input_error_of_a_map_that_is_killed_at_once_is_told_once(attempt: int) -> None:
    raised = []

    def rows() -> Iterator[int]:
        raised.append((attempt,))
        raise Oops(attempt)
        yield

    async def call(_: int) -> None: ...

    async def kill(task: Task[Any]) -> None:
        task.kill_nowait()

    told: list[tuple[int]] = []
    try:
        async with Pool(2) as pool:
            pool.spawn_nowait(kill, pool.map_async(call, rows()))
    except ExceptionGroup as group:
        told = [error.args for error in group.exceptions]
    assert told == raised


@pytest.mark.parametrize("attempt", range(30))  # the same
async def test_a_row_that_failed_before_its_map_was_killed_is_told_once(attempt: int) -> None:
    failed = threading.Event()
    tasks: list[Task[Any]] = []

    def rows() -> Iterator[int]:
        yield attempt
        failed.wait()
        tasks[0].kill_nowait()
        yield -1

    def fail(number: int) -> None:
        failed.set()
        raise Oops(number)

    with pytest.raises(ExceptionGroup) as caught:
        async with ThreadPool(2) as pool:
            await pool.apply(int)  # a thread that needs no start, for `rows` blocks the loop
            tasks.append(pool.map_async(fail, rows()))
    assert [error.args for error in caught.value.exceptions] == [(attempt,)]


# All of it at once


class Chaos:
    """Tasks that use one pool in every way, with calls that fail in every way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.raised: set[int] = set()
        self.seen: set[int] = set()
        self.calls = 0

    def see(self, error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                self.see(each)
        elif isinstance(error, Oops):
            self.seen.add(error.args[0])
        # A map names the errors that came beside the one that it raises.
        for note in getattr(error, "__notes__", ()):
            self.seen.update(int(number) for number in re.findall(r"Oops\((\d+)\)", note))

    def oops(self, number: int) -> Oops:
        self.raised.add(number)
        return Oops(number)

    async def call(self, number: int, kind: str, seconds: int) -> None:
        try:
            await trio.sleep(seconds)
        finally:
            if kind == "in cleanup":
                raise self.oops(number)
            if kind == "slow":
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
        if kind == "plain":
            raise self.oops(number)
        if kind == "below":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.call, number, "in cleanup", 1)
                nursery.start_soon(trio.sleep, 2)

    def work(self) -> tuple[int, str, int]:
        self.calls += 1
        kind = self.random.choice(["good", "plain", "in cleanup", "slow", "below"])
        return self.calls, kind, self.random.choice([0, 1, 1, 2, 3])

    def rows(self) -> list[tuple[int, str, int]]:
        return [self.work() for _ in range(3)]

    async def row(self, row: tuple[int, str, int]) -> None:
        await self.call(*row)

    async def step(self, pool: Pool, depth: int) -> None:
        limit = trio.move_on_after(self.random.choice([0, 1, 2, 1000]))
        match self.random.randrange(9):
            case 0:
                await (await pool.spawn(self.call, *self.work())).get(timeout=2)
            case 1:
                pool.apply_async(self.call, self.work())
            case 2:
                with limit:
                    await pool.apply(self.call, self.work())
            case 3:
                with limit:
                    await pool.map(self.row, self.rows())
            case 4:
                async with pool.imap(self.row, self.rows()) as results:
                    await anext(results)
                    await anext(results)
            case 5:
                task = await pool.spawn(self.call, *self.work())
                with limit:
                    await task
                await task.kill()
            case 6:
                pool.map_async(self.row, self.rows())
            case 7 if depth == 0:
                await pool.kill(timeout=1)
            case _ if depth < 2:
                await pool.apply(self.actor, (pool, depth + 1))
            case _:
                pass

    async def actor(self, pool: Pool, depth: int = 0) -> None:
        for _ in range(self.random.randrange(1, 5)):
            try:
                await self.step(pool, depth)
            except Exception as error:
                self.see(error)
            except BaseExceptionGroup as group:
                self.see(group)
                raise

    async def run(self, pool: Pool) -> None:
        with trio.move_on_after(self.random.choice([1000, 1000, 3])):
            async with pool, trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(self.actor, pool)


@pytest.mark.parametrize("seed", range(60))
async def test_no_error_is_lost_whatever_happens(
    seed: int, autojump_clock: MockClock, balanced: Callable[[Group], None]
) -> None:
    chaos = Chaos(seed)
    on_error = chaos.random.choice(["collect", "collect", "cancel"])
    pool = Pool(chaos.random.choice([1, 2, 3, None]), on_error=on_error)
    try:
        await chaos.run(pool)
    except BaseExceptionGroup as group:
        chaos.see(group)
    assert chaos.raised <= chaos.seen
    balanced(pool)


# Bounded


async def test_beyond_1000_unobserved_errors_further_ones_are_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, logger="triopool")
    with pytest.raises(ExceptionGroup, match=r"1000 unobserved errors .*\(3 more were ") as info:
        async with Pool(100) as pool:
            for number in range(1000):
                pool.apply_async(fail, (number,))
            await pool.join()
            assert caplog.records == []
            for number in range(1000, 1003):
                await pool.spawn(fail, number)
            await pool.join()
            assert len(caplog.records) == 3  # at once, not when the block is left
    assert unobserved(info) == list(range(1000))
    assert [record.name for record in caplog.records] == ["triopool"] * 3
    numbers = [record.exc_info[1].args[0] for record in caplog.records]
    assert sorted(numbers) == [1000, 1001, 1002]
    assert "test_rule_02_errors.fail failed" in caplog.text
    assert "Traceback" in caplog.text


async def test_logged_error_counts_as_observed(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ExceptionGroup):
        async with Pool() as pool:
            for _ in range(1000):
                await pool.spawn(fail, 1)
            await pool.join()
            late = await pool.spawn(fail, 2)
            await late.join()
            with pytest.raises(Oops):
                await late.get()
    assert len(caplog.records) == 1


async def test_unread_rows_are_bounded_too(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ExceptionGroup, match=r"1000 unobserved errors .*\(5 more were ") as info:
        async with Pool(100) as pool:
            await pool.spawn(fail, -1)
            results = pool.imap(fail, range(1004))
            await pool.join()
            await results.aclose()
    assert len(info.value.exceptions) == 1000
    assert len(caplog.records) == 5


async def test_a_second_error_of_an_input_is_logged_by_the_name_of_what_it_was_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad:
        def __aiter__(self) -> "Bad":
            return self

        async def __anext__(self) -> int:
            raise KeyError("pulled")

        async def aclose(self) -> None:
            raise ValueError("closed")

    with pytest.raises(ExceptionGroup):
        async with Pool(100) as pool:
            for number in range(1000):
                pool.apply_async(fail, (number,))
            await pool.join()
            with pytest.raises(KeyError, match="pulled"):
                await pool.map(fail, Bad())
    assert caplog.messages == ["the input of test_rule_02_errors.fail failed"]


async def test_observing_an_error_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ExceptionGroup, match=r"1000 unobserved errors in Pool at \w+$"):
        async with Pool(100) as pool:
            tasks = [pool.apply_async(fail) for _ in range(1000)]
            await pool.join()
            for task in tasks[:10]:
                assert task.exception
            for _ in range(10):
                await pool.spawn(fail)
    assert caplog.records == []


async def test_count_of_logged_errors_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(100) as pool:
        for _ in range(1001):
            pool.apply_async(fail)
        with pytest.raises(ExceptionGroup, match=r"\(1 more were logged\)"):
            await pool.join(raise_error=True)
        await pool.spawn(fail)
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(raise_error=True)
    assert "logged" not in info.value.message
    assert len(caplog.records) == 1


async def test_pool_keeps_only_unobserved_errors_alive(no_gc: None) -> None:
    class Thing(Exception):
        pass

    async def run(how: str) -> None:
        thing = Thing()
        refs[how] = weakref.ref(thing)
        await trio.lowlevel.checkpoint()
        if how != "returned":
            try:
                raise thing
            finally:
                del thing

    async def observe(how: str) -> None:
        try:
            await pool.apply(run, (how,))
        except Thing:
            pass

    refs: dict[str, weakref.ref[Thing]] = {}
    try:
        async with Pool(2) as pool:
            for how in ("returned", "observed"):
                await observe(how)
            await pool.spawn(run, "unobserved")
            await pool.join()
            await wait_all_tasks_blocked()
            alive = {how: ref() is not None for how, ref in refs.items()}
    except* Thing:
        pass
    assert alive == {"returned": False, "observed": False, "unobserved": True}
    assert refs["unobserved"]() is None


# What is no Exception

Base = type("Base", (BaseException,), {})


@pytest.mark.parametrize("error_class", [KeyboardInterrupt, SystemExit, Base])
@pytest.mark.parametrize("on_error", ["collect", "log", "cancel", "function"])
async def test_what_is_no_exception_takes_the_pool_down(
    error_class: type[BaseException], on_error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        await trio.lowlevel.checkpoint()
        raise error_class("now")

    received = []
    if on_error == "function":
        on_error = received.append
    with pytest.raises(error_class, match="now"):
        async with Pool(on_error=on_error) as pool:
            sibling = await pool.spawn(trio.sleep_forever)
            await pool.spawn(run)
            await trio.sleep_forever()
    assert sibling.status is TaskStatus.KILLED
    assert (caplog.records, received) == ([], [])


@pytest.mark.parametrize(
    "use",
    [
        lambda pool, run: pool.apply(run),
        lambda pool, run: pool.map(run, [1]),
        lambda pool, run: pool.map(run, [1], return_exceptions=True),
        lambda pool, run: anext(pool.imap(run, [1])),
        lambda pool, run: anext(pool.imap(run, [1], return_exceptions=True)),
        lambda pool, run: pool.map_async(run, [1]).get(),
        lambda pool, run: pool.apply(lambda: pool.apply(run)),
    ],
    ids=["apply", "map", "map-values", "imap", "imap-values", "map_async", "in-place"],
)
async def test_what_is_no_exception_is_no_result_of_anything(
    use: Callable[[Pool, Any], Awaitable[object]],
) -> None:
    async def run(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Base

    with pytest.raises(Base):
        async with Pool() as pool:
            sibling = await pool.spawn(trio.sleep_forever)
            try:
                await use(pool, run)
            except Base:
                pass  # whoever asked sees it, but that does not keep the pool alive
            await trio.sleep_forever()
    assert sibling.status is TaskStatus.KILLED


async def test_pytest_fail_inside_a_call_fails_the_test_that_ran_it() -> None:
    async def check() -> None:
        pytest.fail("for this reason")

    with pytest.raises(pytest.fail.Exception, match="for this reason"):
        async with Pool() as pool:
            await pool.spawn(check)
    with pytest.raises(pytest.fail.Exception, match="for this reason"):
        await triopool.map(lambda _: check(), [1])


async def test_group_that_is_no_exception_is_reported_once() -> None:
    async def run() -> None:
        await trio.lowlevel.checkpoint()
        raise BaseExceptionGroup("base", [Base(), Oops()])

    for use in (lambda pool: pool.apply(run), lambda pool: pool.spawn(run)):
        with pytest.raises(BaseExceptionGroup) as info:
            async with Pool() as pool:
                await use(pool)
                await trio.sleep_forever()
        assert info.value.message == "base"
        assert [type(error) for error in info.value.exceptions] == [Base, Oops]


async def test_unobserved_errors_come_beside_what_is_no_exception() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as info:
        async with Pool() as pool:
            await failed(pool)
            await pool.spawn(interrupt)
    assert [type(e) for e in info.value.exceptions] == [KeyboardInterrupt, Oops]


async def test_base_exception_of_the_input_takes_the_pool_down() -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        raise Base

    with pytest.raises(Base):
        async with Pool() as pool:
            try:
                await pool.map(trio.lowlevel.checkpoint, rows())
            except Base:
                pass
            await trio.sleep_forever()


class Unsplittable(ExceptionGroup):
    def derive(self, excs):
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["apply", "map", "get"])
async def test_an_error_is_not_lost_though_it_is_a_group_that_cannot_be_taken_apart(way):
    error = Unsplittable("a group", [ValueError()])

    async def fail(_):
        raise error

    async with Pool(1) as pool:
        with pytest.raises(Unsplittable) as caught:
            if way == "apply":
                await pool.apply(fail, (1,))
            elif way == "map":
                await pool.map(fail, [1])
            else:
                await (await pool.spawn(fail, 1))
        assert caught.value is error
        assert pool.free_count() == 1


def leave(_: object) -> None:
    raise SystemExit(3)


async def test_what_a_link_raises_to_end_the_program_stops_no_other_link_and_hides_no_error() -> (
    None
):
    linked: list[object] = []
    with pytest.raises(BaseExceptionGroup) as raised:
        async with Pool() as pool:
            task = await pool.spawn(fail, 1)
            task.link(leave)
            task.link(linked.append)
    assert sorted(map(repr, raised.value.exceptions)) == ["Oops(1)", "SystemExit(3)"]
    assert linked == [task]


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
async def test_sys_exit_in_a_link_leaves_bare(kind: Any) -> None:
    gate = trio.Event()
    with pytest.raises(SystemExit) as raised:
        async with kind() as pool:
            if kind is ThreadPool:
                task = await pool.spawn(trio.from_thread.run, gate.wait)
            else:
                task = await pool.spawn(gate.wait)
            task.link(leave)
            gate.set()
            await trio.sleep_forever()
    assert raised.value.code == 3
    assert task.successful()


async def test_sys_exit_in_on_error_leaves_beside_no_other_error() -> None:
    with pytest.raises(SystemExit):
        async with Pool(on_error=leave) as pool:
            await pool.spawn(fail, 1)


async def test_a_link_of_a_task_that_is_over_raises_where_it_is_linked() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.lowlevel.checkpoint)
        await task
        with pytest.raises(SystemExit):
            task.link(leave)


async def test_a_link_of_a_task_of_no_pool_raises_where_the_task_is_killed() -> None:
    task = Task(fail)
    task.link(leave)
    with pytest.raises(SystemExit):
        task.kill_nowait()
    assert task.status is TaskStatus.KILLED


async def test_map_raises_the_error_of_a_row_whose_link_takes_the_pool_down() -> None:
    async def row(x: int) -> None:
        task = triopool.current_task()
        assert task is not None
        task.link(leave)
        raise Oops(x)

    with pytest.raises(BaseExceptionGroup) as raised:
        async with Pool() as pool:
            await pool.map(row, [1])
    assert sorted(map(repr, raised.value.exceptions)) == ["Oops(1)", "SystemExit(3)"]


async def test_sys_exit_in_a_link_of_a_row_that_the_end_of_the_block_withdraws_hides_no_error() -> (
    None
):
    begun, gate = threading.Event(), threading.Event()

    def row(x: int) -> None:
        if x == 400:
            begun.set()
            gate.wait()

    with pytest.raises(BaseExceptionGroup) as raised:
        async with ThreadPool(1) as pool:
            results = pool.imap(row, range(1000))
            await trio.to_thread.run_sync(begun.wait)
            list(pool)[-1].link(leave)
            gate.set()
            raise Oops(2)
    assert sorted(map(repr, raised.value.exceptions)) == ["Oops(2)", "SystemExit(3)"]
    assert pool.limiter.borrowed_tokens == 0
    del results


async def test_a_call_is_over_whatever_its_group_of_errors_does_when_it_is_split() -> None:
    class Odd(ExceptionGroup[Exception]):
        def split(self, *_: Any) -> Any:
            raise SystemExit(3)

    async def odd() -> None:
        raise Odd("odd", [Oops()])

    with pytest.raises(SystemExit):
        async with Pool() as pool:
            task = await pool.spawn(odd)
    assert task.ready()


@pytest.mark.parametrize("attempt", range(8))  # in half of the orders, nobody waited yet
async def test_a_map_async_ends_its_calls_when_its_input_fails_at_once(attempt: int) -> None:
    def rows() -> Iterator[int]:
        yield 0
        raise Oops(attempt)

    async def call(_: int) -> None:
        await trio.sleep_forever()

    async with Pool(2) as pool:
        with pytest.raises(Oops):
            await pool.map_async(call, rows())


async def test_what_ends_the_program_in_an_input_is_the_context_of_what_does_so_in_its_end() -> (
    None
):
    first, second = SystemExit("first"), SystemExit("second")

    class Rows:
        def __aiter__(self) -> AsyncIterator[int]:
            return self  # type: ignore[return-value]

        async def __anext__(self) -> int:
            raise first

        async def aclose(self) -> None:
            raise second

    with pytest.raises(SystemExit) as raised:
        async with Pool() as pool:
            await pool.map(fail, Rows())  # type: ignore[arg-type]
    assert raised.value is second
    assert second.__context__ is first


async def test_what_a_link_raises_after_the_end_of_the_pool_is_raised_to_who_asked() -> None:
    class Linked(Task[None]):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.link(leave)

    async def ask() -> None:
        with pytest.raises(SystemExit):
            await pool.spawn(fail)

    async with trio.open_nursery() as nursery:
        with pytest.raises(Oops):
            async with Pool(0, Linked) as pool:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                raise Oops
