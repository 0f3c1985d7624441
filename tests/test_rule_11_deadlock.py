"""Rule 11: no silent deadlock. What cannot wait runs in place, or raises PoolDeadlock."""

import contextvars
import math
from contextlib import asynccontextmanager

import outcome
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import (
    GreenPool,
    Group,
    Pool,
    PoolDeadlock,
    PoolFull,
    Task,
    TaskKilled,
    TaskStatus,
    as_completed,
    current_task,
    wait,
)

var = contextvars.ContextVar("var", default="outside")


class After(trio.abc.Instrument):
    """Call something when the current step of the current Trio task is over, before any other."""

    def __init__(self, func):
        self.func = func
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, task):
        trio.lowlevel.remove_instrument(self)
        self.func()


async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x


async def fail(message="broken"):
    await trio.lowlevel.checkpoint()
    raise ValueError(message)


async def below(func, *args):
    """Run ``func`` in a nursery below the current task, and pass on what became of it."""
    outcomes = []

    async def run():
        outcomes.append(await outcome.acapture(func, *args))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
    return outcomes[0].unwrap()


# In the member itself, `apply` runs in place.


async def test_apply_in_a_member_runs_in_the_members_own_trio_task(balanced):
    async def inner(mine):
        assert trio.lowlevel.current_task() is mine
        assert len(pool) == 1
        assert pool.limiter.borrowed_tokens == 1
        return "inner"

    async def outer():
        return await pool.apply(inner, (trio.lowlevel.current_task(),))

    async with Pool(1) as pool:
        assert await pool.apply(outer) == "inner"
        balanced(pool)


async def test_apply_in_a_member_can_nest_deeply(balanced):
    async def countdown(n):
        return n if n == 0 else await pool.apply(countdown, (n - 1,))

    async with Pool(1) as pool:
        assert await pool.apply(countdown, (30,)) == 0
        balanced(pool)


async def test_apply_in_place_happens_even_where_slots_are_free():
    async def inner(mine):
        return trio.lowlevel.current_task() is mine

    async def outer():
        return await pool.apply(inner, (trio.lowlevel.current_task(),))

    async with Pool(5) as pool:
        assert await pool.apply(outer)


async def test_apply_in_place_raises_the_error_of_its_call_once(balanced):
    async def outer():
        with pytest.raises(ValueError, match=r"^broken$") as caught:
            await pool.apply(fail)
        assert caught.value.__context__ is None
        return "survived"

    async with Pool(1) as pool:
        assert await pool.apply(outer) == "survived"
        balanced(pool)


async def test_an_in_place_call_gets_a_context_copy():
    async def inner():
        assert var.get() == "outer"
        var.set("inner")
        await trio.lowlevel.checkpoint()
        assert var.get() == "inner"

    async def outer():
        var.set("outer")
        await pool.apply(inner)
        assert var.get() == "outer"
        with pytest.raises(ValueError, match="broken"):
            await pool.apply(fail)
        assert var.get() == "outer"

    async with Pool(1) as pool:
        await pool.apply(outer)


async def test_an_in_place_call_has_a_kill_scope_of_its_own(balanced):
    handles = []

    async def inner():
        handles.append(current_task())
        await trio.sleep_forever()

    async def outer():
        with pytest.raises(TaskKilled, match="enough"):
            await pool.apply(inner)
        await trio.lowlevel.checkpoint()
        return "goes on"

    async with Pool(1) as pool:
        task = await pool.spawn(outer)
        await wait_all_tasks_blocked()
        (handle,) = handles
        assert handle is not task
        assert handle.status is TaskStatus.RUNNING
        assert await handle.kill(reason="enough")
        assert handle.status is TaskStatus.KILLED
        assert await task.get() == "goes on"
        balanced(pool)


async def test_killing_a_member_kills_its_in_place_call(balanced):
    handles = []

    async def inner():
        handles.append(current_task())
        await trio.sleep_forever()

    async def outer():
        await pool.apply(inner)

    async with Pool(1) as pool:
        task = await pool.spawn(outer)
        await wait_all_tasks_blocked()
        assert await task.kill()
        assert (handles[0].status, task.status) == (TaskStatus.KILLED, TaskStatus.KILLED)
        balanced(pool)


async def test_cancelling_an_in_place_apply_kills_its_call_and_spares_the_member(autojump_clock):
    handles = []

    async def inner():
        handles.append(current_task())
        await trio.sleep_forever()

    async def outer():
        with trio.move_on_after(1) as scope:
            await pool.apply(inner)
        assert scope.cancelled_caught
        assert handles[0].status is TaskStatus.KILLED
        return current_task()

    async with Pool(1) as pool:
        task = await pool.spawn(outer)
        assert await task.get() is task


