"""What calls do to their surroundings: no sibling notices, and no call that comes later.

`test_rule_12_isolation` has what each thing that a call may leave behind does on its own. Here
calls that leave all of it behind run in any order among others, which look for a trace.
"""

import contextvars
import random
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from triopool import GreenPool, Pool, Task, TaskKilled, TaskStatus, ThreadPool, current_task

VARIABLES = [contextvars.ContextVar[object](f"variable {n}", default="clean") for n in range(20)]

pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


class Oops(Exception):
    pass


class Mess:
    """Calls that leave something behind, and what they share."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.kept: list[Any] = []
        self.locks: list[trio.Lock] = []
        self.limiter = trio.CapacityLimiter(1000)

    def end(self) -> None:
        if self.fails:
            raise Oops

    async def generator_in_scope(self) -> None:
        """Leave an async generator suspended inside of a cancel scope, which is cancelled then."""
        scope = trio.CancelScope()

        async def generator() -> AsyncIterator[int]:
            with scope:
                yield 1

        self.kept.append(generator())
        await anext(self.kept[-1])
        scope.cancel()
        self.end()

    async def generator_in_shield(self) -> None:
        async def generator() -> AsyncIterator[int]:
            with trio.CancelScope(shield=True, deadline=trio.current_time()):
                yield 1

        self.kept.append(generator())
        await anext(self.kept[-1])
        self.end()

    async def generator_in_nursery(self) -> None:
        async def generator() -> AsyncIterator[int]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                yield 1

        self.kept.append(generator())
        await anext(self.kept[-1])
        self.end()

    async def nursery(self) -> None:
        nursery = await trio.open_nursery().__aenter__()
        nursery.start_soon(trio.sleep_forever)
        await trio.lowlevel.checkpoint()
        self.end()

    async def lock(self) -> None:
        """End while it holds a lock."""
        self.locks.append(trio.Lock())
        await self.locks[-1].acquire()
        self.end()

    async def slot(self) -> None:
        """End while it has borrowed from a limiter."""
        await self.limiter.acquire_on_behalf_of(object())
        self.end()

    async def context(self) -> None:
        for variable in VARIABLES:
            variable.set(object())
        await trio.lowlevel.checkpoint()
        self.end()

    async def tokens(self) -> None:
        """Leave the tokens of variables behind."""
        self.kept += [(variable, variable.set("dirty")) for variable in VARIABLES]
        self.end()

    async def cancelled(self) -> None:
        """Keep a `Cancelled`, with all its frames."""
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                self.kept.append(error)
        self.end()

    async def cancelled_raised_later(self) -> None:
        """Raise the `Cancelled` of another call, for which nobody has asked."""
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                stale = error
            scope.shield = True
        raise stale

    async def cleared_frames(self) -> None:
        """Clear the frames of all that it gets hold of."""
        try:
            raise Oops
        except Oops as error:
            traceback.clear_frames(error.__traceback__)
        for error in self.kept:
            if isinstance(error, BaseException):
                traceback.clear_frames(error.__traceback__)
        self.end()

    async def task(self) -> None:
        """Change what there is of Trio's about it."""
        task = trio.lowlevel.current_task()
        task.name = "someone else"
        task.custom_sleep_data = self
        own = current_task()
        if own is not None:
            own.link(lambda _: [variable.set("by a link") for variable in VARIABLES])
        self.end()


MESSES = [name for name, member in vars(Mess).items() if callable(member) and name[0] != "_"]
MESSES.remove("end")
LEAVES_NURSERY = {"nursery", "generator_in_nursery"}


async def clean(x: int = 0) -> int:
    """See that nothing of another call is here."""
    assert {variable.get() for variable in VARIABLES} == {"clean"}
    assert trio.current_effective_deadline() == float("inf")
    task = trio.lowlevel.current_task()
    assert task.name == f"{__name__}.clean"
    assert task.child_nurseries == []
    await trio.lowlevel.checkpoint()  # it is not cancelled
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught  # nor shielded
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
    lock = trio.Lock()
    async with lock:
        await trio.lowlevel.checkpoint()
    assert {variable.get() for variable in VARIABLES} == {"clean"}
    return 2 * x


async def watch(go: trio.Event) -> str:
    """A sibling, which runs all the time."""
    while not go.is_set():
        assert {variable.get() for variable in VARIABLES} == {"clean"}
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    return "unharmed"


def is_expected(name: str, fails: bool, error: Exception | None) -> bool:
    if name == "cancelled_raised_later":
        return isinstance(error, TaskKilled)
    if fails:
        return isinstance(error, Oops)
    if name in LEAVES_NURSERY:
        return isinstance(error, RuntimeError) and "nursery still open" in str(error)
    return error is None


KINDS: dict[str, Callable[[], Any]] = {
    "Pool(2)": lambda: Pool(2),
    "Pool()": Pool,
    "GreenPool(3)": lambda: GreenPool(3),
    "a Trio task a call": lambda: Pool(2, reuse_tasks=False),
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
fates = pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])


async def observe(awaitable: Awaitable[object]) -> Exception | None:
    try:
        await awaitable
    except Exception as error:
        return error
    return None


