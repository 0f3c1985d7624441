"""Rule 4: leaving the block, normally, with an exception, or cancelled from outside."""

import math
import textwrap
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from subprocess import CompletedProcess
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import triopool
from triopool import GreenPile, GreenPool, Group, Pool, Task, TaskKilled, TaskStatus


class Oops(Exception):
    pass


async def fail(x: object = None) -> None:
    await trio.lowlevel.checkpoint()
    raise Oops(x)


async def noop(x: object = None) -> object:
    await trio.lowlevel.checkpoint()
    return x


# Normally


async def test_members_may_still_spawn_map_and_iterate_while_the_pool_is_closing() -> None:
    async def member() -> None:
        await wait_all_tasks_blocked()  # the block is being left now
        seen.append(await pool.map(noop, range(3)))
        seen.append([x async for x in pool.imap(noop, range(3))])
        seen.append(await (await pool.spawn(noop, 1)))
        seen.append(await pool.apply(noop, (2,)))
        pool.apply_async(late)
        pool.spawn_nowait(late)
        await pool.start(Task(late))

    async def late() -> None:
        await wait_all_tasks_blocked()
        seen.append("late")

    seen: list[Any] = []
    async with Pool(10) as pool:
        await pool.spawn(member)
    assert seen == [[0, 1, 2], [0, 1, 2], 1, 2, "late", "late", "late"]


async def test_members_of_members_keep_the_block_open(autojump_clock: MockClock) -> None:
    depths = []

    async def deeper(depth: int) -> None:
        await trio.sleep(1)
        depths.append(depth)
        if depth:
            await pool.spawn(deeper, depth - 1)

    async with Pool(2) as pool:
        await pool.spawn(deeper, 10)
    assert depths == list(range(10, -1, -1))


async def test_block_waits_for_calls_and_for_what_waits_for_a_slot(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        async with Pool(1) as pool:
            tasks = [pool.apply_async(trio.sleep, (1,)) for _ in range(3)]
            by_hand = Task(trio.sleep, 1)
            nursery.start_soon(pool.start, by_hand)
            nursery.start_soon(pool.map, trio.sleep, [1, 1])
            mapped = pool.map_async(trio.sleep, [1, 1])
            await wait_all_tasks_blocked()
        assert trio.current_time() == 8
        assert all(task.successful() for task in [*tasks, by_hand, mapped])


async def test_block_closes_iterators_that_are_still_open_after_waiting_for_calls(
    autojump_clock: MockClock,
) -> None:
    ended = []

    async def row(x: int) -> None:
        try:
            await trio.sleep(100)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            ended.append((x, trio.current_time()))

    async def reader() -> None:
        with pytest.raises(trio.ClosedResourceError, match="this iterator is closed"):
            await anext(results)
        ended.append(("reader", trio.current_time()))

    async with trio.open_nursery() as nursery, Pool() as pool:
        results = pool.imap(row, [1])
        nursery.start_soon(reader)
        await pool.spawn(trio.sleep, 5)
    assert sorted(ended, key=str) == [("reader", 5), (1, 6)]


async def test_reader_parked_on_an_iterator_gets_closed_resource_error_and_no_silent_end() -> None:
    seen: list[object] = []

    async def reader(results: AsyncIterator[None]) -> None:
        try:
            async for result in results:
                seen.append(result)  # noqa: PERF401
            seen.append("end")
        except trio.ClosedResourceError:
            seen.append("closed")

    async with trio.open_nursery() as nursery, Pool() as pool:
        for method in (pool.imap, pool.imap_unordered):
            nursery.start_soon(reader, method(trio.sleep, [0, float("inf")]))
        await wait_all_tasks_blocked()
    assert seen == [None, None, "closed", "closed"]


async def test_iterator_that_is_read_after_the_block_is_closed() -> None:
    async with Pool() as pool:
        results = pool.imap(noop, [1, 2])
        assert await anext(results) == 1
        await pool.join()
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)


