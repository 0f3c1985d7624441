"""Rule 12: calls are isolated, though they share Trio tasks."""

import collections
import contextlib
import contextvars
import functools
import logging
import signal
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.lowlevel import currently_ki_protected
from trio.testing import MockClock, wait_all_tasks_blocked

import triopool
from triopool import GreenPile, GreenPool, Group, Pool, Task, TaskStatus, current_task

HERE = str(Path(triopool.__file__).parent)
var: contextvars.ContextVar[object] = contextvars.ContextVar("var")


class Oops(Exception):
    pass


async def noop(x: object = None) -> object:
    await trio.lowlevel.checkpoint()
    return x


# Contexts


async def swap(x: object = None) -> object:
    """Return what the context has, and leave something else in it."""
    await trio.lowlevel.checkpoint()
    before = var.get(None)
    var.set(x)
    await trio.lowlevel.checkpoint()
    assert var.get() is x
    return before


async def by_hand(pool: Pool) -> object:
    task = Task(swap, "call")
    await pool.start(task)
    return await task


async def in_place(pool: Pool) -> object:
    async def outer() -> object:
        mine = var.get()
        seen = await pool.apply(swap, ("call",))
        assert var.get() is mine
        return seen

    return await (await pool.spawn(outer))


async def from_map_async(pool: Pool) -> object:
    task = pool.map_async(swap, range(5))
    var.set("changed")
    return one_of(await task)


async def from_imap(pool: Pool, name: str) -> object:
    results = getattr(pool, name)(swap, range(5))
    var.set("changed")
    return one_of([x async for x in results])


async def queued(pool: Pool) -> object:
    while not pool.full():
        pool.spawn_nowait(noop)
    task = pool.apply_async(swap, ("call",))
    assert task.status is TaskStatus.WAITING
    var.set("changed")
    return await task


def one_of(seen: list[object]) -> object:
    assert len(set(seen)) == 1
    return seen[0]


async def seen_by_callback(pool: Pool) -> object:
    seen = []

    async def callback(_: object) -> None:
        seen.append(await swap("callback"))

    await pool.apply_cb(noop, (), {}, callback)
    # It runs in the task of whoever called, like any function that one awaits.
    assert var.get() == "callback"
    return seen[0]


async def with_pile(pool: Pool) -> object:
    pile: GreenPile[object] = GreenPile(pool)
    for _ in range(3):
        await pile.spawn(swap, "call")
    return one_of([x async for x in pile])


ASKS: dict[str, Callable[[Pool], Awaitable[object]]] = {
    "spawn": lambda pool: pool.spawn(swap, "call"),
    "spawn_nowait": lambda pool: pool.spawn_nowait(swap, "call").get(),
    "start": by_hand,
    "apply": lambda pool: pool.apply(swap, ("call",)),
    "apply_cb": seen_by_callback,
    "apply_async": lambda pool: pool.apply_async(swap, ("call",)).get(),
    "apply_async-queued": queued,
    "in-place": in_place,
    "map_async": from_map_async,
    "imap": lambda pool: from_imap(pool, "imap"),
    "imap_unordered": lambda pool: from_imap(pool, "imap_unordered"),
    "pile": with_pile,
}


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
async def test_each_call_starts_in_a_fresh_copy_of_the_context_of_whoever_asked(
    ask: Callable[[Pool], Awaitable[Any]], reuse: bool
) -> None:
    async with Pool(2, reuse_tasks=reuse) as pool:
        for _ in range(3):
            for mine in ("mine", "other"):
                var.set(mine)
                seen = await ask(pool)
                if isinstance(seen, Task):
                    seen = await seen
                assert seen == mine
                if var.get() != mine:
                    assert var.get() in ("changed", "callback")  # by the test itself


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("size", [1, 3, None])
async def test_each_row_starts_in_a_fresh_copy(
    reuse: bool, checkpoint: bool, size: int | None
) -> None:
    async def row(x: int) -> object:
        if checkpoint:
            await trio.lowlevel.checkpoint()
        before = var.get(None)
        if x % 2:
            var.set(x)
        return before

    async with Pool(size, reuse_tasks=reuse) as pool:
        var.set("mine")
        assert await pool.map(row, range(50)) == ["mine"] * 50
        assert [x async for x in pool.imap(row, range(50))] == ["mine"] * 50
        assert [x async for x in pool.imap(row, iter(list(range(50))))] == ["mine"] * 50
        assert [x async for x in pool.imap(row, (x for x in range(50)))] == ["mine"] * 50
        assert var.get() == "mine"