async def test_an_in_place_call_that_swallows_its_kill_has_succeeded():
    handles = []

    async def inner():
        handles.append(current_task())
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "all the same"

    async def outer():
        return await pool.apply(inner)

    async with Pool(1) as pool:
        task = await pool.spawn(outer)
        await wait_all_tasks_blocked()
        await handles[0].kill()
        assert await task.get() == "all the same"
        assert handles[0].successful()


async def test_an_in_place_call_killed_before_its_first_line_never_runs(balanced):
    ran = []

    async def inner():
        ran.append(1)

    class KilledSoon(Task):
        def __init__(self, func, *args, **kwargs):
            super().__init__(func, *args, **kwargs)
            if func is inner:
                After(self.kill_nowait)

    async def outer():
        with pytest.raises(TaskKilled):
            await pool.apply(inner)
        return "goes on"

    async with Pool(1, KilledSoon) as pool:
        assert await pool.apply(outer) == "goes on"
        assert not ran
        balanced(pool)


async def test_in_place_errors_beside_a_cancellation_reach_the_call_and_the_scope(autojump_clock):
    handles = []

    async def sleeper():
        await trio.sleep_forever()

    async def breaks_on_cancel():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    async def inner():
        handles.append(current_task())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
            nursery.start_soon(breaks_on_cancel)

    async def outer():
        with trio.move_on_after(1) as scope:
            await pool.apply(inner)
        return scope.cancelled_caught

    async with Pool(1) as pool:
        # Trio lets the group's error through and absorbs the cancellation.
        with pytest.raises(ExceptionGroup) as caught:
            await pool.apply(outer)
        assert caught.group_contains(ValueError, match="cleanup")
        assert handles[0].status is TaskStatus.FAILED


async def test_apply_below_a_member_takes_a_slot_of_its_own():
    async def inner(member):
        assert trio.lowlevel.current_task() is not member
        return len(pool)

    async def outer():
        return await below(pool.apply, inner, (trio.lowlevel.current_task(),))

    async with Pool(2) as pool:
        assert await pool.apply(outer) == 2


async def test_apply_in_a_member_of_another_pool_takes_a_slot():
    async def inner(member):
        return trio.lowlevel.current_task() is member

    async def outer():
        return await other.apply(inner, (trio.lowlevel.current_task(),))

    async with Pool(1) as pool, Pool(1) as other:
        assert await pool.apply(outer) is False


async def test_apply_in_a_discarded_member_takes_a_slot(balanced):
    async def inner(member):
        assert len(pool) == 1
        return trio.lowlevel.current_task() is member

    async def outer():
        pool.discard(current_task())
        return await pool.apply(inner, (trio.lowlevel.current_task(),))

    async with Pool(1) as pool:
        assert await pool.apply(outer) is False
        balanced(pool)


# A map or an iterator of the same pool may use the member's own slot.


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_map_in_a_member_advances_on_the_members_own_slot(size, balanced):
    async def outer(n):
        return sum(await pool.map(double, range(n)))

    async with Pool(size) as pool:
        assert await pool.map(outer, [1, 4, 10]) == [0, 12, 90]
        balanced(pool)


async def test_map_in_a_member_never_runs_more_calls_than_the_pool_has_slots():
    peak = 0

    async def inner(x):
        nonlocal peak
        await trio.lowlevel.checkpoint()
        peak = max(peak, pool.limiter.borrowed_tokens)

    async def outer(_):
        await pool.map(inner, range(10))

    async with Pool(2) as pool:
        await pool.map(outer, range(4))
    assert peak == 2


async def test_nested_maps_advance_on_one_slot(balanced):
    async def tree(depth):
        return 1 if depth == 0 else sum(await pool.map(tree, [depth - 1] * 3))

    async with Pool(1) as pool:
        assert await pool.apply(tree, (3,)) == 27
        balanced(pool)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("maxsize", [None, 1])
async def test_iterators_in_a_member_advance_on_the_members_own_slot(method, maxsize, balanced):
    async def outer():
        return [x async for x in getattr(pool, method)(double, range(5), maxsize=maxsize)]

    async with Pool(1) as pool:
        assert sorted(await pool.apply(outer)) == [0, 2, 4, 6, 8]
        balanced(pool)


async def test_starmap_and_async_input_in_a_member_advance(balanced):
    async def rows():
        for x in range(3):
            await trio.lowlevel.checkpoint()
            yield (x,)

    async def outer():
        return [x async for x in pool.starmap(double, rows())]

    async with Pool(1) as pool:
        assert await pool.apply(outer) == [0, 2, 4]
        balanced(pool)


async def test_two_maps_of_one_member_share_its_slot(balanced):
    async def outer():
        one = pool.imap(double, [1, 2, 3])
        other = pool.imap(double, [4, 5, 6])
        return [x async for x in other] + [x async for x in one]

    async with Pool(1) as pool:
        assert await pool.apply(outer) == [8, 10, 12, 2, 4, 6]
        balanced(pool)