async def test_iterator_read_by_a_member_ends_before_the_block() -> None:
    async def member() -> list[object]:
        await wait_all_tasks_blocked()
        return [x async for x in results]

    async with Pool(10) as pool:
        results = pool.imap(noop, range(5), maxsize=1)
        task = await pool.spawn(member)
    assert task.value == list(range(5))


async def test_results_of_an_iterator_that_is_not_read_do_not_hang_the_block() -> None:
    async with Pool(2) as pool:
        results = pool.imap(noop, range(1000), maxsize=3)
        await anext(results)


async def test_unread_pile_does_not_hang_the_block(autojump_clock: MockClock) -> None:
    async with GreenPool(2) as pool:
        pile: GreenPile[None] = GreenPile(pool)
        for _ in range(4):
            await pile.spawn(trio.sleep, 1)
    assert trio.current_time() == 2


async def test_unobserved_errors_are_raised_last(autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup):
        async with Pool() as pool:
            await pool.spawn(fail)
            slow = await pool.spawn(trio.sleep, 5)
    assert slow.successful()


async def test_error_can_be_observed_while_the_block_waits() -> None:
    async def member(task: Task[None]) -> None:
        await wait_all_tasks_blocked()
        with pytest.raises(Oops):
            await task

    async with Pool() as pool:
        await pool.spawn(member, await pool.spawn(fail))


# With an exception


async def test_exception_kills_everything_and_comes_out_as_it_is() -> None:
    error = KeyError("body")
    ran = []
    with pytest.raises(KeyError) as info:
        async with Pool(2) as pool:
            running = [await pool.spawn(trio.sleep_forever) for _ in range(2)]
            waiting = pool.apply_async(noop)
            waiting.link_value(ran.append)
            mapped = pool.map_async(noop, range(3))
            raise error
    assert info.value is error
    assert [task.status for task in [*running, waiting, mapped]] == [TaskStatus.KILLED] * 4
    assert ran == []


async def test_exception_waits_for_what_it_killed(autojump_clock: MockClock) -> None:
    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    with pytest.raises(KeyError):
        async with Pool() as pool:
            await pool.spawn(careful)
            await wait_all_tasks_blocked()
            raise KeyError
    assert trio.current_time() == 5


async def test_exception_comes_in_a_group_beside_unobserved_errors() -> None:
    error = KeyError("body")
    with pytest.raises(ExceptionGroup, match="1 unobserved error in Pool") as info:
        async with Pool() as pool:
            await pool.spawn(fail, 1)
            await wait_all_tasks_blocked()
            raise error
    assert info.value.exceptions[0] is error
    assert [type(each) for each in info.value.exceptions] == [KeyError, Oops]


async def test_exception_comes_beside_errors_of_cleanup() -> None:
    async def careless() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            await pool.spawn(careless)
            await wait_all_tasks_blocked()
            raise KeyError
    assert [type(each) for each in info.value.exceptions] == [KeyError, Oops]


async def test_except_works_around_an_async_for() -> None:
    async def one_fails(x: int) -> None:
        await trio.lowlevel.checkpoint()
        if x == 3:
            raise Oops(x)

    caught = None
    try:
        async with Pool(2) as pool:
            async for _ in pool.imap(one_fails, range(5)):
                pass
    except Oops as error:
        caught = error.args
    assert caught == (3,)


async def test_except_star_takes_both() -> None:
    for beside in (False, True):
        seen: list[BaseException] = []
        try:
            async with Pool() as pool:
                if beside:
                    await pool.spawn(fail)
                    await wait_all_tasks_blocked()
                raise Oops
        except* Oops as group:
            seen.extend(group.exceptions)
        assert len(seen) == 1 + beside


async def test_exception_that_is_a_group_comes_out_as_it_is() -> None:
    error = ExceptionGroup("mine", [KeyError(), ExceptionGroup("inner", [Oops()])])
    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            await pool.spawn(trio.sleep_forever)
            raise error
    assert info.value is error


