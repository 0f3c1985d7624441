"""Task: what it is, the transitions of its table, waiting for it, links, and `current_task`."""

import functools
import gc
import traceback
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import Group, Pool, PoolDeadlock, PoolFull, Task, TaskKilled, TaskStatus, current_task


async def double(x: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * x


async def fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


async def make(pool: Pool, status: TaskStatus) -> Task[Any]:
    """A task of a `Pool(1)` in any of its states."""
    if status is TaskStatus.UNSTARTED:
        return Task(double, 21)
    if status is TaskStatus.WAITING:
        pool.spawn_nowait(trio.sleep_forever)
        return pool.apply_async(double, (21,))
    if status is TaskStatus.RUNNING:
        return await pool.spawn(trio.sleep_forever)
    if status is TaskStatus.SUCCEEDED:
        task: Task[Any] = await pool.spawn(double, 21)
    elif status is TaskStatus.FAILED:
        task = await pool.spawn(fail, ValueError("no"))
    else:
        task = await pool.spawn(trio.sleep_forever)
        task.kill_nowait()
    await task.join()
    return task


every_status = pytest.mark.parametrize("status", TaskStatus, ids=lambda status: status.name)
over = {TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.KILLED}

# What it is


async def test_task_made_by_hand_is_unstarted() -> None:
    task = Task(double, 1, x=2)
    assert task.status is TaskStatus.UNSTARTED
    assert (task.func, task.args, task.kwargs) == (double, (1,), {"x": 2})
    assert not task.started
    assert not task.ready()
    assert not task.successful()
    assert task.value is None
    assert task.exception is None


def test_task_needs_a_function_or_a_run_method() -> None:
    with pytest.raises(TypeError, match=r"async function, or a subclass that overrides run\(\)"):
        Task()


async def test_func_is_positional_only() -> None:
    async def echo(**kwargs: int) -> dict[str, int]:
        return kwargs

    async with Pool(1) as pool:
        task = Task(echo, func=1, self=2)
        await pool.start(task)
        assert await task == {"func": 1, "self": 2}


@every_status
async def test_what_each_status_means(status: TaskStatus) -> None:
    async with Pool(1) as pool:
        task = await make(pool, status)
        assert task.status is status
        assert task.ready() == (status in over)
        assert task.successful() == (status is TaskStatus.SUCCEEDED)
        assert task.started == (status not in {TaskStatus.UNSTARTED, TaskStatus.WAITING})
        assert task.value == (42 if status is TaskStatus.SUCCEEDED else None)
        assert (task.exception is not None) == (status is TaskStatus.FAILED)
        pool.kill_nowait()


@every_status
async def test_repr_shows_name_and_status(status: TaskStatus) -> None:
    async with Pool(1) as pool:
        task = await make(pool, status)
        assert repr(task) == f"<Task {task.name} {status.name} at {id(task):#x}>"
        task.exception  # noqa: B018  # looking at an error observes it
        pool.kill_nowait()


class Callable_:
    __module__ = None  # type: ignore[assignment]

    def __call__(self) -> Awaitable[int]:
        return double(1)

    def __repr__(self) -> str:
        return "<callable>"


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (double, f"{__name__}.double"),
        (functools.partial(functools.partial(double, 1)), f"{__name__}.double"),
        (Callable_(), "<callable>"),
    ],
    ids=["function", "partial", "object"],
)
def test_name_is_that_of_the_function(func: Callable[..., Awaitable[Any]], name: str) -> None:
    assert Task(func).name == name


class Answer(Task[int]):
    async def run(self) -> int:
        await trio.lowlevel.checkpoint()
        assert current_task() is self
        return 42


async def test_subclass_overrides_run() -> None:
    async with Pool(1) as pool:
        task = Answer()
        assert task.name == f"{__name__}.Answer"
        await pool.start(task)
        assert await task == 42
        assert task.name == f"{__name__}.Answer"