async def test_a_row_on_a_members_slot_may_apply_and_map_in_turn(balanced):
    async def row(x):
        return await pool.apply(double, (x,)) + sum(await pool.map(double, [x, x]))

    async def outer():
        return await pool.map(row, [1, 2])

    async with Pool(1) as pool:
        assert await pool.apply(outer) == [6, 12]
        balanced(pool)


async def test_a_row_keeps_the_members_slot_when_the_member_ends_first(balanced):
    release = trio.Event()
    iterators = []

    async def row(x):
        await release.wait()
        return x

    async def outer():
        iterators.append(pool.imap(row, [1, 2]))
        await wait_all_tasks_blocked()

    async with Pool(1) as pool:
        await pool.apply(outer)
        assert pool.limiter.borrowed_tokens == 1
        release.set()
        assert [x async for x in iterators[0]] == [1, 2]
        balanced(pool)


# GreenPool.spawn and spawn_n.


async def test_greenpool_spawn_in_a_member_of_a_full_pool_runs_in_place(balanced):
    async def inner(mine):
        return trio.lowlevel.current_task() is mine

    async def outer():
        task = await pool.spawn(inner, trio.lowlevel.current_task())
        assert task.ready()
        return await task

    async with GreenPool(1) as pool:
        assert await pool.apply(outer) is True
        balanced(pool)


async def test_greenpool_spawn_in_place_never_raises_the_calls_error():
    async def outer():
        task = await pool.spawn(fail)
        assert task.status is TaskStatus.FAILED
        error = task.exception
        assert isinstance(error, ValueError)
        assert error.__context__ is None

    async with GreenPool(1) as pool:
        await pool.apply(outer)


async def test_an_unobserved_error_of_an_in_place_spawn_is_raised_at_exit():
    async def outer():
        await pool.spawn(fail)

    with pytest.raises(ExceptionGroup) as caught:
        async with GreenPool(1) as pool:
            await pool.apply(outer)
    assert [repr(e) for e in caught.value.exceptions] == ["ValueError('broken')"]


async def test_greenpool_spawn_in_a_member_takes_a_slot_where_one_is_free():
    async def inner(member):
        return trio.lowlevel.current_task() is member

    async def outer():
        task = await pool.spawn(inner, trio.lowlevel.current_task())
        assert not task.ready()
        return await task

    async with GreenPool(2) as pool:
        assert await pool.apply(outer) is False


async def test_greenpool_spawn_in_place_is_cancelled_with_its_caller(autojump_clock, balanced):
    async def outer():
        with trio.move_on_after(1) as scope:
            await pool.spawn(trio.sleep_forever)
        return scope.cancelled_caught

    async with GreenPool(1) as pool:
        assert await pool.apply(outer)
        balanced(pool)


async def test_greenpool_spawn_in_place_keeps_an_error_beside_a_cancellation(autojump_clock):
    threads = []

    async def breaks_on_cancel():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("cleanup")

    async def inner():
        threads.append(current_task())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(breaks_on_cancel)

    async def outer():
        with trio.move_on_after(1) as scope:
            await pool.spawn(inner)
        return scope.cancelled_caught

    async with GreenPool(1) as pool:
        # The cancellation goes to the caller, and the error to whoever asks the task.
        assert await pool.apply(outer)
        with pytest.raises(ExceptionGroup) as caught:
            await threads[0].get()
        assert caught.group_contains(ValueError, match="cleanup")


async def test_greenpool_spawn_in_a_cancelled_member_starts_nothing():
    ran = []

    async def inner():
        ran.append(1)

    async def outer():
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.spawn(inner)
        return scope.cancelled_caught

    async with GreenPool(2) as pool:
        assert await pool.apply(outer)
    assert not ran


async def test_greenpool_recursion_through_spawn_never_deadlocks(balanced):
    async def tree(depth):
        if depth == 0:
            return 1
        return sum([await (await pool.spawn(tree, depth - 1)) for _ in range(2)])

    async with GreenPool(3) as pool:
        assert await pool.apply(tree, (6,)) == 64
        balanced(pool)


async def test_spawn_n_in_a_member_of_a_full_pool_queues_and_goes_on():
    log = []

    async def inner():
        log.append("inner")

    async def outer():
        assert await pool.spawn_n(inner) is None
        await trio.lowlevel.checkpoint()
        assert pool.waiting() == 1
        log.append("outer")

    async with GreenPool(1) as pool:
        await pool.spawn(outer)
        await pool.waitall()
        assert log == ["outer", "inner"]