async def test_exception_that_cannot_be_shown_comes_out_all_the_same() -> None:
    class Unspeakable(Exception):
        def __repr__(self) -> str:
            raise ZeroDivisionError

        __str__ = __repr__

    error = Unspeakable()
    caught = None
    try:  # not `pytest.raises`, which would show it
        async with Pool() as pool:
            task = await pool.spawn(trio.sleep_forever)
            raise error
    except Unspeakable as exc:
        caught = exc
    assert caught is error
    assert task.status is TaskStatus.KILLED


async def test_exception_keeps_its_context_and_a_short_traceback() -> None:
    with pytest.raises(KeyError) as info:
        async with Pool() as pool:
            await pool.spawn(trio.sleep_forever)
            try:
                raise Oops
            except Oops:
                raise KeyError  # noqa: B904
    assert isinstance(info.value.__context__, Oops)
    names = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
    assert len(names) <= 3


async def test_exception_makes_waiters_elsewhere_get_task_killed() -> None:
    seen = []

    async def waiter(task: Task[None]) -> None:
        with pytest.raises(TaskKilled):
            await task
        seen.append(task)

    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError):
            async with Pool() as pool:
                task = await pool.spawn(trio.sleep_forever)
                nursery.start_soon(waiter, task)
                await wait_all_tasks_blocked()
                raise KeyError
    assert seen == [task]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("where", ["body", "call", "row", "result", "callback"])