@pytest.mark.parametrize("end", sorted(over, key=lambda status: status.name))
async def test_function_and_arguments_are_released_when_it_is_done(
    end: TaskStatus, no_gc: None
) -> None:
    class Thing:
        pass

    async def run(how: TaskStatus, thing: Thing, *, more: Thing) -> None:
        if how is TaskStatus.FAILED:
            del thing, more
            raise ValueError
        if how is TaskStatus.KILLED:
            await trio.sleep_forever()

    things = [Thing(), Thing()]
    async with Pool(1) as pool:
        task = await pool.spawn(run, end, things[0], more=things[1])
        assert task.args == (end, things[0])
        await wait_all_tasks_blocked()
        task.kill_nowait()
        await task.join()
        assert task.status is end
        assert (task.func, task.args, task.kwargs) == (None, (), {})
        assert task.name.endswith(".run")
        refs = [weakref.ref(run), *map(weakref.ref, things)]
        task.exception  # noqa: B018
        del run
        things.clear()
        if end is not TaskStatus.FAILED:  # the traceback of an error has them
            assert [ref() for ref in refs] == [None, None, None]


# UNSTARTED, WAITING, RUNNING


async def test_start_of_unstarted_task_with_a_free_slot_runs_it() -> None:
    async with Pool(1) as pool:
        task = Task(double, 21)
        await pool.start(task)
        assert task.status is TaskStatus.RUNNING
        assert task.started
        assert await task == 42


async def test_start_of_unstarted_task_without_a_free_slot_makes_it_wait() -> None:
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        release = trio.Event()
        await pool.spawn(release.wait)
        task = Task(double, 21)
        nursery.start_soon(pool.start, task)
        await wait_all_tasks_blocked()
        assert task.status is TaskStatus.WAITING
        assert not task.started
        release.set()
        assert await task == 42


async def test_waiting_task_runs_when_there_is_a_slot() -> None:
    async with Pool(1) as pool:
        release = trio.Event()
        await pool.spawn(release.wait)
        task = pool.apply_async(trio.sleep_forever)
        assert task.status is TaskStatus.WAITING
        release.set()
        await wait_all_tasks_blocked()
        assert task.status is TaskStatus.RUNNING
        task.kill_nowait()


async def test_waiting_task_is_unstarted_again_when_start_is_cancelled(
    balanced: Callable[[Group], None],
) -> None:
    async with Pool(1) as pool:
        release = trio.Event()
        await pool.spawn(release.wait)
        task = Task(double, 21)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start, task)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert task.status is TaskStatus.UNSTARTED
        release.set()
        await pool.start(task)
        assert await task == 42
        balanced(pool)


async def test_waiting_task_is_unstarted_again_when_start_times_out(
    autojump_clock: trio.testing.MockClock, balanced: Callable[[Group], None]
) -> None:
    async with Pool(1) as pool:
        release = trio.Event()
        await pool.spawn(release.wait)
        task = Task(double, 21)
        with pytest.raises(PoolFull):
            await pool.start(task, timeout=5)
        assert trio.current_time() == 5
        assert task.status is TaskStatus.UNSTARTED
        with pytest.raises(PoolFull):
            await pool.start(task, blocking=False)
        assert task.status is TaskStatus.UNSTARTED
        release.set()
        await pool.start(task)
        assert await task == 42
        balanced(pool)


async def test_function_that_had_to_be_called_runs_only_when_the_start_succeeds() -> None:
    # Only a call tells that this lambda is async; its coroutine must not be left unawaited.
    async with Pool(1) as pool:
        release = trio.Event()
        await pool.spawn(release.wait)
        task = Task(lambda: double(21))
        with pytest.raises(PoolFull):
            await pool.start(task, blocking=False)
        release.set()
        await pool.start(task)
        assert await task == 42