async def test_deep_recursion_through_spawn_n_cannot_overflow_the_stack():
    depth = 0

    async def deeper(n):
        nonlocal depth
        depth = max(depth, n)
        if n < 3000:
            await pool.spawn_n(deeper, n + 1)

    async with GreenPool(1) as pool:
        await pool.spawn_n(deeper, 0)
        await pool.waitall()
    assert depth == 3000


async def test_spawn_n_in_a_member_starts_at_once_where_a_slot_is_free():
    async def outer():
        await pool.spawn_n(trio.lowlevel.checkpoint)
        return pool.waiting(), pool.running()

    async with GreenPool(2) as pool:
        assert await pool.apply(outer) == (0, 2)


async def test_spawn_n_in_a_cancelled_member_starts_nothing():
    ran = []

    async def inner():
        ran.append(1)

    async def outer():
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.spawn_n(inner)
        return scope.cancelled_caught

    async with GreenPool(2) as pool:
        assert await pool.apply(outer)
    assert not ran


# join and waitall from inside.


@pytest.mark.parametrize(
    ("kind", "method"), [(Pool, "join"), (Group, "join"), (GreenPool, "waitall")]
)
@pytest.mark.parametrize("where", ["in the member", "below it", "in a row of a map", "in place"])
async def test_join_and_waitall_from_inside_raise_runtimeerror(kind, method, where, balanced):
    async def waiter(_=None):
        with pytest.raises(RuntimeError, match=r"join\(\) from inside") as caught:
            await getattr(pool, method)()
        assert not isinstance(caught.value, PoolDeadlock)
        return "refused"

    async def outer():
        if where == "below it":
            return await below(waiter)
        if where == "in place":
            return await pool.apply(waiter)
        return await waiter()

    async with kind() as pool:
        if where == "in a row of a map":
            assert await pool.map(waiter, [1]) == ["refused"]
        else:
            assert await pool.apply(outer) == "refused"
        balanced(pool)


async def test_join_with_a_timeout_from_inside_raises_all_the_same():
    async def outer():
        with pytest.raises(RuntimeError, match="from inside"):
            await pool.join(timeout=5)

    async with Pool(1) as pool:
        await pool.apply(outer)


async def test_join_from_a_call_of_a_pool_inside_a_member_raises():
    async def inner():
        with pytest.raises(RuntimeError, match="from inside"):
            await outer_pool.join()

    async def outer():
        async with Pool(1) as inner_pool:
            await inner_pool.apply(inner)

    async with Pool(1) as outer_pool:
        await outer_pool.apply(outer)


async def test_join_from_a_callback_and_a_map_async_of_the_pool_raises():
    refused = []

    async def callback(_):
        with pytest.raises(RuntimeError, match="from inside"):
            await pool.join()
        refused.append(1)

    async with Pool(1) as pool:
        pool.apply_async(double, (1,), callback=callback)
        pool.map_async(double, [1], callback=callback)
    assert refused == [1, 1]


async def test_join_of_another_pool_from_a_member_is_allowed():
    async def outer():
        return await other.join()

    async with Pool(1) as pool, Pool(1) as other:
        await other.spawn(double, 1)
        assert await pool.apply(outer) is True


async def test_a_discarded_member_is_still_inside():
    async def outer():
        pool.discard(current_task())
        with pytest.raises(RuntimeError, match="from inside"):
            await pool.join()

    async with Pool(1) as pool:
        await (await pool.spawn(outer)).get()


@pytest.mark.parametrize("method", ["get", "join", "__await__"])
async def test_a_task_that_waits_for_itself_raises_runtimeerror(method):
    async def outer():
        me = current_task()
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            if method == "__await__":
                await me
            else:
                await getattr(me, method)()

    async with Pool(1) as pool:
        await pool.apply(outer)
        await (await pool.spawn(below, outer)).get()


async def test_wait_and_as_completed_for_oneself_raise_runtimeerror():
    async def outer():
        me = current_task()
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            await wait([me])
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            async for _ in as_completed([me]):
                pass

    async with Pool(1) as pool:
        await pool.apply(outer)


# PoolDeadlock in all its forms. `hopeless` is what the last member does.


async def spawn(pool):
    await pool.spawn(double, 1)


async def start(pool):
    task = Task(double, 1)
    try:
        await pool.start(task)
    finally:
        assert task.status is TaskStatus.UNSTARTED


async def add(pool):
    async with Pool(1) as other:
        task = await other.spawn(trio.sleep_forever)
        try:
            await pool.add(task)
        finally:
            task.kill_nowait()


async def wait_available(pool):
    await pool.wait_available()


async def apply_below(pool):
    await below(pool.apply, double, (1,))


async def map_below(pool):
    await below(pool.map, double, [1, 2])


async def imap_below(pool):
    async def read():
        return [x async for x in pool.imap(double, [1, 2])]

    await below(read)


