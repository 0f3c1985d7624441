"""Rule 5: kill is a cancel scope."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from triopool import GreenPool, Group, Pool, Task, TaskKilled, TaskStatus, current_task

KILLS: dict[str, Callable[..., Awaitable[bool]]] = {
    "pool.kill": lambda pool, task, *args, **kwargs: pool.kill(*args, **kwargs),
    "pool.killone": lambda pool, task, *args, **kwargs: pool.killone(task, *args, **kwargs),
    "task.kill": lambda pool, task, *args, **kwargs: task.kill(*args, **kwargs),
}
NOWAIT: dict[str, Callable[..., None]] = {
    "pool.kill_nowait": lambda pool, task, *args, **kwargs: pool.kill_nowait(*args, **kwargs),
    "task.kill_nowait": lambda pool, task, *args, **kwargs: task.kill_nowait(*args, **kwargs),
}


async def call_nowait(
    use: Callable[..., None], pool: Group, task: Task[Any], *args: Any, **kwargs: Any
) -> bool:
    use(pool, task, *args, **kwargs)
    return await task.join()


def awaited(use: Callable[..., None]) -> Callable[..., Awaitable[bool]]:
    return lambda pool, task, *args, **kwargs: call_nowait(use, pool, task, *args, **kwargs)


every_kill = pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
every_kill_or_nowait = pytest.mark.parametrize(
    "kill",
    [*KILLS.values(), *map(awaited, NOWAIT.values())],
    ids=[*KILLS, *NOWAIT],
)


class Oops(Exception):
    pass


async def noop(x: object = None) -> object:
    await trio.lowlevel.checkpoint()
    return x


# What the call sees


class Reasons:
    """Why each of some calls was cancelled."""

    def __init__(self) -> None:
        self.of: dict[object, str | None] = {}

    async def wait(self, name: object) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            self.of[name] = cancelled.reason
            raise


@every_kill_or_nowait
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, "TaskKilled"),
        ({"reason": "too old"}, "too old"),
        ({"exception": KeyError("gone")}, "KeyError('gone')"),
        ({"exception": KeyError}, "KeyError()"),
        ({"exception": KeyError, "reason": "too old"}, "too old"),
    ],
    ids=["default", "reason", "exception", "class", "both"],
)
async def test_cancelled_shows_the_reason_or_else_the_exception(
    kill: Callable[..., Awaitable[bool]], arguments: dict[str, Any], shown: str
) -> None:
    seen = Reasons()

    async with Pool() as pool:
        task = await pool.spawn(seen.wait, 1)
        await wait_all_tasks_blocked()
        assert await kill(pool, task, **arguments) is True
    assert seen.of == {1: shown}


@every_kill
async def test_call_sees_cancelled_at_every_checkpoint_until_it_ends(
    kill: Callable[..., Awaitable[bool]],
) -> None:
    seen = 0

    async def stubborn() -> None:
        nonlocal seen
        for _ in range(5):
            try:
                await trio.lowlevel.checkpoint()
                await trio.sleep_forever()
            except trio.Cancelled:
                seen += 1

    async with Pool() as pool:
        task = await pool.spawn(stubborn)
        await wait_all_tasks_blocked()
        assert await kill(pool, task) is True
    assert seen == 5
    assert task.status is TaskStatus.SUCCEEDED


async def test_cleanup_that_awaits_needs_a_shield(autojump_clock: MockClock) -> None:
    seen = []

    async def run(shield: bool) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=shield, deadline=trio.current_time() + 10):
                await trio.sleep(5)
                seen.append("cleaned up")

    async with Pool() as pool:
        without = await pool.spawn(run, False)
        await wait_all_tasks_blocked()
        await without.kill()
        assert (seen, trio.current_time()) == ([], 0)
        shielded = await pool.spawn(run, True)
        await wait_all_tasks_blocked()
        await shielded.kill()
        assert (seen, trio.current_time()) == (["cleaned up"], 5)
        assert shielded.status is TaskStatus.KILLED


async def test_kill_reaches_a_nursery_below_the_call() -> None:
    ended = []

    async def child(x: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(x)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 1)
            nursery.start_soon(child, 2)

    async with Pool() as pool:
        task = await pool.spawn(run)
        await wait_all_tasks_blocked()
        await task.kill()
    assert sorted(ended) == [1, 2]
    assert task.status is TaskStatus.KILLED


# What becomes of it


@every_kill_or_nowait
@pytest.mark.parametrize("given", [None, TaskKilled, TaskKilled("x"), KeyError, KeyError("x")])
async def test_get_of_a_killed_call_raises_task_killed_or_the_exception_that_was_passed(
    kill: Callable[..., Awaitable[bool]], given: Any
) -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        await wait_all_tasks_blocked()
        await kill(pool, task, *([] if given is None else [given]))
        assert task.status is TaskStatus.KILLED
        expected = TaskKilled if given is None or given is TaskKilled else given
        for _ in range(2):
            with pytest.raises(Exception) as info:
                await task.get()
            if isinstance(expected, type):
                assert type(info.value) is expected
            else:
                assert info.value is expected


async def test_task_killed_says_what_was_killed_and_why() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        await task.kill(reason="too old")
        with pytest.raises(TaskKilled, match=r"^trio\.sleep_forever was killed: too old$"):
            await task.get()
        other = await pool.spawn(trio.sleep_forever)
        await other.kill()
        with pytest.raises(TaskKilled, match=r"^trio\.sleep_forever was killed$"):
            await other.get()


async def test_those_who_wait_already_get_it_too() -> None:
    seen = []

    async def waiter(task: Task[None]) -> None:
        with pytest.raises(KeyError):
            await task.get()
        seen.append(1)

    async with Pool() as pool, trio.open_nursery() as nursery:
        task = await pool.spawn(trio.sleep_forever)
        nursery.start_soon(waiter, task)
        nursery.start_soon(waiter, task)
        await wait_all_tasks_blocked()
        await task.kill(KeyError)
    assert seen == [1, 1]


@every_kill
async def test_killed_call_that_returns_all_the_same_has_succeeded(
    kill: Callable[..., Awaitable[bool]],
) -> None:
    async def run() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            pass
        return "all the same"

    async with Pool() as pool:
        task = await pool.spawn(run)
        await wait_all_tasks_blocked()
        assert await kill(pool, task, KeyError) is True
        assert task.status is TaskStatus.SUCCEEDED
        assert await task == "all the same"


@every_kill
async def test_killed_call_that_raises_something_else_has_failed(
    kill: Callable[..., Awaitable[bool]],
) -> None:
    async def run() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    with pytest.raises(ExceptionGroup) as info:
        async with Pool() as pool:
            sibling = await pool.spawn(wait_all_tasks_blocked)
            task = await pool.spawn(run)
            await wait_all_tasks_blocked()
            assert await kill(pool, task, KeyError) is True
            assert task.status is TaskStatus.FAILED
    assert [type(error) for error in info.value.exceptions] == [Oops]
    assert sibling.ready()


@every_kill_or_nowait
async def test_killed_call_is_no_error(
    kill: Callable[..., Awaitable[bool]], caplog: pytest.LogCaptureFixture
) -> None:
    received: list[Task[Any]] = []
    for on_error in ("collect", "cancel", "log", received.append):
        async with Pool(on_error=on_error) as pool:  # type: ignore[arg-type]
            sibling = await pool.spawn(wait_all_tasks_blocked)
            await sibling
            task = await pool.spawn(trio.sleep_forever)
            await wait_all_tasks_blocked()
            await kill(pool, task, KeyError)
            assert task.exception is None
            assert task.value is None
            assert not task.successful()
            assert await pool.join(raise_error=True)
            assert await pool.apply(noop, (1,)) == 1
    assert (received, caplog.records) == ([], [])


async def test_error_in_a_group_with_cancelled_harms_no_sibling() -> None:
    # As of a nursery in the call, one child of which fails in its cleanup.
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    async def run(*_: object) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    async def in_place() -> None:
        inner = Task(run)
        scope = trio.CancelScope()
        with pytest.raises(ExceptionGroup) as info, scope:
            pool.apply_async(scope_cancel, (scope,))
            await pool.apply(run)
        assert info.value.split(Oops)[1] is None
        assert inner.status is TaskStatus.UNSTARTED

    async def scope_cancel(scope: trio.CancelScope) -> None:
        await wait_all_tasks_blocked()
        scope.cancel()

    async with Pool() as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        task = await pool.spawn(run)
        await wait_all_tasks_blocked()
        await task.kill()
        assert isinstance(task.exception, ExceptionGroup)
        assert task.exception.split(Oops)[1] is None
        results = pool.imap(run, [1])
        await wait_all_tasks_blocked()
        (row,) = [each for each in pool if each is not sibling]
        await row.kill()
        with pytest.raises(ExceptionGroup):
            await anext(results)
        await (await pool.spawn(in_place))
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


# What waits


@every_kill_or_nowait
async def test_call_without_a_slot_never_runs(kill: Callable[..., Awaitable[bool]]) -> None:
    ran = []
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep_forever)
        task = pool.apply_async(noop, (1,))
        task.link_value(ran.append)
        await kill(pool, task, KeyError)
        assert task.status is TaskStatus.KILLED
        with pytest.raises(KeyError):
            await task
        await pool.kill()
        await pool.join()
    assert ran == []


async def test_kill_takes_all_that_wait_for_a_slot(balanced: Callable[[Group], None]) -> None:
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep_forever)
        tasks = [pool.apply_async(noop) for _ in range(5)]
        await wait_all_tasks_blocked()
        assert await pool.kill() is True
        assert {task.status for task in tasks} == {TaskStatus.KILLED}
        balanced(pool)
        assert await pool.apply(noop, (1,)) == 1


@pytest.mark.parametrize("use", ["spawn", "apply"])
async def test_call_that_is_killed_while_it_waits_in_spawn_or_apply_never_runs(
    use: str, balanced: Callable[[Group], None]
) -> None:
    made: list[Task[Any]] = []
    ran: list[object] = []
    spawned: list[Task[Any]] = []

    class Known(Task[Any]):
        def __init__(self, func: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> None:
            super().__init__(func, *args, **kwargs)
            made.append(self)

    async def call() -> None:
        ran.append(None)

    async def ask(pool: Pool) -> None:
        if use == "spawn":
            spawned.append(await pool.spawn(call))
        else:
            with pytest.raises(KeyError):
                await pool.apply(call)

    async with Pool(1) as pool:
        blocker = pool.apply_async(trio.sleep_forever)
        pool.task_class = Known
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, pool)
            await wait_all_tasks_blocked()
            made[0].kill_nowait(KeyError)
            blocker.kill_nowait()
        assert [task.status for task in spawned] == [TaskStatus.KILLED] * (use == "spawn")
        assert ran == []
        await pool.join()
        balanced(pool)


async def test_kill_of_one_that_waits_in_line_leaves_the_others_their_turn() -> None:
    order: list[int] = []

    async def note(x: int) -> None:
        order.append(x)

    async with Pool(1) as pool:
        release = trio.Event()
        await pool.spawn(release.wait)
        tasks = [pool.apply_async(note, (x,)) for x in range(5)]
        await wait_all_tasks_blocked()
        await tasks[0].kill()
        await tasks[3].kill()
        release.set()
    assert order == [1, 2, 4]


async def test_calls_that_are_killed_as_soon_as_they_are_queued_harm_nobody_beside_them() -> None:
    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        queued = [pool.apply_async(noop, (x,)) for x in range(20)]
        results = pool.imap(noop, "ab")
        for task in queued[1::2]:
            task.kill_nowait()
        await wait_all_tasks_blocked()
        await blocker.kill()
        assert [await task for task in queued[::2]] == list(range(0, 20, 2))
        assert [each async for each in results] == ["a", "b"]


async def test_map_in_progress_raises_task_killed() -> None:
    for exception in (TaskKilled, KeyError):
        seen = []

        async def mapper(expected: type[Exception], seen: list[int] = seen) -> None:
            with pytest.raises(expected):
                await pool.map(trio.sleep, [0, float("inf"), float("inf")])
            seen.append(1)

        async with Pool(2) as pool, trio.open_nursery() as nursery:
            nursery.start_soon(mapper, exception)
            await wait_all_tasks_blocked()
            assert await pool.kill(exception) is True
            assert len(pool) == 0
        assert seen == [1]


async def test_map_that_waits_for_its_first_slot_raises_task_killed() -> None:
    ran = []

    async def row(x: int) -> None:
        ran.append(x)

    async def mapper() -> None:
        with pytest.raises(TaskKilled, match="row was killed: enough"):
            await pool.map(row, range(3))
        ran.append(-1)

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        await pool.spawn(trio.sleep_forever)
        nursery.start_soon(mapper)
        await wait_all_tasks_blocked()
        await pool.kill(reason="enough")
    assert ran == [-1]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, "TaskKilled"),
        ({"reason": "too old"}, "too old"),
        ({"exception": KeyError("gone")}, "KeyError('gone')"),
        ({"exception": KeyError, "reason": "too old"}, "too old"),
    ],
    ids=["default", "reason", "exception", "both"],
)
@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
async def test_the_rows_of_a_killed_pool_see_the_reason_or_else_the_exception(
    method: str, arguments: dict[str, Any], shown: str
) -> None:
    seen = Reasons()

    async def ask(pool: Pool) -> None:
        with pytest.raises((TaskKilled, KeyError)):
            if method == "map":
                await pool.map(seen.wait, range(2))
            else:
                await anext(getattr(pool, method)(seen.wait, range(2)))

    async with Pool() as pool, trio.open_nursery() as nursery:
        nursery.start_soon(ask, pool)
        await wait_all_tasks_blocked()
        assert await pool.kill(**arguments)
    assert seen.of == {0: shown, 1: shown}


@pytest.mark.parametrize("killed", ["pool", "task"])
async def test_the_rows_of_a_map_async_see_why_it_was_killed(killed: str) -> None:
    seen = Reasons()

    async with Pool() as pool:
        task = pool.map_async(seen.wait, range(2))
        await wait_all_tasks_blocked()
        assert await (pool if killed == "pool" else task).kill(reason="too old")
    assert seen.of == {0: "too old", 1: "too old"}
    assert task.status is TaskStatus.KILLED


@pytest.mark.parametrize("method", ["map", "imap"])
async def test_the_rows_of_a_member_see_why_their_pool_was_killed(method: str) -> None:
    seen = Reasons()

    async def member() -> None:
        if method == "map":
            await pool.map(seen.wait, ["row"])
        else:
            async for _ in pool.imap(seen.wait, ["row"]):
                pass

    async with Pool() as pool:
        task = await pool.spawn(member)
        await pool.spawn(seen.wait, "call")
        await wait_all_tasks_blocked()
        assert await pool.kill(reason="too old")
        assert task.status is TaskStatus.KILLED
    assert seen.of == {"call": "too old", "row": "too old"}


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
async def test_iterator_yields_what_it_has_and_then_raises_task_killed(method: str) -> None:
    async with Pool() as pool:
        results = getattr(pool, method)(trio.sleep, [0, 0, float("inf")])
        await wait_all_tasks_blocked()
        await pool.kill()
        assert await anext(results) is None
        assert await anext(results) is None
        for _ in range(2):
            with pytest.raises(TaskKilled):  # never a normal end
                await anext(results)
        await pool.join()


async def test_iterator_raises_the_exception_that_was_passed() -> None:
    async with Pool() as pool:
        results = pool.imap(trio.sleep, [float("inf")])
        await wait_all_tasks_blocked()
        await pool.kill(KeyError("gone"))
        with pytest.raises(KeyError, match="gone"):
            await anext(results)


async def test_iterator_that_is_done_is_not_affected() -> None:
    async with Pool() as pool:
        results = pool.imap(noop, range(3))
        await pool.join()
        await pool.kill()
        assert [x async for x in results] == [0, 1, 2]


async def test_all_readers_of_a_killed_iterator_get_task_killed() -> None:
    seen = []

    async def reader(results: AsyncIterator[None]) -> None:
        with pytest.raises(TaskKilled):
            await anext(results)
        seen.append(1)

    async with Pool() as pool, trio.open_nursery() as nursery:
        results = pool.imap(trio.sleep, [float("inf")] * 2)
        for _ in range(3):
            nursery.start_soon(reader, results)
        await wait_all_tasks_blocked()
        await pool.kill()
    assert seen == [1, 1, 1]


async def test_iterator_that_is_held_back_by_its_reader_is_killed() -> None:
    async with Pool() as pool:
        results = pool.imap(noop, range(100), maxsize=2)
        await wait_all_tasks_blocked()
        assert await pool.kill() is True
        seen: list[object] = []
        with pytest.raises(TaskKilled):
            async for x in results:
                assert x == len(seen)
                seen.append(x)
        assert seen == [0, 1]


async def rows_of(pool: Group, count: int) -> list[Task[Any]]:
    await wait_all_tasks_blocked()
    rows = sorted(pool, key=lambda task: task.args)
    assert len(rows) == count
    return rows


async def sleep_if(x: int) -> int:
    if x:
        await trio.sleep_forever()
    return x


@every_kill
async def test_row_that_was_killed_raises_at_its_place(
    kill: Callable[..., Awaitable[bool]],
) -> None:
    if kill is KILLS["pool.kill"]:
        return  # that takes all
    release = trio.Event()

    async def row(x: int) -> int:
        await release.wait()
        return x

    async with Pool() as pool:
        results = pool.imap(row, range(3))
        rows = await rows_of(pool, 3)
        assert await kill(pool, rows[1], KeyError("one")) is True
        assert rows[1].status is TaskStatus.KILLED
        release.set()
        assert await anext(results) == 0
        with pytest.raises(KeyError, match="one"):
            await anext(results)
        assert await anext(results) == 2
        assert rows[2].value == 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_killed_row_is_a_value_with_return_exceptions() -> None:
    async def map_all() -> list[Any]:
        return await pool.map(sleep_if, [0, 1, 0], return_exceptions=True)

    async with Pool() as pool, Pool() as other:
        task = await other.spawn(map_all)
        (row,) = await rows_of(pool, 1)
        await pool.killone(row)
        values = await task
        assert [values[0], values[2]] == [0, 0]
        assert isinstance(values[1], TaskKilled)


async def test_killed_row_makes_its_map_raise() -> None:
    async def map_all() -> None:
        with pytest.raises(TaskKilled):
            await pool.map(sleep_if, [1, 2, 3])

    async with Pool() as pool, Pool() as other:
        task = await other.spawn(map_all)
        rows = await rows_of(pool, 3)
        await pool.killone(rows[1])
        await task
        assert {row.status for row in rows} == {TaskStatus.KILLED}


async def test_killed_row_makes_its_map_async_task_a_killed_one() -> None:
    async with Pool() as pool:
        for exception in (KeyError("row"), TaskKilled("row")):
            task = pool.map_async(sleep_if, [1, 2])
            rows = await rows_of(pool, 2)
            await rows[0].kill(exception)
            with pytest.raises(type(exception), match="row"):
                await task
            assert task.status is TaskStatus.KILLED  # so it is no error, if nobody awaits it


async def test_killed_row_that_nobody_read_is_no_error() -> None:
    async with Pool() as pool:
        results = pool.imap(sleep_if, [1, 2])
        for row in await rows_of(pool, 2):
            await row.kill()
        await results.aclose()


async def test_kill_of_a_map_async_task_kills_its_map() -> None:
    async with Pool() as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        task = pool.map_async(sleep_if, [1, 2])
        await wait_all_tasks_blocked()
        assert len(pool) == 3
        assert await pool.killone(task) is True
        assert list(pool) == [sibling]
        with pytest.raises(TaskKilled):
            await task
        await sibling.kill()


async def test_kill_takes_callbacks_that_run() -> None:
    ended = []

    async def callback(_: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(1)

    async with Pool() as pool:
        pool.apply_async(noop, callback=callback)
        await wait_all_tasks_blocked()
        assert await pool.kill() is True
        assert ended == [1]


async def test_kill_takes_added_tasks() -> None:
    async with Pool() as owner, Pool(1) as pool:
        task = await owner.spawn(trio.sleep_forever)
        await pool.add(task)
        assert await pool.kill() is True
        assert task.status is TaskStatus.KILLED


async def test_callers_parked_in_spawn_are_not_killed_and_the_pool_goes_on() -> None:
    results = []

    async def spawner() -> None:
        results.append(await (await pool.spawn(noop, 1)))

    async def starter() -> None:
        task = Task(noop, 3)
        await pool.start(task)
        results.append(await task)

    async def applier() -> None:
        results.append(await pool.apply(noop, (2,)))

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        await pool.spawn(trio.sleep_forever)
        for caller in (spawner, starter, applier):
            nursery.start_soon(caller)
        await wait_all_tasks_blocked()
        assert await pool.kill() is True
    assert sorted(results) == [1, 2, 3]  # type: ignore[type-var]


async def test_start_returns_when_its_task_is_killed_while_it_waits(
    balanced: Callable[[Group], None],
) -> None:
    async with Pool(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        task = Task(noop, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start, task)
            await wait_all_tasks_blocked()
            await task.kill()
        assert task.status is TaskStatus.KILLED
        await blocker.kill()
        balanced(pool)


# block, timeout, and what it returns


@every_kill
async def test_kill_waits_until_it_is_over(
    kill: Callable[..., Awaitable[bool]], autojump_clock: MockClock
) -> None:
    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async with Pool() as pool:
        task = await pool.spawn(careful)
        await wait_all_tasks_blocked()
        assert await kill(pool, task, timeout=1) is False
        assert trio.current_time() == 1
        assert await kill(pool, task, block=False) is False
        assert await kill(pool, task, timeout=0) is False
        assert trio.current_time() == 1
        assert len(pool) == 1  # its slot is held until its cleanup is over
        assert await kill(pool, task) is True
        assert trio.current_time() == 5
        assert len(pool) == 0
        assert await kill(pool, task, block=False) is True


async def test_kill_waits_for_the_cleanup_of_maps_and_iterators(
    autojump_clock: MockClock,
) -> None:
    async def careful(x: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(x)

    async with Pool() as pool:
        results = pool.imap(careful, [1, 2])
        mapped = pool.map_async(careful, [3])
        await wait_all_tasks_blocked()
        assert await pool.kill(timeout=2.5) is False
        assert await pool.kill(block=False) is False
        assert await pool.kill() is True
        assert trio.current_time() == 3
        assert mapped.status is TaskStatus.KILLED
        await results.aclose()


async def test_kill_does_not_wait_for_what_is_started_meanwhile(autojump_clock: MockClock) -> None:
    async def careful() -> None:
        try:
            await trio.sleep_forever()
        finally:
            pool.spawn_nowait(trio.sleep, 10)

    async with Pool() as pool:
        await pool.spawn(careful)
        await wait_all_tasks_blocked()
        assert await pool.kill() is True
        assert trio.current_time() == 0
        assert len(pool) == 1
    assert trio.current_time() == 10


async def test_cancelled_kill_has_killed_all_the_same() -> None:
    async def careful() -> None:
        with trio.CancelScope(shield=True):
            await release.wait()
        await trio.lowlevel.checkpoint()

    release = trio.Event()
    async with Pool() as pool:
        task = await pool.spawn(careful)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.kill()
        assert scope.cancelled_caught
        release.set()
        await task.join()
        assert task.status is TaskStatus.KILLED


async def test_kill_of_an_empty_pool_is_a_checkpoint() -> None:
    async with Pool() as pool:
        with assert_checkpoints():
            assert await pool.kill() is True


# From inside


@every_kill
async def test_kill_from_inside_includes_the_caller_but_does_not_wait_for_it(
    kill: Callable[..., Awaitable[bool]],
) -> None:
    seen: list[object] = []

    async def run() -> None:
        task = current_task()
        try:
            seen.append(await kill(pool, task, reason="me too"))
            seen.append("not reached: kill is a checkpoint itself")
        except trio.Cancelled as cancelled:
            seen.append(cancelled.reason)
            raise

    async with Pool() as pool:
        task = await pool.spawn(run)
        await task.join()
        assert task.status is TaskStatus.KILLED
    assert seen == ["me too"]


@pytest.mark.parametrize("reuse", [True, False])
async def test_kill_nowait_from_inside_cancels_at_the_next_checkpoint(reuse: bool) -> None:
    seen = []

    async def run() -> None:
        pool.kill_nowait()
        seen.append("goes on")
        await trio.lowlevel.checkpoint()
        seen.append("not reached")

    async with Pool(reuse_tasks=reuse) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        task = await pool.spawn(run)
        await task.join()
        assert task.status is sibling.status is TaskStatus.KILLED
    assert seen == ["goes on"]


async def test_kill_from_a_nursery_below_a_member_does_not_wait_for_it() -> None:
    async def killer() -> None:
        with trio.CancelScope(shield=True):
            assert await pool.kill() is False

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(killer)
        await trio.lowlevel.checkpoint()

    async with Pool() as pool:
        task = await pool.spawn(run)
        await task.join()
        assert task.status is TaskStatus.KILLED


async def test_kill_from_a_shielded_member_waits_for_the_others(autojump_clock: MockClock) -> None:
    async def careful() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    async def run() -> None:
        with trio.CancelScope(shield=True):
            assert await pool.kill() is False
            assert trio.current_time() == 5
            assert list(pool) == [current_task()]

    async with Pool() as pool:
        await pool.spawn(careful)
        task = await pool.spawn(run)
        await task.join()
        assert task.status is TaskStatus.SUCCEEDED


async def test_kill_from_a_row_does_not_wait_for_its_own_map() -> None:
    async def row(x: int) -> None:
        with trio.CancelScope(shield=True):
            assert await pool.kill() is False
        await trio.lowlevel.checkpoint()

    async with Pool() as pool:
        with pytest.raises(TaskKilled):
            await pool.map(row, [1])


async def test_kill_from_a_call_in_place_does_not_wait_for_the_calls_around_it() -> None:
    async def inner() -> None:
        with trio.CancelScope(shield=True):
            assert await pool.kill() is False

    async def outer() -> None:
        await pool.apply(inner)
        await trio.lowlevel.checkpoint()

    async with Pool() as pool:
        task = await pool.spawn(outer)
        await task.join()
        assert task.status is TaskStatus.KILLED


async def test_call_in_place_has_a_kill_scope_of_its_own() -> None:
    inner: list[Task[Any]] = []

    async def run() -> None:
        task = current_task()
        assert task is not None
        inner.append(task)
        await trio.sleep_forever()

    async def outer() -> str:
        with pytest.raises(KeyError):
            await pool.apply(run)
        await trio.lowlevel.checkpoint()
        return "goes on"

    async with Pool() as pool:
        task = await pool.spawn(outer)
        await wait_all_tasks_blocked()
        assert await inner[0].kill(KeyError) is True
        assert await task == "goes on"


async def test_kill_of_the_call_around_one_in_place_kills_both() -> None:
    async def outer() -> None:
        try:
            await pool.apply(trio.sleep_forever)
        finally:
            inner.append(current_task())

    inner: list[object] = []
    async with Pool() as pool:
        task = await pool.spawn(outer)
        await wait_all_tasks_blocked()
        await task.kill()
        assert task.status is TaskStatus.KILLED
    assert inner == [task]


# Special care


async def test_first_kill_counts() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        await wait_all_tasks_blocked()
        task.kill_nowait(KeyError("first"), reason="first")
        task.kill_nowait(KeyError("second"))
        pool.kill_nowait(KeyError("third"))
        pool.cancel_scope.cancel()
        with trio.CancelScope(shield=True), pytest.raises(KeyError, match="first"):
            await task


@pytest.mark.parametrize("attempt", range(20))
async def test_kill_and_finish_in_one_tick_agree(
    attempt: int, balanced: Callable[[Group], None]
) -> None:
    """Whichever comes first: one status, one result, no slot lost, and nothing hits the next."""
    release = trio.Event()

    async def run() -> str:
        await release.wait()
        return "done"

    async def killer(task: Task[str]) -> None:
        await release.wait()
        await task.kill()

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        task = await pool.spawn(run)
        nursery.start_soon(killer, task)
        await wait_all_tasks_blocked()
        release.set()
        await task.join()
        if task.status is TaskStatus.SUCCEEDED:
            assert await task == "done"
        else:
            assert task.status is TaskStatus.KILLED
        assert await pool.apply(noop, (1,)) == 1
        balanced(pool)


async def test_call_that_was_killed_in_its_last_step_has_succeeded() -> None:
    async def run() -> str:
        task = current_task()
        assert task is not None
        task.kill_nowait()
        return "done"

    async with Pool() as pool:
        task = await pool.spawn(run)
        assert await task == "done"
        assert [await (await pool.spawn(noop, x)) for x in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("use", ["call", "row", "in place"])
async def test_scope_of_a_killed_worker_never_hits_the_next_call(use: str) -> None:
    # The call swallows the cancellation, or is over before it comes.
    async def swallow(_: object) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            pass

    async def finish(_: object) -> None:
        task = current_task()
        assert task is not None
        task.kill_nowait()

    async def in_place(run: Any) -> None:
        await pool.apply(run, (0,))
        await trio.lowlevel.checkpoint()

    async with Pool(1) as pool:
        for run in (finish,) if use == "in place" else (swallow, finish):
            for _ in range(5):
                if use == "call":
                    task = await pool.spawn(run, 0)
                elif use == "in place":
                    task = await pool.spawn(in_place, run)
                else:
                    results = pool.imap(run, [0])
                if run is swallow:
                    await wait_all_tasks_blocked()
                    member = next(iter(pool))
                    await member.kill()
                if use == "row":
                    assert [x async for x in results] == [None]
                else:
                    assert await task is None
                assert await pool.apply(noop, (1,)) == 1
                assert await pool.map(noop, range(3)) == [0, 1, 2]


async def test_call_can_shield_itself_from_its_kill(autojump_clock: MockClock) -> None:
    async def shielded() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return "done"

    async with Pool() as pool:
        task = await pool.spawn(shielded)
        await wait_all_tasks_blocked()
        assert await task.kill() is True
        assert trio.current_time() == 5
        assert await task == "done"


async def test_kill_takes_no_exception_that_is_none() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        for exception in (KeyboardInterrupt, SystemExit(), "no", None, int):
            with pytest.raises(TypeError, match=r"kill\(\) takes an Exception or a class of them"):
                task.kill_nowait(exception)  # type: ignore[arg-type]
            for kill in KILLS.values():
                with pytest.raises(TypeError, match=r"kill\(\) takes an Exception"):
                    await kill(pool, task, exception)
        assert task.status is TaskStatus.RUNNING
        await task.kill()


async def test_killone_of_a_stranger_is_a_value_error() -> None:
    async with Pool() as pool, Pool() as other:
        task = await other.spawn(trio.sleep_forever)
        with pytest.raises(ValueError, match=r"is not in .*; task.kill\(\) kills a task of any"):
            await pool.killone(task)
        assert task.status is TaskStatus.RUNNING
        await other.killone(task)
        assert await pool.killone(task) is True  # it is over


async def test_killone_takes_tasks_only() -> None:
    async with Pool() as pool:
        with pytest.raises(TypeError, match=r"killone\(\) takes a Task of this pool"):
            await pool.killone(noop)  # type: ignore[arg-type]


async def test_green_thread_cancel_kills_only_what_has_not_started() -> None:
    async with GreenPool(1) as pool:
        release = trio.Event()
        running = await pool.spawn(release.wait)
        waiting = pool.apply_async(noop)
        await wait_all_tasks_blocked()
        running.cancel()
        waiting.cancel()  # type: ignore[attr-defined]
        release.set()
        await running.wait()
        assert waiting.status is TaskStatus.KILLED