async def test_equal_but_distinct_value_does_not_leak_into_the_next_row() -> None:
    # Contexts have to be compared by identity.
    async def row(x: int) -> tuple[int, bool]:
        mine = var.get()
        var.set([])
        return x, mine is original

    original: list[int] = []
    var.set(original)
    async with Pool(1) as pool:
        assert await pool.map(row, range(5)) == [(x, True) for x in range(5)]


async def test_variable_that_a_row_swapped_for_another_does_not_leak() -> None:
    a, b = (contextvars.ContextVar[int](name) for name in "ab")

    async def row(_: int) -> tuple[object, object]:
        seen = a.get(None), b.get(None)
        if "token" in tokens:
            b.set(1)
        return seen

    tokens = ["token"]
    async with Pool(1) as pool:
        a.set(1)
        assert await pool.map(row, range(5)) == [(1, None)] * 5


async def test_calls_do_not_see_what_was_set_after_they_were_asked_for() -> None:
    async with Pool(1) as pool:
        await pool.spawn(noop)
        var.set("then")
        waiting = pool.apply_async(swap)
        await pool.join()
        var.set("now")
        assert await waiting == "then"


async def test_queued_calls_keep_their_own_contexts() -> None:
    async with Pool(2) as pool:
        blockers = [await pool.spawn(wait_all_tasks_blocked) for _ in range(2)]
        tasks = []
        for number in range(10):
            var.set(number)
            tasks.append(pool.apply_async(swap))
        assert [await task for task in tasks] == list(range(10))
        assert all(task.ready() for task in blockers)


# Names


@pytest.mark.parametrize("reuse", [True, False])
async def test_trio_task_is_named_after_the_call_while_it_runs_it(reuse: bool) -> None:
    async def first(*_: object) -> str:
        await trio.lowlevel.checkpoint()
        return trio.lowlevel.current_task().name

    async def second(*_: object) -> str:
        return trio.lowlevel.current_task().name

    name = f"{__name__}.{test_trio_task_is_named_after_the_call_while_it_runs_it.__name__}"
    async with Pool(1, reuse_tasks=reuse) as pool:
        for _ in range(2):
            for func in (first, second):
                expected = f"{name}.<locals>.{func.__name__}"
                task = await pool.spawn(func)
                assert await task == task.name == expected
                assert await pool.apply(func) == expected
                assert await pool.apply_async(functools.partial(func)) == expected
                assert await pool.map(func, range(3)) == [expected] * 3
                assert [x async for x in pool.imap(func, range(3))] == [expected] * 3


async def test_trio_task_of_no_call_is_named_after_its_pool() -> None:
    async with Pool() as pool:
        await pool.map(noop, range(3))
        await wait_all_tasks_blocked()
        nursery = trio.lowlevel.current_task().child_nurseries[-1]
        names = {task.name for task in nursery.child_tasks}
        assert names == {f"idle worker of Pool at {id(pool):#x}"}


# Tracebacks


async def deep(x: object = None) -> None:
    await deeper(x)


async def deeper(x: object) -> None:
    await trio.lowlevel.checkpoint()
    raise Oops(x)