async def imap_unordered_below(pool):
    async def read():
        async with pool.imap_unordered(double, [1, 2]) as results:
            await wait_all_tasks_blocked()  # its feeder waits for a slot before anyone reads
            return [x async for x in results]

    await below(read)


async def get_waiting(pool):
    task = pool.apply_async(double, (1,))
    assert task.status is TaskStatus.WAITING
    try:
        await task.get()
    finally:
        task.kill_nowait()


async def await_waiting(pool):
    task = pool.apply_async(double, (1,))
    try:
        await task
    finally:
        task.kill_nowait()


async def join_waiting(pool):
    task = pool.apply_async(double, (1,))
    try:
        await task.join()
    finally:
        task.kill_nowait()


async def get_waiting_below(pool):
    task = pool.apply_async(double, (1,))
    try:
        await below(task.get)
    finally:
        task.kill_nowait()


async def wait_for_waiting(pool):
    tasks = [pool.apply_async(double, (x,)) for x in range(2)]
    try:
        await wait(tasks)
    finally:
        for task in tasks:
            task.kill_nowait()


async def wait_for_one_waiting(pool):
    tasks = [pool.apply_async(double, (x,)) for x in range(2)]
    try:
        await wait(tasks, count=1)
    finally:
        for task in tasks:
            task.kill_nowait()


async def as_completed_waiting(pool):
    tasks = [pool.apply_async(double, (x,)) for x in range(2)]
    try:
        async for _ in as_completed(tasks):
            pass
    finally:
        for task in tasks:
            task.kill_nowait()


HOPELESS = [
    spawn,
    start,
    add,
    wait_available,
    apply_below,
    map_below,
    imap_below,
    imap_unordered_below,
    get_waiting,
    await_waiting,
    join_waiting,
    get_waiting_below,
    wait_for_waiting,
    wait_for_one_waiting,
    as_completed_waiting,
]
hopeless_forms = pytest.mark.parametrize("hopeless", HOPELESS, ids=lambda f: f.__name__)


@hopeless_forms
async def test_a_lone_member_of_a_full_pool_gets_pooldeadlock(hopeless, balanced):
    async with Pool(1) as pool:
        task = await pool.spawn(hopeless, pool)
        with pytest.raises(PoolDeadlock, match=r"apply\(\) or map\(\)"):
            await task.get()
        await pool.join()
        balanced(pool)
        assert await pool.map(double, [1, 2]) == [2, 4]


async def when(event, func, *args):
    """Run ``func`` once ``event`` is set: by then every slot has its member."""
    await event.wait()
    await func(*args)


@hopeless_forms
async def test_only_the_last_of_several_members_gets_pooldeadlock(hopeless, balanced):
    early, late = trio.Event(), trio.Event()
    async with Pool(3) as pool:
        waiting = [await pool.spawn(when, early, spawn, pool) for _ in range(2)]
        last = await pool.spawn(when, late, hopeless, pool)
        early.set()
        await wait_all_tasks_blocked()
        assert not any(task.ready() for task in waiting)
        late.set()
        with pytest.raises(PoolDeadlock):
            await last.get()
        # Its slot came free, so the others go on.
        assert await wait(waiting) == waiting
        assert all(task.successful() for task in waiting)
        await pool.join()
        balanced(pool)


@hopeless_forms
async def test_whoever_waits_first_makes_the_spawner_after_it_the_last(hopeless, balanced):
    early, late = trio.Event(), trio.Event()
    async with Pool(2) as pool:
        first = await pool.spawn(when, early, hopeless, pool)
        last = await pool.spawn(when, late, spawn, pool)
        early.set()
        await wait_all_tasks_blocked()
        assert not first.ready()
        late.set()
        with pytest.raises(PoolDeadlock):
            await last.get()
        await first.join()
        assert not isinstance(first.exception, PoolDeadlock)
        await pool.join()
        balanced(pool)


@hopeless_forms
async def test_with_a_deadline_nobody_gets_pooldeadlock(hopeless, autojump_clock, balanced):
    async def patient():
        with trio.move_on_after(10):
            await hopeless(pool)
        return trio.current_time()

    async with Pool(1) as pool:
        began = trio.current_time()
        assert await pool.apply(patient) == began + 10
        await pool.join()
        balanced(pool)


@pytest.mark.parametrize("hopeless", [spawn, get_waiting, map_below], ids=lambda f: f.__name__)
async def test_a_deadline_around_the_pool_counts_as_one(hopeless, autojump_clock):
    with trio.move_on_after(10) as scope:
        async with Pool(1) as pool:
            await pool.spawn(hopeless, pool)
    assert scope.cancelled_caught