async def test_awaitable_that_is_no_coroutine_can_be_dropped_unrun() -> None:
    class Later:
        def __await__(self) -> Any:
            return double(21).__await__()

    async with Pool(1) as pool:
        release = trio.Event()
        await pool.spawn(release.wait)
        task = Task(Later)
        with pytest.raises(PoolFull):
            await pool.start(task, blocking=False)
        release.set()
        await pool.start(task)
        assert await task == 42


@every_status
async def test_task_can_be_started_only_once(status: TaskStatus) -> None:
    async with Pool(1) as pool, Pool(2) as other:
        task = await make(pool, status)
        if status is TaskStatus.UNSTARTED:
            await other.start(task)
        with pytest.raises(RuntimeError, match="a task runs once; make a new one"):
            await other.start(task)
        task.exception  # noqa: B018
        pool.kill_nowait()


# To the end


@pytest.mark.parametrize("status", [TaskStatus.UNSTARTED, TaskStatus.WAITING, TaskStatus.RUNNING])
async def test_task_killed_before_its_first_line_never_runs(
    status: TaskStatus, balanced: Callable[[Group], None]
) -> None:
    async with Pool(1) as pool:
        ran = False

        async def run() -> None:
            nonlocal ran
            ran = True

        task: Task[None]
        if status is TaskStatus.UNSTARTED:
            task = Task(run)
        elif status is TaskStatus.WAITING:
            pool.spawn_nowait(trio.sleep_forever)
            task = pool.apply_async(run)
        else:
            task = pool.spawn_nowait(run)
        assert task.status is status
        task.kill_nowait()
        assert task.status is TaskStatus.KILLED  # at once
        with pytest.raises(TaskKilled):
            await task.get()
        await pool.kill()
        assert not ran
        balanced(pool)


async def test_call_that_returned_has_succeeded() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(double, 21)
        await task.join()
        assert (task.status, task.value) == (TaskStatus.SUCCEEDED, 42)


@pytest.mark.parametrize("error", [ValueError("no"), TaskKilled("no"), trio.TooSlowError()])
async def test_call_that_raised_has_failed(error: Exception) -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(fail, error)
        await task.join()
        assert task.status is TaskStatus.FAILED
        assert task.exception is error


async def test_call_out_of_which_cancelled_came_was_killed() -> None:
    async with Pool(2) as pool:
        killed = await pool.spawn(trio.sleep_forever)
        with_its_pool = await pool.spawn(trio.sleep_forever)
        await wait_all_tasks_blocked()
        await killed.kill()
        pool.cancel_scope.cancel()
    assert killed.status is with_its_pool.status is TaskStatus.KILLED


async def test_cancelled_in_a_group_with_an_error_is_a_failure_with_that_error() -> None:
    async def run() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("both", [cancelled, ValueError("no")]) from None

    async with Pool(1) as pool:
        task = await pool.spawn(run)
        await wait_all_tasks_blocked()
        await task.kill()
        assert task.status is TaskStatus.FAILED
        assert isinstance(task.exception, ExceptionGroup)
        assert [type(error) for error in task.exception.exceptions] == [ValueError]


async def test_group_of_nothing_but_cancelled_is_a_kill() -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                raise BaseExceptionGroup("only", [cancelled]) from None

    async with Pool(1) as pool:
        task = await pool.spawn(run)
        await wait_all_tasks_blocked()
        await task.kill()
        assert task.status is TaskStatus.KILLED


# Waiting for it


async def test_get_returns_the_value_again_and_again() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(double, 21)
        assert await task.get() == await task.get() == await task == 42


async def test_get_raises_the_error_again_and_again() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(fail, ValueError("no"))
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                await task.get()
        with pytest.raises(ValueError, match="no"):
            await task


async def test_all_who_wait_in_get_are_handed_the_error() -> None:
    caught = []

    async def reader(task: Task[None]) -> None:
        with pytest.raises(ValueError) as info:
            await task.get()
        caught.append(info.value)

    error = ValueError()
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        task = await pool.spawn(fail, error)
        for _ in range(3):
            nursery.start_soon(reader, task)
    assert caught == [error] * 3