async def test_keyboard_interrupt_and_system_exit_alone_leave_bare(
    error: BaseException, where: str
) -> None:
    async def run(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with pytest.raises(type(error)) as info:
        async with Pool() as pool:
            await pool.spawn(trio.sleep_forever)
            if where == "body":
                await run()
            elif where == "call":
                await pool.spawn(run)
            elif where == "row":
                await pool.map(run, [1])
            elif where == "result":
                await (await pool.spawn(run))
            else:
                pool.apply_async(noop, callback=run)
            await trio.sleep_forever()
    assert info.value is error


def test_sys_exit_in_a_call_exits_with_that_code(
    run_program: Callable[..., CompletedProcess[str]],
) -> None:
    program = textwrap.dedent("""
        import sys, trio
        from triopool import Pool

        async def call():
            sys.exit(3)

        async def main():
            async with Pool(2) as pool:
                await pool.spawn(trio.sleep_forever)
                await pool.spawn(call)

        trio.run(main)
    """)
    done = run_program(program)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_ctrl_c_ends_a_program_with_nothing_but_keyboard_interrupt(
    run_program: Callable[..., CompletedProcess[str]],
) -> None:
    program = textwrap.dedent("""
        import signal, trio
        from triopool import Pool

        async def call(x):
            if x == 3:
                signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

        async def main():
            async with Pool(5) as pool:
                await pool.map(call, range(10))

        try:
            trio.run(main)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    done = run_program(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


# Cancelled from outside


def kinds() -> list[Group]:
    return [Group(), Pool(), Pool(1), GreenPool(3), Pool(reuse_tasks=False)]


@pytest.mark.parametrize("index", range(5))
async def test_cancelled_leaves_the_block_so_that_fail_after_sees_it(
    index: int, autojump_clock: MockClock
) -> None:
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(5):
            async with kinds()[index] as pool:
                await pool.spawn(trio.sleep_forever)
    with trio.move_on_after(5) as scope:
        async with kinds()[index] as pool:
            task = await pool.spawn(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert task.status is TaskStatus.KILLED


async def test_cancelled_leaves_a_block_that_is_idle(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        async with Pool() as pool:
            await pool.map(noop, range(3))
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_cancelled_leaves_run(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        await Pool().run()
    assert scope.cancelled_caught
    assert trio.current_time() == 5


@pytest.mark.parametrize("which", ["the pool's scope", "one around it"])
async def test_call_that_is_cancelled_from_outside_ends_killed(which: str) -> None:
    """Whoever waits for it elsewhere gets TaskKilled, never a foreign Cancelled."""
    seen: list[type[BaseException]] = []

    async def elsewhere(wait: Callable[[], Awaitable[object]]) -> None:
        try:
            await wait()
        except BaseException as error:
            seen.append(type(error))
            raise

    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        with trio.CancelScope() as scope:
            async with Pool(1) as pool:
                tasks: list[Task[Any]] = [
                    await pool.spawn(trio.sleep_forever),
                    pool.apply_async(noop),
                    pool.map_async(noop, [1]),
                ]
                results = pool.imap(noop, [1])
                wait_for = [*(task.get for task in tasks), lambda: pool.map(noop, [1])]
                wait_for.append(results.__anext__)

                async def take(wait: Callable[[], Awaitable[object]]) -> None:
                    with pytest.raises(TaskKilled):
                        await elsewhere(wait)

                for wait in wait_for:
                    nursery.start_soon(take, wait)
                await wait_all_tasks_blocked()
                (pool.cancel_scope if which == "the pool's scope" else scope).cancel()
        assert scope.cancelled_caught == (which == "one around it")
    assert seen == [TaskKilled] * 5
    assert [task.status for task in tasks] == [TaskStatus.KILLED] * 3


async def test_apply_elsewhere_gets_task_killed_when_the_pool_is_cancelled() -> None:
    seen = []

    async def elsewhere() -> None:
        with pytest.raises(TaskKilled):
            await pool.apply(trio.sleep_forever)
        seen.append("killed")

    async with trio.open_nursery() as nursery, Pool() as pool:
        nursery.start_soon(elsewhere)
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
    assert seen == ["killed"]


async def test_cancelled_call_that_returns_or_raises_all_the_same_has_done_so() -> None:
    async def run(error: Exception | None) -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if error is not None:
                raise error from None
        return "done"

    async with Pool() as pool:
        returned = await pool.spawn(run, None)
        raised = await pool.spawn(run, Oops())
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await returned == "done"
            with pytest.raises(Oops):
                await raised


async def test_cancelled_comes_beside_unobserved_errors(autojump_clock: MockClock) -> None:
    # `move_on_after` takes its own part out of the group.
    with pytest.raises(ExceptionGroup) as info, trio.move_on_after(5) as scope:
        async with Pool() as pool:
            await pool.spawn(fail)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [type(error) for error in info.value.exceptions] == [Oops]


async def test_cancelled_and_an_error_of_the_body_come_out_together() -> None:
    with pytest.raises(ExceptionGroup) as info, trio.CancelScope() as scope:
        async with Pool() as pool:
            await pool.spawn(trio.sleep_forever)
            await wait_all_tasks_blocked()
            scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise KeyError
    assert info.value.split(KeyError)[1] is None


async def test_error_raised_by_a_cancelled_body_comes_out_beside_the_cancellation() -> None:
    with pytest.raises(ExceptionGroup) as info, trio.CancelScope() as scope:
        async with Pool() as pool:
            await pool.spawn(trio.sleep_forever)
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise KeyError from None
    assert scope.cancelled_caught
    assert [type(error) for error in info.value.exceptions] == [KeyError]


async def test_body_that_swallows_the_cancellation_of_its_pool_leaves_in_peace() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        pool.cancel_scope.cancel()
        with pytest.raises(trio.Cancelled):
            await trio.sleep_forever()
    assert task.status is TaskStatus.KILLED


async def test_cancelled_block_waits_for_cleanup(autojump_clock: MockClock) -> None:
    async def careful() -> str:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    with trio.move_on_after(1):
        async with Pool() as pool:
            await pool.spawn(careful)
    assert trio.current_time() == 6


async def test_row_in_cleanup_when_the_block_is_cancelled_has_a_reader_that_gets_task_killed(
    autojump_clock: MockClock,
) -> None:
    async def careful(x: int) -> int:
        with trio.CancelScope(shield=True):
            await trio.sleep(x)
        return x

    seen: list[object] = []

    async def reader() -> None:
        with pytest.raises(TaskKilled):
            async for x in results:
                assert trio.current_time() == x
                seen.append(x)

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            async with Pool() as pool:
                results = pool.imap(careful, [2, 3])
                nursery.start_soon(reader)
                await trio.sleep_forever()
    assert seen == [2, 3]


# Deadlines and shields


async def test_calls_have_the_deadlines_of_the_pool_and_not_those_of_the_caller(
    autojump_clock: MockClock,
) -> None:
    async def deadline(*_: object) -> float:
        await trio.lowlevel.checkpoint()
        return trio.current_effective_deadline()

    with trio.CancelScope(deadline=100):
        async with Pool(2) as pool:
            with trio.CancelScope(deadline=10):
                tasks = [await pool.spawn(deadline), pool.apply_async(deadline)]
                results = pool.imap(deadline, range(2))
                deadlines = [await task for task in tasks]
                deadlines += [await pool.apply(deadline), *await pool.map(deadline, range(2))]
                deadlines += [x async for x in results]
    assert deadlines == [100.0] * 7


async def test_spawned_call_outlives_the_deadline_of_its_caller(autojump_clock: MockClock) -> None:
    async with Pool() as pool:
        with trio.move_on_after(1):
            task = await pool.spawn(trio.sleep, 5)
            results = pool.imap(trio.sleep, [5])
            await trio.sleep_forever()
        assert await task is None
        assert await anext(results) is None
    assert trio.current_time() == 5


async def test_calls_of_apply_and_map_are_cancelled_with_their_caller(
    autojump_clock: MockClock,
) -> None:
    ended = []

    async def run(x: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(x)
            ended.append(x)

    async with Pool() as pool:
        with trio.move_on_after(1) as scope:
            await pool.apply(run, (1,))
        assert scope.cancelled_caught
        assert (ended, trio.current_time()) == ([1], 2)
        with trio.move_on_after(1) as scope:
            await pool.map(run, [2, 3])
        assert scope.cancelled_caught
        assert (ended, trio.current_time()) == ([1, 2, 3], 6)
        assert len(pool) == 0


async def test_calls_have_the_shield_of_the_pool(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1), trio.CancelScope(shield=True):
        async with Pool() as pool:
            task = await pool.spawn(trio.sleep, 5)
    assert task.successful()


async def test_shield_of_the_caller_is_not_that_of_the_call(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1):
        async with Pool() as pool:
            with trio.CancelScope(shield=True):
                task = await pool.spawn(trio.sleep, 5)
                await task.join()
                assert trio.current_time() == 1
    assert task.status is TaskStatus.KILLED


async def test_shield_that_is_set_on_the_pool_later_counts(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with Pool() as pool:
            await pool.map(noop, range(3))  # its worker was there before
            pool.cancel_scope.shield = True
            task = await pool.spawn(trio.sleep, 5)
    assert task.successful()
    assert not scope.cancelled_caught


@pytest.mark.parametrize("attempt", range(10))  # Trio shuffles who comes first
@pytest.mark.parametrize("how", ["fails", "link"])
async def test_an_iterator_hears_of_the_kill_though_the_block_waits_for_one_call_only(
    how: str, attempt: int
) -> None:
    raised = []

    async def read(results: triopool.ResultIterator[None]) -> None:
        try:
            async for _ in results:
                pass
        except Exception as error:
            raised.append(type(error))

    async def end() -> None:
        await event.wait()
        if how == "fails":
            raise KeyError

    event = trio.Event()
    async with trio.open_nursery() as nursery:
        with suppress(ExceptionGroup):
            async with Pool(5, on_error="cancel") as pool:
                nursery.start_soon(read, pool.imap(trio.sleep, [math.inf]))
                task = await pool.spawn(end)
                if how == "link":
                    task.link(lambda _: pool.cancel_scope.cancel())
                await wait_all_tasks_blocked()
                event.set()
    assert raised == [TaskKilled]