async def test_timeouts_of_ones_own_are_deadlines(autojump_clock, balanced):
    async def outer():
        waiting = pool.apply_async(double, (1,))
        assert not await waiting.join(timeout=1)
        with pytest.raises(trio.TooSlowError):
            await waiting.get(timeout=1)
        assert await wait([waiting], timeout=1) == []
        with pytest.raises(trio.TooSlowError):
            async for _ in as_completed([waiting], timeout=1):
                pass
        with pytest.raises(PoolFull):
            await pool.start(Task(double, 1), timeout=1)
        assert await pool.wait_available(timeout=1) == 0
        assert not await waiting.kill(block=False) or waiting.ready()

    async with Pool(1) as pool:
        await pool.apply(outer)
        await pool.join()
        balanced(pool)


async def test_a_member_that_waits_with_a_deadline_is_not_one_of_those_who_wait(autojump_clock):
    full = trio.Event()

    async def patient():
        await full.wait()
        with trio.move_on_after(5):
            await pool.spawn(double, 1)

    async with Pool(2) as pool:
        first = await pool.spawn(patient)
        other = await pool.spawn(when, full, spawn, pool)
        full.set()
        await wait([first, other])  # the patient one gave up and left its slot
        assert other.successful()
        assert trio.current_time() >= 5


@pytest.mark.parametrize("hopeless", [spawn, get_waiting, map_below], ids=lambda f: f.__name__)
async def test_on_a_shared_limiter_there_is_no_detection(hopeless, autojump_clock, balanced):
    limiter = trio.CapacityLimiter(1)
    async with Pool(limiter) as pool:
        task = await pool.spawn(hopeless, pool)
        await trio.sleep(10)
        assert not task.ready()
        limiter.total_tokens = 2
        await task.get()
        await pool.join()
        balanced(pool)


async def test_a_wait_for_a_member_that_waits_for_a_slot_in_turn_is_a_deadlock(balanced):
    go = trio.Event()
    async with Pool(2) as pool:
        last = await pool.spawn(when, go, spawn, pool)
        first = await pool.spawn(last.join)
        await wait_all_tasks_blocked()
        go.set()
        with pytest.raises(PoolDeadlock):
            await last.get()
        assert await first.get() is True
        await pool.join()
        balanced(pool)


async def test_a_waiting_task_of_another_pool_counts_for_that_pools_slots():
    # Inside a call of `inner`, which is inside a call of `outer_pool`, whose only slot that holds.
    async def waits_across():
        task = outer_pool.apply_async(double, (1,))
        with pytest.raises(PoolDeadlock):
            await task.get()
        task.kill_nowait()

    async def outer():
        async with Pool(1) as inner:
            await inner.apply(waits_across)

    async with Pool(1) as outer_pool:
        await outer_pool.apply(outer)


async def test_a_deadlock_that_a_shrink_completes_is_no_silent_one(autojump_clock):
    release = trio.Event()

    async with Pool(2) as pool:
        await pool.spawn(release.wait)
        task = await pool.spawn(spawn, pool)
        await wait_all_tasks_blocked()
        pool.size = 1
        release.set()
        over = await task.join(timeout=100)
        if not over:
            await pool.kill()
        assert over
        assert isinstance(task.exception, PoolDeadlock)


async def test_an_input_that_waits_for_a_slot_of_its_own_full_pool_gets_pooldeadlock(balanced):
    async def rows():
        yield 1
        await pool.spawn(double, 1)

    async def outer():
        await pool.map(double, rows())

    async with Pool(1) as pool:
        task = await pool.spawn(outer)
        with pytest.raises(PoolDeadlock):
            await task.get()
        await pool.join()
        balanced(pool)


async def test_an_input_that_waits_for_a_slot_while_others_work_just_waits(autojump_clock):
    async def rows():
        yield 1
        yield await pool.apply(double, (1,))

    async def outer():
        return await pool.map(double, rows())

    async with Pool(2) as pool:
        await pool.spawn(trio.sleep, 5)
        assert await (await pool.spawn(outer)).get() == [2, 4]
        pool.size = 1
        assert await pool.map(double, rows()) == [2, 4]


# No false positives.


async def test_outsiders_that_wait_for_slots_are_no_members(autojump_clock):
    async def hold():
        await trio.sleep(10)

    async with Pool(2) as pool, trio.open_nursery() as outsiders:
        await pool.spawn(hold)
        await pool.spawn(hold)
        for _ in range(5):
            outsiders.start_soon(pool.spawn, hold)
            outsiders.start_soon(pool.map, double, [1, 2])
            outsiders.start_soon(pool.apply, double, [1])


async def test_an_outsider_may_wait_for_a_waiting_task_of_a_full_pool(autojump_clock):
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep, 5)
        assert await pool.apply_async(double, (2,)).get() == 4