async def test_get_of_an_unstarted_task_waits_for_its_start() -> None:
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        task = Task(double, 21)
        nursery.start_soon(task.join)
        await wait_all_tasks_blocked()
        await pool.start(task)
        assert await task == 42


async def test_get_raises_too_slow_error_on_timeout_and_the_call_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(trio.sleep, 10)
        with pytest.raises(trio.TooSlowError, match=r"trio\.sleep is not over after 3 seconds"):
            await task.get(timeout=3)
        assert trio.current_time() == 3
        assert task.status is TaskStatus.RUNNING
        assert await task.get(timeout=10) is None
        assert trio.current_time() == 10


async def test_get_with_timeout_0_looks_once() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(double, 21)
        with pytest.raises(trio.TooSlowError):
            await task.get(timeout=0)
        await task.join()
        assert await task.get(timeout=0) == 42


async def test_join_says_whether_it_is_over(autojump_clock: trio.testing.MockClock) -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(trio.sleep, 10)
        assert await task.join(timeout=3) is False
        assert trio.current_time() == 3
        assert await task.join(timeout=0) is False
        assert await task.join() is True
        assert await task.join(timeout=0) is True


async def test_join_raises_no_error_of_the_call_and_does_not_observe_it() -> None:
    with pytest.raises(ExceptionGroup):
        async with Pool(1) as pool:
            task = await pool.spawn(fail, ValueError())
            assert await task.join()


@pytest.mark.parametrize("method", ["get", "join", "__await__"])
async def test_cancelled_waiter_leaves_the_call_running(method: str) -> None:
    async def waiter(task: Task[None]) -> None:
        if method == "__await__":
            await task
        else:
            await getattr(task, method)()

    async with Pool(1) as pool:
        task = await pool.spawn(trio.sleep_forever)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter, task)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert task.status is TaskStatus.RUNNING
        await task.kill()


@pytest.mark.parametrize("method", ["get", "join"])
@pytest.mark.parametrize("inside", ["itself", "below"])
async def test_task_cannot_wait_for_itself(method: str, inside: str) -> None:
    async def run() -> None:
        task = current_task()
        assert task is not None
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            await getattr(task, method)()

    async def below() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)

    async with Pool(1) as pool:
        await (await pool.spawn(run if inside == "itself" else below))


@pytest.mark.parametrize("end", [TaskStatus.SUCCEEDED, TaskStatus.KILLED, TaskStatus.RUNNING])
async def test_get_and_join_and_kill_are_checkpoints(end: TaskStatus) -> None:
    async with Pool(1) as pool:
        task = await make(pool, end)
        with trio.testing.assert_checkpoints():
            await task.kill(block=False)
        with trio.testing.assert_checkpoints():
            await task.kill()
        with trio.testing.assert_checkpoints():
            await task.join()
        with trio.testing.assert_checkpoints():
            try:
                await task.get()
            except TaskKilled:
                pass


async def test_call_may_wait_for_one_that_another_call_runs_in_place() -> None:
    started: list[Task[Any]] = []

    async def inner() -> str:
        task = current_task()
        assert task is not None
        started.append(task)
        await wait_all_tasks_blocked()
        return "done"

    async def outer() -> None:
        await pool.apply(inner)

    async def waiter() -> str:
        while not started:
            await trio.lowlevel.checkpoint()
        return str(await started[0])

    async with Pool(2) as pool:
        task = await pool.spawn(waiter)
        await pool.spawn(outer)
        assert await task == "done"


async def test_call_may_wait_for_a_map_async_of_its_own_on_its_own_slot() -> None:
    async def run() -> list[int]:
        return await pool.map_async(double, [1, 2])

    async with Pool(1) as pool:
        assert await (await pool.spawn(run)) == [2, 4]


