"""Rule 1: nothing outlives its block."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import triopool
from triopool import GreenPool, Group, Pool, Task, TaskKilled, TaskStatus

KINDS = [Group, Pool, GreenPool]
every_kind = pytest.mark.parametrize("kind", KINDS)


async def noop(*_: object) -> None:
    await trio.lowlevel.checkpoint()


# What lets a call in, and what else there is to call.
ENTRANCES: dict[str, Callable[[Any], Any]] = {
    "spawn": lambda pool: pool.spawn(noop),
    "spawn_nowait": lambda pool: pool.spawn_nowait(noop),
    "start": lambda pool: pool.start(Task(noop)),
    "add": lambda pool: pool.add(Task(noop)),
    "apply": lambda pool: pool.apply(noop),
    "apply_cb": lambda pool: pool.apply_cb(noop, (), {}, None),
    "apply_async": lambda pool: pool.apply_async(noop),
    "map": lambda pool: pool.map(noop, [1]),
    "map_cb": lambda pool: pool.map_cb(noop, [1]),
    "map_async": lambda pool: pool.map_async(noop, [1]),
    "imap": lambda pool: pool.imap(noop, [1]),
    "imap_unordered": lambda pool: pool.imap_unordered(noop, [1]),
    "starmap": lambda pool: pool.starmap(noop, [(1,)]),
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "join": lambda pool: pool.join(),
    "kill": lambda pool: pool.kill(),
    "kill_nowait": lambda pool: pool.kill_nowait(),
    "killone": lambda pool: pool.killone(Task(noop)),
    "wait_available": lambda pool: pool.wait_available(),
}
GREEN_ENTRANCES = {"spawn_n": lambda pool: pool.spawn_n(noop)}
GREEN_OTHERS = {"waitall": lambda pool: pool.waitall()}


def uses(entrances: bool, others: bool) -> pytest.MarkDecorator:
    chosen = []
    for kind in KINDS:
        methods = {**(ENTRANCES if entrances else {}), **(OTHERS if others else {})}
        if kind is GreenPool:
            methods |= GREEN_ENTRANCES if entrances else {}
            methods |= GREEN_OTHERS if others else {}
        chosen += [
            pytest.param(kind, use, id=f"{kind.__name__}-{name}") for name, use in methods.items()
        ]
    return pytest.mark.parametrize(("kind", "use"), chosen)


async def call(use: Callable[[Any], Any], pool: Group) -> None:
    result = use(pool)
    if inspect.isawaitable(result):
        await result


# Entering


@every_kind
async def test_block_gives_the_pool(kind: type[Group]) -> None:
    pool = kind()
    async with pool as entered:
        assert entered is pool


@every_kind
async def test_pool_is_entered_once(kind: type[Group]) -> None:
    async with kind() as pool:
        with pytest.raises(RuntimeError, match="can be entered only once; make a new one"):
            await pool.__aenter__()
        task = await pool.spawn(noop)
    assert task.successful()
    with pytest.raises(RuntimeError, match="can be entered only once; make a new one"):
        await pool.__aenter__()


@uses(entrances=True, others=True)
async def test_use_before_the_block_says_use_async_with(
    kind: type[Group], use: Callable[[Any], Any]
) -> None:
    pool = kind()
    with pytest.raises(RuntimeError, match="use `async with"):
        await call(use, pool)
    async with pool:  # and no harm was done
        assert await pool.apply(noop) is None


@every_kind
def test_cancel_scope_and_close_before_the_block_say_use_async_with(kind: type[Group]) -> None:
    with pytest.raises(RuntimeError, match="use `async with"):
        kind().cancel_scope  # noqa: B018
    with pytest.raises(RuntimeError, match="use `async with"):
        kind().close()


@uses(entrances=True, others=True)
async def test_use_after_the_block_is_a_closed_resource_error(
    kind: type[Group], use: Callable[[Any], Any]
) -> None:
    async with kind() as pool:
        pass
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        await call(use, pool)


@every_kind
async def test_looking_at_a_pool_is_fine_at_any_time(kind: type[Group]) -> None:
    def look(pool: Group, state: str) -> None:
        assert len(pool) == 0
        assert list(pool) == []
        assert Task(noop) not in pool
        assert not pool.full()
        assert pool.free_count() >= 1
        assert bool(pool) == (kind is GreenPool)
        assert f"{kind.__name__} at" in repr(pool)
        assert state in repr(pool)

    pool = kind()
    look(pool, "new")
    async with pool:
        look(pool, "open")
        pool.close()
        look(pool, "closing")
    look(pool, "closed")


# Calls are children of the nursery


@pytest.mark.parametrize("reuse", [True, False])
async def test_every_call_is_a_child_of_the_nursery_of_its_pool(reuse: bool) -> None:
    async def where(*_: object) -> trio.CancelScope:
        await trio.lowlevel.checkpoint()
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        return nursery.cancel_scope

    async with Pool(2, reuse_tasks=reuse) as pool:
        tasks = [await pool.spawn(where), pool.spawn_nowait(where), pool.apply_async(where)]
        by_hand = Task(where)
        await pool.start(by_hand)
        scopes = [await task for task in [*tasks, by_hand]]
        scopes.append(await pool.apply(where))
        scopes += await pool.map(where, range(3))
        scopes += await pool.map_async(where, range(3))
        scopes += [scope async for scope in pool.imap(where, range(3))]
        scopes += [scope async for scope in pool.imap_unordered(where, range(3))]
        assert {id(scope) for scope in scopes} == {id(pool.cancel_scope)}


async def test_cancel_scope_of_the_pool_ends_the_block() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        pool.cancel_scope.cancel()
    assert pool.cancel_scope.cancelled_caught
    assert task.status is TaskStatus.KILLED


async def test_cancel_scope_of_the_pool_can_have_a_deadline(autojump_clock: MockClock) -> None:
    async with Pool() as pool:
        pool.cancel_scope.deadline = trio.current_time() + 5
        task = await pool.spawn(trio.sleep_forever)
    assert trio.current_time() == 5
    assert task.status is TaskStatus.KILLED


async def test_block_waits_for_every_call(autojump_clock: MockClock) -> None:
    async with Pool(2) as pool:
        tasks = [pool.apply_async(trio.sleep, (1,)) for _ in range(5)]
    assert trio.current_time() == 3
    assert all(task.successful() for task in tasks)


async def test_block_waits_for_a_call_that_was_discarded(autojump_clock: MockClock) -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(trio.sleep, 5)
        pool.discard(task)
        assert not pool.full()
        assert task not in pool
    assert trio.current_time() == 5
    assert task.successful()


async def test_block_waits_for_callbacks(autojump_clock: MockClock) -> None:
    seen = []

    async def callback(result: object) -> None:
        await trio.sleep(5)
        seen.append(result)

    async with Pool(1) as pool:
        pool.apply_async(noop, callback=callback)
        pool.map_async(noop, [1], callback)
    assert sorted(seen, key=repr) == [None, [None]]


async def test_block_waits_for_cleanup_of_killed_calls(autojump_clock: MockClock) -> None:
    cleaned = []

    async def careful(x: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            cleaned.append(x)

    async with Pool() as pool:
        await pool.spawn(careful, 1)
        await wait_all_tasks_blocked()
        await pool.kill(block=False)
    assert cleaned == [1]
    with pytest.raises(KeyError):
        async with Pool() as pool:
            await pool.spawn(careful, 2)
            await wait_all_tasks_blocked()
            raise KeyError
    assert cleaned == [1, 2]


async def test_no_trio_task_of_the_pool_is_left_after_the_block() -> None:
    parent = trio.lowlevel.current_task()
    before = {id(nursery) for nursery in parent.child_nurseries}
    workers: set[trio.lowlevel.Task] = set()
    async with Pool(5) as pool:
        await pool.map(noop, range(20))
        for nursery in parent.child_nurseries:
            workers |= nursery.child_tasks
        assert workers
        await pool.spawn(noop)
    assert {id(nursery) for nursery in parent.child_nurseries} == before
    assert all(worker.coro.cr_frame is None for worker in workers)


# Closing


@uses(entrances=True, others=False)
async def test_close_lets_no_new_call_in(kind: type[Group], use: Callable[[Any], Any]) -> None:
    async with kind() as pool:
        pool.close()
        with pytest.raises(trio.ClosedResourceError):
            await call(use, pool)


@uses(entrances=False, others=True)
async def test_closing_pool_can_be_joined_and_killed(
    kind: type[Group], use: Callable[[Any], Any]
) -> None:
    if use is OTHERS["killone"]:
        return  # there is a test for that
    async with kind() as pool:
        task = await pool.spawn(noop)
        pool.close()
        await call(use, pool)
        await task.join()


async def test_closing_pool_can_kill_one_of_its_calls() -> None:
    async with Pool() as pool:
        task = await pool.spawn(trio.sleep_forever)
        pool.close()
        assert await pool.killone(task) is True


async def test_close_leaves_alone_what_runs_or_waits(autojump_clock: MockClock) -> None:
    async with Pool(1) as pool, trio.open_nursery() as nursery:
        spawned: list[Task[None]] = []

        async def spawn() -> None:
            spawned.append(await pool.spawn(trio.sleep, 1))

        running = await pool.spawn(trio.sleep, 1)
        waiting = pool.apply_async(trio.sleep, (1,))
        nursery.start_soon(spawn)
        await wait_all_tasks_blocked()
        results = pool.imap(trio.sleep, [1, 1])
        pool.close()
        assert [x async for x in results] == [None, None]
    assert running.successful()
    assert waiting.successful()
    assert [task.successful() for task in spawned] == [True]
    assert trio.current_time() == 5


@every_kind
async def test_close_twice_and_after_the_block_does_nothing(kind: type[Group]) -> None:
    async with kind() as pool:
        pool.close()
        pool.close()
    pool.close()


async def test_pool_can_live_in_a_task_of_its_own() -> None:
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool(1).run)
        assert await pool.map(noop, range(3)) == [None] * 3
        release = trio.Event()
        task = await pool.spawn(release.wait)
        pool.close()
        await wait_all_tasks_blocked()
        assert nursery.child_tasks  # `run` ends with the last call, not before
        release.set()
        await task
    with pytest.raises(trio.ClosedResourceError):
        await pool.spawn(noop)


async def test_run_of_an_idle_pool_ends_at_once_when_it_is_closed() -> None:
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(GreenPool().run)
        await wait_all_tasks_blocked()
        pool.close()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_run_without_start_works_too() -> None:
    async with trio.open_nursery() as nursery:
        pool = Pool()
        nursery.start_soon(pool.run)
        await wait_all_tasks_blocked()
        assert await pool.apply(noop) is None
        pool.close()


async def test_run_closed_at_once_ends() -> None:
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool().run)
        pool.close()


async def test_run_raises_what_leaving_the_block_would() -> None:
    async def fail() -> None:
        raise ValueError

    with pytest.raises(ExceptionGroup) as info:
        async with trio.open_nursery() as nursery:
            pool = await nursery.start(Pool().run)
            await pool.spawn(fail)
            pool.close()
    assert info.value.split(ValueError)[1] is None


async def test_cancelled_run_kills_its_calls() -> None:
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool().run)
        task = await pool.spawn(trio.sleep_forever)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert task.status is TaskStatus.KILLED


async def test_run_ends_when_the_scope_of_the_pool_is_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool().run)
        task = await pool.spawn(trio.sleep_forever)
        pool.cancel_scope.cancel()
        with pytest.raises(TaskKilled):
            await task


async def test_run_of_a_pool_in_use_is_an_error() -> None:
    async with Pool() as pool:
        with pytest.raises(RuntimeError, match="only once"):
            await pool.run()


# Those who are left waiting when the block ends


async def leftovers(limiter: int | trio.CapacityLimiter) -> list[str]:
    """What becomes of tasks outside that wait in a pool whose block is cancelled."""
    seen: list[str] = []

    async def outside(use: Callable[[], Awaitable[Any]]) -> None:
        try:
            await use()
        except Exception as error:
            seen.append(type(error).__name__)
        else:
            seen.append("done")

    async with trio.open_nursery() as nursery, Pool(limiter) as pool:
        await pool.spawn(trio.sleep_forever)
        for use in (
            lambda: pool.spawn(noop),
            lambda: pool.start(Task(noop)),
            lambda: pool.apply(noop),
            lambda: pool.map(noop, [1]),
            lambda: pool.wait_available(),
            lambda: pool.imap(noop, [1]).__anext__(),
            lambda: pool.join(),
        ):
            nursery.start_soon(outside, use)
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
    return sorted(seen)


async def test_whoever_waits_for_a_slot_of_a_pool_that_is_cancelled_is_let_go() -> None:
    seen = await leftovers(1)
    assert seen == ["ClosedResourceError"] * 4 + ["TaskKilled"] * 2 + ["done"]


async def test_whoever_waits_for_a_slot_of_a_shared_limiter_is_let_go_too() -> None:
    limiter = trio.CapacityLimiter(1)
    seen = await leftovers(limiter)
    assert seen == ["ClosedResourceError"] * 4 + ["TaskKilled"] * 2 + ["done"]
    assert limiter.statistics().tasks_waiting == limiter.borrowed_tokens == 0


async def test_added_task_goes_on_when_the_block_is_cancelled() -> None:
    # Its lifetime is its owner's.
    async with Pool() as owner:
        task = await owner.spawn(trio.sleep_forever)
        async with Pool(1) as pool:
            await pool.add(task)
            pool.cancel_scope.cancel()
        assert task.status is TaskStatus.RUNNING
        assert pool.free_count() == 1
        await task.kill()


async def test_group_of_tasks_adds_them_when_it_is_entered() -> None:
    async with Pool() as owner:
        tasks = [await owner.spawn(trio.sleep_forever) for _ in range(3)]
        async with Group(tasks) as group:
            assert list(group) == tasks
            await group.kill()
        assert all(task.status is TaskStatus.KILLED for task in tasks)


async def test_group_that_is_cancelled_while_it_is_entered_leaves_nothing_behind() -> None:
    async with Pool() as owner:
        task = await owner.spawn(trio.sleep_forever)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with Group([task]):
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert task.status is TaskStatus.RUNNING
        await task.kill()


@pytest.mark.parametrize("things", [[None], [noop]], ids=["None", "function"])
def test_group_takes_tasks_only(things: list[Any]) -> None:
    with pytest.raises(TypeError, match=r"a Group of tasks takes Tasks, .* go to spawn\(\)"):
        Group(things)


# One job without a pool of one's own


async def test_one_shot_map_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async def fail_or_sleep(x: int) -> None:
        if x == 1:
            raise ValueError
        try:
            await trio.sleep_forever()
        finally:
            seen.append(x)

    seen: list[int] = []
    with pytest.raises(ValueError):
        await triopool.map(fail_or_sleep, range(4), size=2)
    assert seen == [0]