async def test_map_async_tasks_hold_no_slot_so_they_are_never_deadlocked(autojump_clock):
    async with Pool(1) as pool:
        await pool.spawn(trio.sleep, 5)
        tasks = [pool.map_async(double, [1, 2]) for _ in range(3)]
        for task in tasks:
            assert await task.get() == [2, 4]


async def test_a_member_that_waits_for_a_map_async_beside_a_busy_one_goes_on(autojump_clock):
    async def outer():
        return await pool.map_async(double, [1]).get()

    async with Pool(2) as pool:
        await pool.spawn(trio.sleep, 5)
        assert await (await pool.spawn(outer)).get() == [2]


async def test_callbacks_hold_no_slot_so_they_may_spawn_into_a_full_pool(autojump_clock):
    got = []

    async def callback(result):
        task = await pool.spawn(double, result)
        got.append(await task)

    async with Pool(1) as pool:
        pool.apply_async(double, (1,), callback=callback)
        await pool.spawn(trio.sleep, 5)
    assert got == [4]


async def test_a_discarded_member_may_wait_for_a_slot(balanced):
    async def outer():
        pool.discard(current_task())
        return await (await pool.spawn(double, 3)).get()

    async with Pool(1) as pool:
        assert await (await pool.spawn(outer)).get() == 6
        await pool.join()
        balanced(pool)


async def test_a_member_may_wait_for_one_that_works(autojump_clock):
    async def outer():
        return await busy

    async with Pool(2) as pool:
        busy = await pool.spawn(trio.sleep, 5)
        await (await pool.spawn(outer)).get()
        assert trio.current_time() == 5


async def test_a_member_may_wait_for_one_that_was_discarded_and_still_works(autojump_clock):
    async def outer():
        return await busy

    async with Pool(1) as pool:
        busy = await pool.spawn(trio.sleep, 5)
        pool.discard(busy)
        await (await pool.spawn(outer)).get()
        assert trio.current_time() == 5


async def test_members_may_wait_while_one_of_them_still_works(autojump_clock):
    async with Pool(3) as pool:
        tasks = [await pool.spawn(spawn, pool) for _ in range(2)]
        await pool.spawn(trio.sleep, 5)
        for task in tasks:
            await task.get()


async def test_a_slot_that_was_just_granted_is_held_by_nobody_who_waits():
    # One ends while another waits, and a third begins to wait before the second has noticed.
    for _ in range(20):
        go = trio.Event()

        async def waits_for_go(go=go):
            await go.wait()
            await pool.spawn(double, 1)

        async with Pool(3) as pool:
            waiter = await pool.spawn(spawn, pool)
            late = await pool.spawn(waits_for_go)
            await pool.spawn(go.wait)
            await wait_all_tasks_blocked()
            go.set()
            await waiter.get()
            await late.get()


async def test_a_waiting_task_that_was_just_granted_a_slot_is_not_waited_for_in_vain():
    for _ in range(20):
        release = trio.Event()

        async def waits_for_waiting():
            return await pool.apply_async(double, (1,)).get()

        async with Pool(3) as pool:
            late = await pool.spawn(when, release, spawn, pool)
            await pool.spawn(release.wait)
            task = await pool.spawn(waits_for_waiting)
            await wait_all_tasks_blocked()
            release.set()
            assert await task.get() == 2
            await late.get()


async def test_an_unlimited_pool_never_deadlocks():
    async def tree(depth):
        if depth:
            await (await pool.spawn(tree, depth - 1)).get()

    async with Pool() as pool:
        assert pool.limiter.total_tokens == math.inf
        await pool.apply(tree, (50,))


async def test_a_wait_for_some_that_run_is_not_in_vain(autojump_clock):
    async def outer():
        running = await other.spawn(trio.sleep, 3)
        waiting = pool.apply_async(double, (1,))
        assert await wait([waiting, running], count=1) == [running]
        async for first in as_completed([waiting, running]):
            assert first is running
            break
        waiting.kill_nowait()

    async with Pool(1) as pool, Pool() as other:
        await pool.apply(outer)


async def test_a_read_beside_rows_that_run_is_not_in_vain(autojump_clock):
    async def row(seconds):
        await trio.sleep(seconds)
        return seconds

    async def read():
        return [x async for x in pool.imap(row, [1, 2, 3])]

    async def outer():
        return await below(read)

    async with Pool(2) as pool:
        assert await pool.apply(outer) == [1, 2, 3]


async def test_a_member_that_has_waited_in_vain_does_not_count_when_it_goes_on(balanced):
    async def outer():
        for _ in range(3):
            with pytest.raises(PoolDeadlock):
                await pool.spawn(double, 1)
        await wait_all_tasks_blocked()
        return await pool.apply(double, (1,))

    async with Pool(1) as pool:
        assert await (await pool.spawn(outer)).get() == 2
        balanced(pool)