async def test_waiting_below_a_call_for_a_map_async_that_gets_no_slot_is_a_deadlock() -> None:
    async def child() -> None:
        task = pool.map_async(double, [1, 2])
        with pytest.raises(PoolDeadlock):
            await task
        task.kill_nowait()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async with Pool(1) as pool:
        await (await pool.spawn(run))


async def test_ring_of_calls_that_wait_for_each_other_is_a_deadlock() -> None:
    errors: list[Exception] = []
    tasks: list[Task[Any]] = []

    async def inner() -> None:
        task = current_task()
        assert task is not None
        tasks.append(task)
        await tasks[0]

    async def first() -> None:
        while len(tasks) < 2:
            await trio.lowlevel.checkpoint()
        await tasks[1]

    async def second() -> None:
        await pool.apply(inner)

    async with Pool(2) as pool:
        tasks.append(await pool.spawn(first))
        other = await pool.spawn(second)
        for task in (tasks[0], other):
            try:
                await task
            except PoolDeadlock as error:
                errors.append(error)
    assert errors


# Errors


async def test_error_shows_the_users_frames_first_and_few_others() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(fail, ValueError())
        await task.join()
        exception = task.exception
        assert exception is not None
        frames = traceback.extract_tb(exception.__traceback__)
        assert [frame.name for frame in frames] == ["fail"]
        with pytest.raises(ValueError) as info:
            await task.get()
        names = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
        assert names[-1] == "fail"
        assert len(names) <= 5


async def test_raising_the_same_error_again_does_not_grow_it() -> None:
    async def depth() -> tuple[int, BaseException | None]:
        try:
            raise KeyError("context of the reader")
        except KeyError:
            with pytest.raises(ValueError) as info:
                await task.get()
        return len(traceback.extract_tb(info.value.__traceback__)), info.value.__context__

    async with Pool(1) as pool:
        task = await pool.spawn(fail, ValueError())
        await task.join()
        first, context = await depth()
        for _ in range(3):
            assert await depth() == (first, None)
        assert context is None
        assert task.exception is not None


async def test_error_keeps_the_context_that_it_had() -> None:
    async def run() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            await fail(ValueError("then"))

    async with Pool(1) as pool:
        task = await pool.spawn(run)
        for _ in range(2):
            with pytest.raises(ValueError, match="then") as info:
                await task.get()
            assert isinstance(info.value.__context__, KeyError)


async def test_error_raised_by_get_is_in_no_reference_cycle(no_gc: None) -> None:
    class Thing:
        pass

    async def run() -> None:
        thing = Thing()
        refs.append(weakref.ref(thing))
        await trio.lowlevel.checkpoint()
        raise ValueError

    async def read(tasks: list[Task[None]]) -> None:
        # A frame that has the task itself is in a cycle of its own making.
        try:
            await tasks.pop().get()
        except ValueError:
            pass

    refs: list[weakref.ref[Thing]] = []
    async with Pool(2) as pool:
        tasks = [await pool.spawn(run)]
        await read(tasks)
        tasks.append(await pool.spawn(run))
        await tasks[0].join()
        await read(tasks)
        await wait_all_tasks_blocked()
        assert [ref() for ref in refs] == [None, None]


# Links


@pytest.mark.parametrize("end", sorted(over, key=lambda status: status.name))
async def test_link_calls_back_when_it_is_over_however_it_ends(end: TaskStatus) -> None:
    seen: list[str] = []

    def note(kind: str) -> Callable[[Task[Any]], None]:
        def callback(done: Task[Any]) -> None:
            assert done is task
            assert done.status is end
            seen.append(kind)

        return callback

    async with Pool(1) as pool:
        task: Task[Any] = Task(double, 1)
        if end is TaskStatus.FAILED:
            task = Task(fail, ValueError())
        task.link(note("any"))
        task.link_value(note("value"))
        task.link_exception(note("exception"))
        if end is TaskStatus.KILLED:
            task.kill_nowait()
        else:
            await pool.start(task)
            await task.join()
        special = {TaskStatus.SUCCEEDED: ["value"], TaskStatus.FAILED: ["exception"]}
        assert seen == ["any", *special.get(end, [])]
        # Those that come late are called at once.
        task.link(note("any"))
        task.link_value(note("value"))
        task.link_exception(note("exception"))
        assert seen == ["any", *special.get(end, [])] * 2
        task.exception  # noqa: B018