def frames(error: BaseException | None) -> list[str]:
    assert error is not None
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("reuse", [True, False])
async def test_stored_traceback_has_no_frame_of_a_worker(reuse: bool) -> None:
    async def inner() -> BaseException | None:
        try:
            await pool.apply(deep)
        except Oops as error:
            return error
        return None

    async with Pool(reuse_tasks=reuse) as pool:
        task = await pool.spawn(deep)
        await task.join()
        assert frames(task.exception) == ["deep", "deeper"]
        lambda_ = await pool.spawn(lambda: deep())  # known to be async only by its call
        await lambda_.join()
        assert frames(lambda_.exception) == ["deep", "deeper"]
        for error in await pool.map(deep, range(3), return_exceptions=True):
            assert frames(error) == ["deep", "deeper"]
        async for error in pool.imap(lambda x: deep(x), range(3), return_exceptions=True):
            assert frames(error) == ["deep", "deeper"]  # type: ignore[arg-type]
        error = await (await pool.spawn(inner))
        assert frames(error)[-2:] == ["deep", "deeper"]


async def test_clear_frames_on_a_caught_error_hurts_no_worker() -> None:
    # unittest's assertRaises does this.
    async def catch(awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Oops as error:
            traceback.clear_frames(error.__traceback__)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
        else:
            pytest.fail("no error")

    async def inside() -> str:
        await catch(pool.apply(deep))
        await catch(pool.map(deep, range(3)))
        return "alive"

    async with Pool(2) as pool:
        for _ in range(2):
            task = await pool.spawn(deep)
            await catch(task.get())
            await catch(task.get())
            await catch(pool.apply(deep))
            await catch(pool.map(deep, range(5)))
            results = pool.imap(deep, range(5))
            for _ in range(5):
                await catch(anext(results))
            assert await (await pool.spawn(inside)) == "alive"
            assert await pool.map(noop, range(10)) == list(range(10))


@pytest.mark.parametrize("use", ["map", "get", "imap", "apply"])
async def test_error_shows_the_users_frames_first_and_few_of_triopools(use: str) -> None:
    async with Pool() as pool:
        with pytest.raises(Oops) as info:
            if use == "map":
                await pool.map(deep, [1])
            elif use == "get":
                await (await pool.spawn(deep)).get()
            elif use == "apply":
                await pool.apply(deep)
            else:
                await anext(pool.imap(deep, [1]))
        files = [f.filename for f in traceback.extract_tb(info.value.__traceback__)]
        assert files[0] == files[-1] == files[-2] == __file__
        assert sum(file.startswith(HERE) for file in files) <= 4


@pytest.mark.parametrize("end", ["failed", "killed"])
async def test_stored_error_does_not_grow_when_it_is_raised_twice(end: str) -> None:
    async with Pool() as pool:
        task = await pool.spawn(deep if end == "failed" else trio.sleep_forever)
        await wait_all_tasks_blocked()
        await task.kill(Oops())
        seen = []
        for _ in range(4):
            with pytest.raises(Oops) as info:
                await task.get()
            seen.append((info.value, len(frames(info.value))))
        assert len(set(seen)) == 1


# What a call leaves behind


async def leave_a_nursery_open(ended: list[object], error: BaseException | None = None) -> str:
    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("child")

    # What an async generator does that is suspended inside of its `async with`.
    nursery = await trio.open_nursery().__aenter__()
    nursery.start_soon(child)
    await trio.lowlevel.checkpoint()
    if error is not None:
        raise error
    return "done"


async def leave_a_scope_open(scope: trio.CancelScope, error: BaseException | None = None) -> str:
    scope.__enter__()
    if error is not None:
        raise error
    return "done"


async def use_all(pool: Pool) -> None:
    assert await pool.apply(noop, (1,)) == 1
    assert await pool.map(noop, range(5)) == list(range(5))
    tasks = [await pool.spawn(noop, x) for x in range(5)]
    assert [await task for task in tasks] == list(range(5))


every_reuse = pytest.mark.parametrize("reuse", [True, False])


@every_reuse
@pytest.mark.parametrize("use", ["spawn", "map", "imap"])
async def test_call_that_leaves_a_nursery_open_fails_and_harms_no_sibling(
    use: str, reuse: bool
) -> None:
    ended: list[object] = []
    call = functools.partial(leave_a_nursery_open, ended)
    async with Pool(3, reuse_tasks=reuse) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        with pytest.raises(RuntimeError, match="ended with a nursery still open"):
            if use == "spawn":
                await (await pool.spawn(call))
            elif use == "map":
                await pool.map(lambda _: call(), [1])
            else:
                await anext(pool.imap(lambda _: call(), [1]))
        await wait_all_tasks_blocked()
        assert ended == ["child"]  # cancelled, since nobody would have waited for it
        await use_all(pool)
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


@every_reuse
async def test_call_that_leaves_a_nursery_open_when_the_pool_is_closing_is_no_trouble(
    reuse: bool,
) -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with Pool(reuse_tasks=reuse) as pool:
            await pool.spawn(leave_a_nursery_open, [])
    assert [type(error) for error in info.value.exceptions] == [RuntimeError]


@every_reuse
async def test_error_of_a_call_that_left_a_nursery_open_is_its_error(reuse: bool) -> None:
    async with Pool(reuse_tasks=reuse) as pool:
        task = await pool.spawn(leave_a_nursery_open, [], Oops())
        with pytest.raises(Oops):
            await task
        await use_all(pool)


@every_reuse
async def test_killed_call_that_left_a_nursery_open(reuse: bool) -> None:

    async def run() -> None:
        await leave_a_nursery_open([])
        await trio.sleep_forever()

    async with Pool(reuse_tasks=reuse) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        task = await pool.spawn(run)
        await wait_all_tasks_blocked()
        await task.kill()
        await use_all(pool)
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


async def test_block_that_is_cancelled_with_a_nursery_left_open_in_it() -> None:
    with trio.CancelScope() as scope:
        async with Pool() as pool:
            task = await pool.spawn(leave_a_nursery_open, [])
            await task.join()
            await wait_all_tasks_blocked()
            assert isinstance(task.exception, RuntimeError)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


@every_reuse
@pytest.mark.parametrize("use", ["spawn", "map", "imap"])
@pytest.mark.parametrize("late", [True, False])
async def test_scope_that_a_call_left_open_does_not_hit_the_next(
    use: str, reuse: bool, late: bool
) -> None:
    scope = trio.CancelScope()
    call = functools.partial(leave_a_scope_open, scope)
    async with Pool(3, reuse_tasks=reuse) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        if not late:
            scope.cancel()
        if use == "spawn":
            assert await (await pool.spawn(call)) == "done"
        elif use == "map":
            assert await pool.map(lambda _: call(), [1]) == ["done"]
        else:
            assert await anext(pool.imap(lambda _: call(), [1])) == "done"
        if late:
            scope.cancel()
        for _ in range(3):
            await use_all(pool)
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


async def test_scope_with_a_deadline_that_a_row_left_open_does_not_hit_the_next_row(
    autojump_clock: MockClock,
) -> None:

    async def row(x: int) -> int:
        if x == 0:
            await leave_a_scope_open(trio.CancelScope(deadline=trio.current_time() + 1))
        else:
            await trio.sleep(1)
        return x

    async with Pool(1) as pool:
        assert await pool.map(row, range(5)) == list(range(5))


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
async def test_scope_that_a_link_of_a_row_left_open_does_not_hit_the_next_row(fails: bool) -> None:
    go_on = trio.Event()

    async def row(x: int) -> int:
        await (noop() if x else go_on.wait())
        if fails and not x:
            raise Oops
        return x

    def leave_open(_: object) -> None:
        scope = trio.CancelScope()
        scope.__enter__()
        scope.cancel()

    async with Pool(1) as pool:
        results = pool.imap(row, [0, 1, 2], return_exceptions=True)
        await wait_all_tasks_blocked()
        (task,) = pool
        task.link(leave_open)
        go_on.set()
        first, *others = [result async for result in results]
    assert isinstance(first, Oops) if fails else first == 0
    assert others == [1, 2]


@every_reuse
async def test_error_of_a_call_that_left_a_scope_open_is_its_error(reuse: bool) -> None:
    async with Pool(reuse_tasks=reuse) as pool:
        for _ in range(3):
            task = await pool.spawn(leave_a_scope_open, trio.CancelScope(), Oops())
            with pytest.raises(Oops):
                await task
            await use_all(pool)


@every_reuse
async def test_kill_and_cancellation_reach_a_call_after_one_that_left_a_scope_open(
    reuse: bool, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(5) as around:
        async with Pool(1, reuse_tasks=reuse) as pool:
            shield = trio.CancelScope(shield=True)
            assert await pool.apply(leave_a_scope_open, (shield,)) == "done"
            task = await pool.spawn(trio.sleep_forever)
            await wait_all_tasks_blocked()
            assert await task.kill() is True
            assert task.status is TaskStatus.KILLED
            last = await pool.spawn(trio.sleep_forever)
    assert around.cancelled_caught
    assert trio.current_time() == 5
    assert last.status is TaskStatus.KILLED


@pytest.mark.parametrize("what", ["nursery", "scope"])
async def test_call_in_place_that_leaves_something_open_harms_no_sibling(what: str) -> None:

    async def outer() -> None:
        if what == "nursery":
            await pool.apply(leave_a_nursery_open, ([],))
        else:
            await pool.apply(leave_a_scope_open, (trio.CancelScope(),))

    async with Pool() as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        task = await pool.spawn(outer)
        await task.join()
        assert isinstance(task.exception, RuntimeError)
        await use_all(pool)
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


async def nursery_in_a_generator(
    child: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        yield 1


async def with_cleanup() -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            for _ in range(5):
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("fate", ["kept", "dropped"])
@pytest.mark.parametrize("child", [trio.sleep_forever, with_cleanup])
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_async_generator_that_a_call_left_suspended_harms_no_sibling(
    fate: str, child: Callable[[], Awaitable[None]]
) -> None:
    kept: list[object] = []

    async def run() -> None:
        generator = nursery_in_a_generator(child)
        if fate == "kept":
            kept.append(generator)
        async for _ in generator:
            break

    async with Pool(3) as pool:
        sibling = await pool.spawn(trio.sleep_forever)
        for _ in range(3):
            task = await pool.spawn(run)
            await task.join()
            assert isinstance(task.exception, RuntimeError)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            await use_all(pool)
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


async def test_call_that_closes_its_generator_is_no_trouble() -> None:
    async def scoped() -> AsyncIterator[int]:
        with trio.CancelScope():
            yield 1

    async def run(_: object = None) -> str:
        async with contextlib.aclosing(scoped()) as generator:  # type: ignore[type-var]
            async for _ in generator:
                break
        return "done"

    async with Pool(1) as pool:
        assert await pool.apply(run) == "done"
        assert await pool.map(run, range(3)) == ["done"] * 3
        await use_all(pool)


# Sharing a Trio task


async def trio_task(*_: object) -> trio.lowlevel.Task:
    return trio.lowlevel.current_task()


async def test_calls_share_trio_tasks_unless_told_otherwise() -> None:
    async with Pool() as pool:
        tasks = [await pool.apply(trio_task) for _ in range(5)]
        assert len(set(tasks)) == 1


async def test_each_call_has_a_trio_task_of_its_own_with_reuse_tasks_false() -> None:
    for kind in (Group, Pool):
        async with kind(reuse_tasks=False) as pool:
            tasks = [await pool.apply(trio_task) for _ in range(5)]
            tasks += await pool.map(trio_task, range(5))
            tasks += [task async for task in pool.imap(trio_task, range(5))]
            tasks += [await (await pool.spawn(trio_task)) for _ in range(5)]
            assert len(set(tasks)) == 20


async def test_lock_that_a_call_never_released_is_not_the_next_ones_with_reuse_tasks_false(
    autojump_clock: MockClock,
) -> None:
    lock = trio.Lock()

    async def acquire(*_: object) -> None:
        lock.acquire_nowait()

    async with Pool(1, reuse_tasks=False) as pool:
        await pool.apply(acquire)
        with pytest.raises(trio.WouldBlock):
            await pool.apply(acquire)
        with pytest.raises(trio.WouldBlock):
            await pool.map(acquire, range(2))


async def test_idle_workers_do_not_pile_up_for_ever() -> None:
    async with Pool() as pool:
        tasks = [await pool.spawn(wait_all_tasks_blocked) for _ in range(1000)]
        await triopool.wait(tasks)
        await wait_all_tasks_blocked()
        nursery = trio.lowlevel.current_task().child_nurseries[-1]
        assert 1 <= len(nursery.child_tasks) <= 300


async def test_each_call_has_a_task_class_instance_of_its_own() -> None:
    class Numbered(Task[Any]):
        async def run(self) -> object:
            assert current_task() is self
            return self, await super().run()

    async with Pool(2, Numbered) as pool:
        pairs = [await pool.apply(noop, (1,)) for _ in range(3)]
        pairs += await pool.map(noop, [1, 1, 1])
        assert len({id(pair[0]) for pair in pairs}) == 6  # type: ignore[index]
        assert {pair[1] for pair in pairs} == {1}  # type: ignore[index]


# Ctrl-C reaches the user's functions, iterables and callbacks


class Protected(list[str]):
    """The places where `note` was called while Ctrl-C was held back, and all where it was."""

    def __init__(self) -> None:
        self.places: collections.Counter[str] = collections.Counter()

    def note(self, place: str) -> None:
        self.places[place] += 1
        if currently_ki_protected():
            self.append(place)


@pytest.fixture
def protected() -> Iterator[Protected]:
    noted = Protected()
    yield noted
    assert noted.places
    assert noted == []


async def test_this_test_itself_is_not_protected(protected: Protected) -> None:
    protected.note("test")


@every_reuse
async def test_calls_are_not_protected(protected: Protected, reuse: bool) -> None:
    async def call(place: str) -> None:
        protected.note(place)
        await trio.lowlevel.checkpoint()
        protected.note(place + " later")

    class Own(Task[None]):
        async def run(self) -> None:
            await call("run")

    async def inside() -> None:
        await pool.apply(call, ("in place",))
        await pool.map(call, ["map in place"])

    class Later:
        def __await__(self) -> Iterator[Any]:
            protected.note("__await__")
            return noop().__await__()

    def late(place: str) -> Awaitable[None]:
        protected.note(place + " sync")
        return call(place)

    async with Pool(2, reuse_tasks=reuse) as pool:
        for func in (call, late):
            await (await pool.spawn(func, "spawn"))
            await pool.spawn_nowait(func, "spawn_nowait")
            await pool.start(Task(func, "start"))
            await pool.apply(func, ("apply",))
            tasks = [pool.apply_async(func, ("apply_async",)) for _ in range(4)]
            await triopool.wait(tasks)
            await pool.map(func, ["map"] * 5)
            await pool.map(func, iter(["map"] * 5))
            await pool.map_async(func, ["map_async"] * 5)
            async for _ in pool.imap(func, ["imap"] * 5):
                pass
            async for _ in pool.starmap(func, [("starmap",)] * 5):
                pass
            await triopool.map(func, ["one-shot"])
        await pool.spawn(inside)
        await pool.start(Own())
        await pool.spawn(Later)
        await pool.map(lambda _: Later(), [1])
        await pool.join()
    async with Pool(2, Own, reuse_tasks=reuse) as pool:
        await pool.map(call, ["map"])
    assert {"spawn later", "map sync", "in place", "run", "__await__"} <= set(protected.places)


async def test_green_calls_are_not_protected(protected: Protected) -> None:
    async def call(place: str) -> None:
        protected.note(place)
        await trio.lowlevel.checkpoint()
        protected.note(place)

    async def inside() -> None:
        await pool.spawn(call, "spawn in place")
        await pool.spawn_n(call, "spawn_n queued")

    async with GreenPool(1) as pool:
        pile: GreenPile[None] = GreenPile(pool)
        await pool.spawn_n(call, "spawn_n")
        await pile.spawn(call, "pile")
        await pile.next()
        (await pool.spawn(call, "spawn")).link(lambda _, place: protected.note(place), "green link")
        await (await pool.spawn(inside)).wait()
        await pool.waitall()
    assert len(protected.places) == 6


async def test_links_are_not_protected(protected: Protected) -> None:
    async def fail() -> None:
        raise Oops

    def link(place: str) -> Callable[[Task[Any]], None]:
        return lambda _: protected.note(place)

    async with Pool(1) as pool:
        for func in (noop, fail, trio.sleep_forever):
            task: Task[Any] = await pool.spawn(func)
            task.link(link("link"))
            task.link_value(link("value"))
            task.link_exception(link("exception"))
            await wait_all_tasks_blocked()
            await task.kill()
            task.exception  # noqa: B018
            task.link(link("at once"))
        unstarted = Task(noop)
        unstarted.link(link("unstarted"))
        unstarted.kill_nowait()
        blocked = await pool.spawn(trio.sleep_forever)
        waiting = pool.apply_async(noop)
        waiting.link(link("waiting"))
        pool.kill_nowait()
        await blocked.join()
        task = await pool.spawn(trio.sleep_forever)
        task.link(link("cancelled"))
        pool.cancel_scope.cancel()
    assert protected.places["link"] == 3
    assert {"value", "exception", "at once", "unstarted", "waiting", "cancelled"} <= set(
        protected.places
    )


async def test_links_of_rows_and_of_calls_in_place_are_not_protected(protected: Protected) -> None:
    async def link(place: str) -> None:
        task = current_task()
        assert task is not None
        task.link(lambda _: protected.note(place))

    async def inside() -> None:
        await pool.apply(link, ("in place",))

    async with Pool(1) as pool:
        await pool.map(link, ["row"])
        await (await pool.spawn(inside))
    assert len(protected.places) == 2


async def test_on_error_is_not_protected(protected: Protected) -> None:
    async def fail() -> None:
        raise Oops

    async with Pool(on_error=lambda _: protected.note("on_error")) as pool:
        await pool.spawn(fail)


async def test_callbacks_are_not_protected(protected: Protected) -> None:
    def callback(_: object) -> None:
        protected.note("callback")

    async def async_callback(_: object) -> None:
        protected.note("async callback")
        await trio.lowlevel.checkpoint()
        protected.note("async callback")

    async with Pool(1) as pool:
        for each in (callback, async_callback):
            pool.apply_async(noop, callback=each)
            pool.apply_async(noop, callback=each)
            await pool.apply_cb(noop, (), {}, each)
            await pool.map_cb(noop, [1], each)
            await pool.map_async(noop, [1], each)


class Rows:
    """Some numbers, of which each step is noted."""

    def __init__(self, protected: Protected) -> None:
        self.note = protected.note
        self.left = 4

    def step(self, end: type[Exception]) -> int:
        if not self.left:
            raise end
        self.left -= 1
        return self.left


class SyncRows(Rows):
    def __iter__(self) -> Iterator[int]:
        self.note("__iter__")
        return self

    def __next__(self) -> int:
        self.note("__next__")
        return self.step(StopIteration)


class AsyncRows(Rows):
    def __aiter__(self) -> AsyncIterator[int]:
        self.note("__aiter__")
        return self

    async def __anext__(self) -> int:
        self.note("__anext__")
        await trio.lowlevel.checkpoint()
        self.note("__anext__ later")
        return self.step(StopAsyncIteration)

    async def aclose(self) -> None:
        self.note("aclose")
        await trio.lowlevel.checkpoint()


class OldRows(Rows):
    def __getitem__(self, index: int) -> int:
        self.note("__getitem__")
        return self.step(IndexError)


def generator(protected: Protected) -> Iterator[int]:
    try:
        for x in range(4):
            protected.note("generator")
            yield x
    finally:
        protected.note("generator closed")


async def async_generator(protected: Protected) -> AsyncIterator[int]:
    try:
        for x in range(4):
            protected.note("async generator")
            yield x
            await trio.lowlevel.checkpoint()
    finally:
        protected.note("async generator closed")


def mapping_iterator(protected: Protected) -> Iterator[int]:
    def row(x: int) -> int:
        protected.note("map object")
        return x

    return map(row, range(4))


@pytest.mark.parametrize(
    "make", [SyncRows, AsyncRows, OldRows, generator, async_generator, mapping_iterator]
)
@pytest.mark.parametrize("size", [1, None])
async def test_iterables_are_not_protected(
    make: Callable[[Protected], Any], size: int | None, protected: Protected
) -> None:
    async with Pool(size) as pool:
        assert len(await pool.map(noop, make(protected))) == 4
        assert len(await pool.map_async(noop, make(protected))) == 4
        assert len([x async for x in pool.imap(noop, make(protected))]) == 4
        results = pool.imap_unordered(noop, make(protected), maxsize=1)
        await anext(results)
        await results.aclose()
        assert len(await pool.map(lambda *row: noop(row), make(protected), range(4))) == 4


@pytest.mark.parametrize(
    "where", ["call", "row", "link", "on_error", "callback", "iterable", "async iterable"]
)
def test_ctrl_c_in_the_users_code_is_raised_there_and_ends_the_run(where: str) -> None:
    raised_there = []

    def interrupt(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raised_there.append(where)
            raise

    async def call(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        interrupt()

    async def fail() -> None:
        raise Oops

    def rows() -> Iterator[int]:
        yield 1
        interrupt()

    async def async_rows() -> AsyncIterator[int]:
        yield 1
        interrupt()

    async def main() -> None:
        async with Pool(2, on_error=interrupt) as pool:
            pools.append(pool)
            await pool.spawn(trio.sleep_forever)
            if where == "call":
                await pool.spawn(call)
            elif where == "row":
                await pool.map(call, range(3))
            elif where == "link":
                (await pool.spawn(noop)).link(interrupt)
            elif where == "on_error":
                await pool.spawn(fail)
            elif where == "callback":
                pool.apply_async(noop, callback=interrupt)
            elif where == "iterable":
                await pool.map(noop, rows())
            else:
                await pool.map(noop, async_rows())
            await trio.sleep_forever()

    pools: list[Pool] = []
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert raised_there == [where]
    assert pools[0].limiter.borrowed_tokens == 0


# Time


def test_nothing_depends_on_wall_clock_time(caplog: pytest.LogCaptureFixture) -> None:
    """A clock that stands still, but for those who wait."""
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with Pool(2) as pool:
            await pool.map(trio.sleep, range(5))
            assert await pool.wait_available(timeout=1) == 2
            task = await pool.spawn(trio.sleep, 1000)
            assert await task.join(timeout=500) is False
            assert await pool.join(timeout=400) is False
            assert await pool.kill(timeout=100)
            with pytest.raises(triopool.PoolFull):
                async with Pool(0) as empty:
                    await empty.start(Task(noop), timeout=3600)
        assert trio.current_time() == 6 + 900 + 3600

    trio.run(main, clock=MockClock(autojump_threshold=0))