async def test_a_cancelled_wait_does_not_count_any_more(autojump_clock):
    async def impatient():
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await pool.spawn(double, 1)
        await trio.sleep(10)

    scopes = []
    async with Pool(2) as pool:
        await pool.spawn(impatient)
        await wait_all_tasks_blocked()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        other = await pool.spawn(spawn, pool)
        await other.get()


async def test_pooldeadlock_is_a_runtimeerror_that_says_what_to_use():
    async with Pool(1) as pool:
        task = await pool.spawn(spawn, pool)
        with pytest.raises(RuntimeError, match="every slot of the pool is held") as caught:
            await task.get()
        assert "more slots" in str(caught.value)


# Rings: each waits for what another one of them runs.


async def test_a_ring_through_a_call_in_place_is_a_deadlock():
    started = trio.Event()
    in_place = []

    async def waits_for(other):
        in_place.append(current_task())
        started.set()
        await other

    async def first(other):
        await pool.apply(waits_for, (other,))

    async def second():
        await started.wait()
        await in_place[0].join()

    async with Pool(2) as pool:
        other = await pool.spawn(second)
        one = await pool.spawn(first, other)
        await pool.join()
        # Whoever closed the ring; the other one may have waited for that task, and raise it, too.
        assert PoolDeadlock in {type(one.exception), type(other.exception)}


async def test_a_map_async_that_a_member_asks_for_may_use_its_slot():
    async def member():
        return await pool.map_async(double, [1, 2]).get()

    async with Pool(1) as pool:
        assert await (await pool.spawn(member)) == [2, 4]


async def test_waiting_below_a_member_for_a_map_async_that_gets_no_slot_is_a_deadlock():
    async def wait_for_it():
        with pytest.raises(PoolDeadlock):
            await pool.map_async(double, [1, 2]).get()

    async def member():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_it)

    async with Pool(1) as pool:
        await (await pool.spawn(member))


async def test_a_ring_of_applies_in_tasks_below_members_is_a_deadlock():
    async def inner():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.apply, double, (1,))

    async def outer():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.apply, inner)

    async with Pool(2) as pool:
        task = await pool.spawn(outer)
        await task.join()
        assert isinstance(task.exception, ExceptionGroup)
        assert task.exception.subgroup(PoolDeadlock) is not None


@asynccontextmanager
async def ends():
    """Fail, and not hang, if this takes long; without a deadline, which no deadlock has."""

    async def watch():
        await trio.sleep(1000)
        pytest.fail("it hangs")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield
        nursery.cancel_scope.cancel()


async def member_that_waits_twice(log, pool, second):
    """Begin a wait for a slot in one task below a member, and a second wait in another."""

    async def note(name, func, *args):
        try:
            await func(*args)
            log[name] = "over"
        except PoolDeadlock:
            log[name] = "deadlock"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, "first", pool.spawn, double, 1)
        await trio.sleep(1)
        nursery.start_soon(note, "second", *second)


async def test_a_shrink_that_leaves_two_waits_of_a_member_in_vain_ends_both(autojump_clock):
    log = {}
    async with ends(), Pool(2) as pool:
        await pool.spawn(trio.sleep, 10)
        await pool.spawn(member_that_waits_twice, log, pool, (pool.spawn, double, 2))
        await trio.sleep(5)
        pool.size = 1
    assert log == {"first": "deadlock", "second": "deadlock"}


async def test_a_shrink_ends_the_wait_that_is_in_vain_and_no_newer_one(autojump_clock):
    log = {}
    async with ends(), Pool(3) as pool:
        discarded = await pool.spawn(trio.sleep, 20)
        pool.discard(discarded)
        for _ in range(2):
            await pool.spawn(trio.sleep, 10)
        await pool.spawn(member_that_waits_twice, log, pool, (discarded.get,))
        await trio.sleep(5)
        pool.size = 1
    assert log == {"first": "deadlock", "second": "over"}


async def test_a_deadlock_is_seen_though_the_tasks_of_a_pool_are_false(autojump_clock):
    class FalseTask(Task):
        def __bool__(self):
            return False

    async def row(_):
        await pool.spawn(double, 1)

    async with ends(), Pool(1, FalseTask) as pool:
        with pytest.raises(PoolDeadlock):
            await (await pool.spawn(pool.map, row, [1]))


async def test_a_discarded_member_on_a_lent_slot_goes_on_iterating(autojump_clock):
    members = []

    async def work(x):
        if x == 0:
            pool.discard(members[0])
        await trio.sleep(1)
        return x

    async def inner(_):
        members.append(current_task())
        async with pool.imap(work, (x for x in range(3))) as results:
            assert [await anext(results), await anext(results)] == [0, 1]

    async with ends(), Pool(1) as pool:
        await pool.map(lambda x: pool.map(inner, [x]), [1])
