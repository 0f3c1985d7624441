"""Rule 3: siblings survive. What `on_error` does, and what it does not concern."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from triopool import GreenPile, GreenPool, Group, Pool, Task, TaskStatus


class Oops(Exception):
    pass


async def fail(x: object = None) -> None:
    await trio.lowlevel.checkpoint()
    raise Oops(x)


KINDS: dict[str, Callable[[Any], Group]] = {
    "Group": lambda on_error: Group(on_error=on_error),
    "Pool": lambda on_error: Pool(5, on_error=on_error),
    "GreenPool": lambda on_error: GreenPool(5, on_error=on_error),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
every_on_error = pytest.mark.parametrize("on_error", ["collect", "cancel", "log", "function"])


# collect


@every_kind
async def test_collect_harms_no_sibling(make: Callable[[Any], Group]) -> None:
    with pytest.raises(ExceptionGroup):
        async with make("collect") as pool:
            sibling = await pool.spawn(wait_all_tasks_blocked)
            await pool.spawn(fail)
    assert sibling.successful()


async def test_collect_is_the_default_and_keeps_a_failure_for_whoever_asks() -> None:
    async with Pool() as pool:
        task = await pool.spawn(fail)
        await pool.join()
        assert isinstance(task.exception, Oops)


# cancel


@every_kind
async def test_cancel_fails_fast_like_a_nursery(make: Callable[[Any], Group]) -> None:
    with pytest.raises(ExceptionGroup, match="1 unobserved error in") as info:
        async with make("cancel") as pool:
            sibling = await pool.spawn(trio.sleep_forever)
            await pool.spawn(fail)
            await trio.sleep_forever()  # the body of the block is cancelled, too
    assert [type(error) for error in info.value.exceptions] == [Oops]
    assert sibling.status is TaskStatus.KILLED


async def test_cancel_says_why() -> None:
    reasons = []

    async def sibling() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            reasons.append(str(cancelled))
            raise

    with pytest.raises(ExceptionGroup):
        async with Pool(on_error="cancel") as pool:
            await pool.spawn(sibling)
            await pool.spawn(fail)
    assert len(reasons) == 1
    assert "fail failed, and on_error is 'cancel'" in reasons[0]


async def test_cancel_raises_the_errors_of_siblings_that_fail_in_their_cleanup() -> None:
    async def sibling() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops("cleanup")

    with pytest.raises(ExceptionGroup) as info:
        async with Pool(on_error="cancel") as pool:
            await pool.spawn(sibling)
            await wait_all_tasks_blocked()
            await pool.spawn(fail, "first")
    assert [error.args[0] for error in info.value.exceptions] == ["first", "cleanup"]


async def test_cancel_does_not_hide_a_cancellation_from_outside() -> None:
    with pytest.raises(ExceptionGroup) as info, trio.CancelScope() as scope:
        async with Pool(on_error="cancel") as pool:
            await pool.spawn(fail)
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert [type(error) for error in info.value.exceptions] == [Oops]


# log


@every_kind
async def test_log_logs_each_failure_at_once_with_its_traceback_and_forgets_it(
    make: Callable[[Any], Group], caplog: pytest.LogCaptureFixture
) -> None:
    async with make("log") as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        for number in range(3):
            await pool.spawn(fail, number)
            await wait_all_tasks_blocked()
            record = caplog.records[-1]
            assert (record.name, record.levelno) == ("triopool", logging.ERROR)
            assert record.getMessage().endswith("test_rule_03_on_error.fail failed")
            assert record.exc_info is not None
            _, error, traceback = record.exc_info
            assert isinstance(error, Oops)
            assert error.args == (number,)
            assert traceback is not None
            assert traceback.tb_frame.f_code is fail.__code__
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()
    assert len(caplog.records) == 3


async def test_logged_task_still_has_its_error(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(on_error="log") as pool:
        task = await pool.spawn(fail)
        await pool.join(raise_error=True)
        with pytest.raises(Oops):
            await task.get()
    assert len(caplog.records) == 1


# A function


@every_kind
async def test_function_is_handed_each_failed_task_at_once(make: Callable[[Any], Group]) -> None:
    received: list[Task[Any]] = []
    async with make(received.append) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        tasks = []
        for number in range(3):
            tasks.append(await pool.spawn(fail, number))
            await wait_all_tasks_blocked()
            assert received == tasks
        assert [task.status for task in received] == [TaskStatus.FAILED] * 3
        assert [task.exception.args[0] for task in received if task.exception] == [0, 1, 2]
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


async def test_function_is_not_handed_what_succeeded_or_was_killed() -> None:
    received: list[Task[Any]] = []
    async with Pool(on_error=received.append) as pool:
        await pool.spawn(trio.lowlevel.checkpoint)
        await (await pool.spawn(trio.sleep_forever)).kill()
    assert received == []


async def test_function_that_raises_joins_the_unobserved_errors() -> None:
    def bad(task: Task[Any]) -> None:
        raise KeyError(task.name)

    with pytest.raises(ExceptionGroup) as info:
        async with Pool(on_error=bad) as pool:
            sibling = await pool.spawn(wait_all_tasks_blocked)
            await pool.spawn(fail)
    assert [type(error) for error in info.value.exceptions] == [KeyError]
    assert sibling.successful()


async def test_function_can_use_the_pool(autojump_clock: MockClock) -> None:
    attempts = []

    async def flaky(x: int) -> None:
        attempts.append(x)
        await trio.sleep(1)
        if x < 3:
            raise Oops

    def again(task: Task[Any]) -> None:
        pool.apply_async(flaky, (len(attempts),))

    async with Pool(1, on_error=again) as pool:
        await pool.spawn(flaky, 0)
    assert attempts == [0, 1, 2, 3]


async def test_function_is_handed_the_errors_of_callbacks_and_links() -> None:
    def bad(_: object) -> None:
        raise KeyError

    received: list[Task[Any]] = []
    async with Pool(on_error=received.append) as pool:
        pool.apply_async(trio.lowlevel.checkpoint, callback=bad)
        (await pool.spawn(trio.lowlevel.checkpoint)).link(bad)
    assert [type(task.exception) for task in received] == [KeyError] * 2


# What it concerns: failures that nobody waits for at that moment


async def waits_in_get(pool: Group) -> None:
    with pytest.raises(Oops):
        await (await pool.spawn(fail)).get()


async def waits_in_get_below(pool: Group) -> None:
    async def reader(task: Task[None]) -> None:
        with pytest.raises(Oops):
            await task

    task = await pool.spawn(fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader, task)
        nursery.start_soon(task.join)


async def applies(pool: Group) -> None:
    with pytest.raises(Oops):
        await pool.apply(fail)


async def applies_inside(pool: Group) -> None:
    await (await pool.spawn(applies, pool))


async def maps(pool: Group) -> None:
    with pytest.raises(Oops):
        await pool.map(fail, range(3))
    await pool.map(fail, range(3), return_exceptions=True)


async def waits_for_map_async(pool: Group) -> None:
    with pytest.raises(Oops):
        await pool.map_async(fail, range(3)).get()


async def iterates(pool: Group) -> None:
    results = pool.imap(fail, range(3))
    await wait_all_tasks_blocked()
    for _ in range(3):
        with pytest.raises(Oops):
            await anext(results)


async def reads_a_pile(pool: Group) -> None:
    assert isinstance(pool, Pool)
    pile: GreenPile[None] = GreenPile(pool)
    await pile.spawn(fail)
    await wait_all_tasks_blocked()
    with pytest.raises(Oops):
        await pile.next()


CONCERNS = [
    waits_in_get,
    waits_in_get_below,
    applies,
    applies_inside,
    maps,
    waits_for_map_async,
    iterates,
    reads_a_pile,
]


@every_on_error
@pytest.mark.parametrize("use", CONCERNS, ids=lambda use: use.__name__)
async def test_it_does_not_concern_failures_that_someone_waits_for(
    on_error: Any,
    use: Callable[[Group], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    received: list[Task[Any]] = []
    if on_error == "function":
        on_error = received.append
    async with Pool(5, on_error=on_error) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        await use(pool)
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()
    assert (received, caplog.records) == ([], [])


async def test_it_concerns_a_task_that_one_only_joins() -> None:
    received: list[Task[Any]] = []
    async with Pool(on_error=received.append) as pool:
        task = await pool.spawn(fail)
        await task.join()
    assert received == [task]


async def test_it_concerns_a_task_whose_get_was_given_up(autojump_clock: MockClock) -> None:
    async def fail_later() -> None:
        await trio.sleep(5)
        raise Oops

    received: list[Task[Any]] = []
    async with Pool(on_error=received.append) as pool:
        task = await pool.spawn(fail_later)
        with pytest.raises(trio.TooSlowError):
            await task.get(timeout=1)
    assert received == [task]


async def test_it_concerns_a_task_that_one_asks_later() -> None:
    received: list[Task[Any]] = []
    async with Pool(on_error=received.append) as pool:
        task = await pool.spawn(fail)
        await pool.join()
        assert received == [task]
        with pytest.raises(Oops):
            await task.get()


# What else one might pass


@every_kind
@pytest.mark.parametrize("on_error", [None, "", "raise", 0, True], ids=repr)
def test_anything_else_is_a_type_error(make: Callable[[Any], Group], on_error: object) -> None:
    with pytest.raises(TypeError, match="on_error is 'collect', 'cancel', 'log' or a"):
        make(on_error)


async def on_error_async(task: Task[Any]) -> None:
    pass


@every_kind
def test_async_function_is_a_type_error(make: Callable[[Any], Group]) -> None:
    with pytest.raises(TypeError, match="on_error is"):
        make(on_error_async)