async def test_links_are_called_in_the_order_of_linking_before_waiters_wake() -> None:
    seen: list[object] = []

    async def waiter(task: Task[int]) -> None:
        await task.get()
        seen.append("waiter")

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        task = await pool.spawn(double, 1)
        nursery.start_soon(waiter, task)
        await trio.lowlevel.checkpoint()
        for number in range(5):
            link = task.link if number % 2 else task.link_value
            link(functools.partial(lambda number, _: seen.append(number), number))
    assert seen == [0, 1, 2, 3, 4, "waiter"]


async def test_link_added_by_a_link_is_called_at_once() -> None:
    seen: list[str] = []

    def first(task: Task[int]) -> None:
        task.link(lambda _: seen.append("inner"))
        seen.append("first")

    async with Pool(1) as pool:
        task = await pool.spawn(double, 1)
        task.link(first)
        task.link(lambda _: seen.append("second"))
    assert seen == ["inner", "first", "second"]


async def test_unlink_takes_back_one_link() -> None:
    seen: list[str] = []

    def callback(_: object) -> None:
        seen.append("twice linked")

    async with Pool(1) as pool:
        task = await pool.spawn(double, 1)
        task.unlink(callback)  # nothing to take back: no error
        task.link(lambda _: seen.append("other"))
        task.link(callback)
        task.link_value(callback)
        task.unlink(callback)
        await task.join()
        task.unlink(callback)
    assert seen == ["other", "twice linked"]


async def test_link_can_unlink_one_that_comes_after_it() -> None:
    seen: list[str] = []

    def second(_: object) -> None:
        seen.append("second")

    async with Pool(1) as pool:
        task = await pool.spawn(double, 1)
        task.link(lambda done: done.unlink(second))
        task.link(second)
        task.link(lambda _: seen.append("third"))
    assert seen == ["third"]


async def test_link_that_raises_joins_the_unobserved_errors_and_the_rest_run() -> None:
    seen: list[str] = []

    def bad(_: object) -> None:
        raise KeyError("link")

    with pytest.raises(ExceptionGroup) as info:
        async with Pool(1) as pool:
            task = await pool.spawn(double, 21)
            task.link(bad)
            task.link(lambda _: seen.append("the rest"))
            assert await task == 42
            task.link(bad)  # at once, and not into the face of whoever links
    assert seen == ["the rest"]
    assert [type(error) for error in info.value.exceptions] == [KeyError, KeyError]
    frames = traceback.extract_tb(info.value.exceptions[0].__traceback__)
    assert [frame.name for frame in frames] == ["bad"]


async def test_link_of_an_unstarted_task_that_raises_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bad(_: object) -> None:
        raise KeyError("link")

    task = Task(double, 1)
    task.link(bad)
    task.kill_nowait()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]
    assert "bad" in caplog.text


async def test_late_link_that_raises_after_the_block_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bad(_: object) -> None:
        raise KeyError("link")

    async with Pool() as pool:
        task = await pool.spawn(double, 1)
    task.link(bad)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]


@pytest.mark.parametrize("method", ["link", "link_value", "link_exception"])
def test_link_must_be_callable(method: str) -> None:
    task = Task(double, 1)
    with pytest.raises(TypeError, match="a sync function of one argument, the task, not None"):
        getattr(task, method)(None)