@kinds
@fates
@pytest.mark.parametrize("name", MESSES)
async def test_no_sibling_and_no_later_call_notices(
    kind: Callable[[], Any], fails: bool, name: str
) -> None:
    mess = Mess(fails)
    call = getattr(mess, name)
    go = trio.Event()
    async with kind() as pool:
        sibling = await pool.spawn(watch, go)
        for _ in range(2):
            task = await pool.spawn(call)
            assert is_expected(name, fails, await observe(task))
            assert await pool.apply(clean, (1,)) == 2
            (outcome,) = await pool.map(lambda _: call(), [1], return_exceptions=True)
            assert is_expected(name, fails, outcome)
            assert await pool.map(clean, range(4)) == [0, 2, 4, 6]
            results = pool.imap(lambda _: call(), [1])
            assert is_expected(name, fails, await observe(anext(results)))
            assert [x async for x in pool.imap(clean, range(4))] == [0, 2, 4, 6]
        assert sibling.status is TaskStatus.RUNNING
        go.set()
        assert await sibling == "unharmed"
        assert pool.limiter.borrowed_tokens == 0
    mess.kept.clear()


@kinds
@pytest.mark.parametrize("seed", range(2))
async def test_nobody_notices_in_any_order(kind: Callable[[], Any], seed: int) -> None:
    rng = random.Random(seed)
    messes = {fails: Mess(fails) for fails in (False, True)}
    go = trio.Event()

    async def row(what: tuple[str, bool] | int) -> int:
        trio.lowlevel.current_task().name = f"{__name__}.clean"
        if isinstance(what, int):
            return await clean(what)
        name, fails = what
        await getattr(messes[fails], name)()
        return -1

    rows: list[Any] = [(name, fails) for name in MESSES for fails in (False, True)]
    rows += range(60)
    rng.shuffle(rows)
    async with kind() as pool:
        sibling = await pool.spawn(watch, go)
        tasks = [pool.apply_async(row, (what,)) for what in rows]
        mapped = await pool.map(row, rows, return_exceptions=True)
        iterated = [x async for x in pool.imap(row, rows, return_exceptions=True)]
        awaited = [await observe(task) or task.value for task in tasks]
        for outcomes in (mapped, iterated, awaited):
            for what, outcome in zip(rows, outcomes, strict=True):
                if isinstance(what, int):
                    assert outcome == 2 * what
                else:
                    error = outcome if isinstance(outcome, Exception) else None
                    assert is_expected(*what, error)
        go.set()
        assert await sibling == "unharmed"
        assert len(pool) == 0
    for mess in messes.values():
        mess.kept.clear()


async def test_lock_that_a_call_ended_with_is_held_for_good_and_by_nobody_else() -> None:
    lock = trio.Lock()
    tried: list[str] = []

    async def end_with_it() -> None:
        await lock.acquire()

    async def other(_: object = None) -> None:
        with pytest.raises(trio.WouldBlock):
            lock.acquire_nowait()
        tried.append("in vain")

    async with Pool(1, reuse_tasks=False) as pool:
        await pool.apply(end_with_it)
        await pool.apply(other)
        await pool.map(other, range(3))
    assert tried == ["in vain"] * 4
    assert lock.locked()


async def test_stored_cancelled_can_be_raised_in_another_pool_without_harm() -> None:
    kept: list[trio.Cancelled] = []

    async def keep() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept.append(error)
            raise

    async def again() -> None:
        raise kept[0]

    async with Pool(1) as pool:
        task = await pool.spawn(keep)
        await wait_all_tasks_blocked()
        await task.kill()
    async with Pool(2) as other:
        sibling = await other.spawn(trio.sleep_forever)
        for _ in range(3):
            with pytest.raises(TaskKilled):
                await (await other.spawn(again))
            assert await other.map(clean, range(3)) == [0, 2, 4]
        assert sibling.status is TaskStatus.RUNNING
        sibling.kill_nowait()


# Threads


async def test_no_later_call_in_a_thread_notices(autojump_clock: MockClock) -> None:
    kept: list[Any] = []

    def mess(fails: bool) -> None:
        for variable in VARIABLES:
            kept.extend([variable, variable.set("dirty")])
        own: Task[Any] | None = current_task()
        assert own is not None
        with pytest.raises(trio.TooSlowError):
            trio.from_thread.run(too_slow)
        try:
            raise Oops
        except Oops as error:
            kept.append(error)
            traceback.clear_frames(error.__traceback__)
        if fails:
            raise Oops

    async def too_slow() -> None:
        with trio.fail_after(1):
            await trio.sleep_forever()

    def look(x: int) -> int:
        assert {variable.get() for variable in VARIABLES} == {"clean"}
        trio.from_thread.check_cancelled()
        trio.from_thread.run(trio.lowlevel.checkpoint)
        return 2 * x

    async with ThreadPool(2) as pool:
        for fails in (False, True):
            error = await observe(pool.apply(mess, (fails,)))
            assert isinstance(error, Oops) == fails
            outcomes = await pool.map(mess, [fails] * 3, return_exceptions=True)
            assert all(isinstance(outcome, Oops) == fails for outcome in outcomes)
            assert await pool.map(look, range(9)) == list(range(0, 18, 2))
            assert await (await pool.spawn(look, 1)) == 2