@pytest.mark.parametrize("method", ["link", "link_value", "link_exception"])
def test_link_must_be_a_sync_function(method: str) -> None:
    # The coroutine of an async one would be dropped without a run.
    task = Task(double, 1)
    with pytest.raises(TypeError, match="a sync function of one argument, the task, not"):
        getattr(task, method)(double)


async def test_links_are_released_when_it_is_done(no_gc: None) -> None:
    def callback(_: object) -> None:
        pass

    async with Pool(1) as pool:
        task = await pool.spawn(double, 1)
        task.link(callback)
        task.link_exception(callback)
        await task
        ref = weakref.ref(callback)
        del callback
        assert ref() is None


# Killing. More of it is in test_rule_05_kill.py.


async def test_kill_of_a_task_that_is_over_does_nothing() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(double, 21)
        await task.join()
        assert await task.kill() is True
        task.kill_nowait()
        assert task.status is TaskStatus.SUCCEEDED
        assert await task == 42


async def test_kill_of_an_unstarted_task_needs_no_pool() -> None:
    task = Task(double, 1)
    assert await task.kill(KeyError) is True
    with pytest.raises(KeyError):
        await task.get()


# current_task


async def test_current_task_is_the_task_that_one_is_inside_of() -> None:
    async def who() -> Task[Any] | None:
        await trio.lowlevel.checkpoint()
        return current_task()

    async with Pool(2) as pool:
        task = await pool.spawn(who)
        assert await task is task


async def test_current_task_of_a_nursery_below_a_call_is_that_call() -> None:
    seen: list[Task[Any] | None] = []

    async def child() -> None:
        seen.append(current_task())

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async with Pool(1) as pool:
        task = await pool.spawn(run)
        await task
    assert seen == [task]


async def test_current_task_is_the_innermost_call() -> None:
    async def inner() -> Task[Any] | None:
        return current_task()

    async def outer() -> None:
        mine = current_task()
        in_place = await pool.apply(inner)
        assert in_place not in (mine, None)
        async with Pool(1) as other:
            task = await other.spawn(inner)
            assert await task is task
        assert current_task() is mine

    async with Pool(1) as pool:
        task = await pool.spawn(outer)
        await task


async def test_current_task_in_a_row_of_a_map() -> None:
    async def row(x: int) -> None:
        task = current_task()
        assert task is not None
        assert (task.args, task.status) == ((x,), TaskStatus.RUNNING)
        assert task is current_task()
        assert task in pool

    async with Pool(2) as pool:
        await pool.map(row, range(5))


async def test_current_task_is_none_outside_of_calls() -> None:
    async with Pool(1) as pool:
        assert current_task() is None
        await pool.spawn(double, 1)
        assert current_task() is None
        assert await trio.to_thread.run_sync(current_task) is None


def test_current_task_is_none_outside_of_trio() -> None:
    assert current_task() is None


async def test_current_task_is_none_in_an_iterable_that_is_pulled_for_a_map() -> None:
    seen = []

    def rows() -> Any:
        seen.append(current_task())
        yield 1

    async with Pool(1) as pool:
        assert await pool.map(double, rows()) == [2]
    assert seen == [None]


async def test_finished_task_is_in_no_reference_cycle(no_gc: None) -> None:
    async with Pool(2) as pool:
        refs = []
        for _ in range(3):
            task = await pool.spawn(double, 1)
            refs.append(weakref.ref(task))
            await task
        task = await pool.spawn(trio.sleep_forever)
        refs.append(weakref.ref(task))
        await task.kill()
        del task
        await wait_all_tasks_blocked()
        assert [ref() for ref in refs] == [None] * 4
    assert gc.isenabled() is False


async def test_a_class_of_tasks_may_keep_the_function_to_itself():
    class Doubled(Task[int]):
        def __init__(self, func, *args):
            super().__init__()
            self.call = functools.partial(func, *args)

        async def run(self):
            return 2 * await self.call()

    async def one():
        return 1

    async with Pool(1) as pool:
        pool.task_class = Doubled
        assert await (await pool.spawn(one)) == 2
