"""Single calls in a ThreadPool: rules 2 to 7 and 11 to 13, with real threads."""

import contextlib
import contextvars
import gc
import logging
import os
import signal
import sys
import threading
import traceback
import weakref

import pytest
import trio
from gates import Gate
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from triopool import (
    Group,
    Pool,
    PoolDeadlock,
    PoolFull,
    Task,
    TaskKilled,
    TaskStatus,
    ThreadPool,
    current_task,
)

run_in_trio = trio.from_thread.run
run_sync_in_trio = trio.from_thread.run_sync

either_mode = pytest.mark.parametrize("abandons", [False, True], ids=["waits", "abandons"])


class Oops(Exception):
    pass


def double(x):
    return 2 * x


def fail(x=None):
    raise Oops(x)


def until_cancelled():
    """Ask until the answer is yes; it comes in the next pass of the loop at the latest."""
    pause = threading.Event()
    while True:
        trio.from_thread.check_cancelled()
        pause.wait(0.001)


# Starting calls


async def test_spawn_returns_the_task_of_a_call_with_its_arguments(balanced):
    def run(*args, **kwargs):
        return args, kwargs

    async with ThreadPool(2) as pool:
        task = await pool.spawn(run, 1, 2, func=3, self=4)
        assert task.func is run
        assert (task.args, task.kwargs) == ((1, 2), {"func": 3, "self": 4})
        assert task.name.endswith("run")
        assert await task == ((1, 2), {"func": 3, "self": 4})
        assert (task.status, task.value) == (TaskStatus.SUCCEEDED, ((1, 2), {"func": 3, "self": 4}))
        assert (task.func, task.args, task.kwargs) == (None, (), {})
        balanced(pool)


async def test_spawn_waits_for_a_slot_and_spawn_nowait_does_not(balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        await pool.spawn(gate.hold, 0)
        await gate.until(1)
        with pytest.raises(PoolFull, match="no free slot"):
            pool.spawn_nowait(gate.hold, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.spawn, gate.hold, 2)
            await wait_all_tasks_blocked()
            assert gate.begun == [0]
            gate.open()
        await pool.join()
        assert gate.begun == [0, 2]
        assert await pool.spawn_nowait(double, 3) == 6
        balanced(pool)


async def test_apply_returns_the_result_and_apply_cb_calls_back(balanced):
    seen = []

    async def note(value):
        await trio.lowlevel.checkpoint()
        seen.append(value)

    async with ThreadPool(1) as pool:
        assert await pool.apply(double, (1,)) == 2
        assert await pool.apply(double, kwds={"x": 2}) == 4
        assert await pool.apply_cb(double, (3,), callback=seen.append) == 6
        assert await pool.apply_cb(double, [4], {}, note) == 8
        with pytest.raises(Oops):
            await pool.apply_cb(fail, callback=seen.append)
        balanced(pool)
    assert seen == [6, 8]


async def test_apply_async_never_blocks_and_queues_when_the_pool_is_full(balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        blocker = pool.apply_async(gate.hold)
        assert blocker.status is TaskStatus.RUNNING
        tasks = [pool.apply_async(gate.hold, (x,)) for x in range(3)]
        assert [task.status for task in tasks] == [TaskStatus.WAITING] * 3
        gate.open()
        assert [await task for task in tasks] == [0, 1, 2]
        assert gate.begun == [None, 0, 1, 2]
        await pool.join()
        balanced(pool)


async def test_the_callback_of_apply_async_runs_in_trio_with_the_callers_context():
    variable = contextvars.ContextVar("variable")
    seen = []

    def note(value):
        assert trio.lowlevel.in_trio_task()
        seen.append((value, variable.get(None)))

    async def note_later(value):
        await trio.lowlevel.checkpoint()
        note(value)

    for kind, func in (Pool, async_double), (ThreadPool, double):
        async with kind(1) as pool:
            variable.set(kind.__name__)
            pool.apply_async(func, (1,), callback=note)
            pool.apply_async(func, (2,), callback=note_later)  # which waits for a slot
            pool.apply_async(func, (3,), callback=note)
            await pool.join()
        assert seen == [(2 * n, kind.__name__) for n in (1, 2, 3)]
        seen.clear()


async def async_double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x


async def test_an_error_of_a_callback_is_reported():
    with pytest.raises(ExceptionGroup) as info:
        async with ThreadPool(1) as pool:
            assert await pool.apply_async(double, (1,), callback=fail) == 2
    assert [type(error) for error in info.value.exceptions] == [Oops]


async def test_start_runs_a_task_that_was_made_by_hand(balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        task = Task(gate.hold, 1)
        await pool.start(task)
        await gate.until(1)
        assert (task.status, task.started, task in pool) == (TaskStatus.RUNNING, True, True)
        other = Task(double, 2)
        with pytest.raises(PoolFull):
            await pool.start(other, blocking=False)
        with pytest.raises(PoolFull):
            await pool.start(other, timeout=0)
        assert other.status is TaskStatus.UNSTARTED
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start, other)
            await wait_all_tasks_blocked()
            assert other.status is TaskStatus.WAITING
            gate.open()
        assert (await task, await other) == (1, 4)
        with pytest.raises(RuntimeError, match="runs once"):
            await pool.start(task)
        balanced(pool)


async def test_a_task_that_is_killed_before_its_start_never_runs():
    ran = []
    async with ThreadPool(1) as pool, Gate() as gate:
        task = Task(ran.append, 1)
        await task.kill()
        with pytest.raises(RuntimeError, match="runs once"):
            await pool.start(task)
        await pool.spawn(gate.hold)
        task = Task(ran.append, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.start, task)
            await wait_all_tasks_blocked()
            assert await task.kill()
        gate.open()
        await pool.join()
    assert not ran


async def test_a_task_with_a_sync_run_of_its_own_runs_in_a_thread():
    class Mine(Task):
        def run(self):
            assert current_task() is self
            return threading.get_ident(), self.args

    async with ThreadPool(1) as pool:
        task = Mine()
        await pool.start(task)
        thread, args = await task
        assert thread == await pool.apply(threading.get_ident)
        assert args == ()
        pool.task_class = Mine
        assert await pool.apply(double, (3,)) == (thread, (3,))
        assert await pool.map(double, [4]) == [(thread, (4,))]
        assert await pool.map(double, (x for x in [5])) == [(thread, (5,))]
        _, args = await pool.apply_async(double, (6,), callback=print)
        assert args == (6,)


async def test_a_task_with_an_async_run_of_its_own_fails():
    class Mine(Task):
        async def run(self):
            raise AssertionError

    async with ThreadPool(1) as pool:
        task = Mine()
        await pool.start(task)
        with pytest.raises(TypeError, match="returned a coroutine"):
            await task


async def test_added_tasks_take_a_slot_and_die_with_a_kill(balanced):
    async with ThreadPool(1) as pool, Pool() as other, ThreadPool(1) as third, Gate() as gate:
        task = await other.spawn(trio.sleep_forever)
        await pool.add(task)
        assert pool.full()
        foreign = await third.spawn(gate.hold)
        with pytest.raises(PoolFull):
            await pool.add(foreign, blocking=False)
        pool.discard(task)
        assert not pool.full()
        await pool.add(foreign)
        assert (len(pool), foreign in pool) == (1, True)
        gate.open()
        await pool.join()
        assert foreign.value is None
        await pool.add(task)
        await pool.kill()
        assert task.status is TaskStatus.KILLED
        await pool.add(task)
        balanced(pool)


async def test_a_call_can_be_added_to_a_group():
    async with ThreadPool(1) as pool, Gate() as gate:
        task = await pool.spawn(gate.ask)
        async with Group([task]) as group:
            assert list(group) == [task]
            await gate.until(1)
            await group.kill(block=False)
            gate.open()
        assert task.status is TaskStatus.KILLED


@either_mode
async def test_discarding_an_own_call_frees_its_slot_and_the_block_waits_for_it(abandons):
    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        gate = Gate()
        task = await pool.spawn(gate.hold, 1)
        await gate.until(1)
        pool.discard(task)
        pool.discard(task)
        assert (pool.free_count(), len(pool), task in pool) == (1, 0, False)
        assert pool.limiter.borrowed_tokens == 0
        assert await pool.apply(double, (2,)) == 4
        assert await pool.join()
        assert not task.ready()
        trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
    assert task.value == 1


async def open_when_all_is_blocked(gate):
    await wait_all_tasks_blocked()
    gate.open()


async def test_a_call_that_was_discarded_and_left_behind_has_no_slot_to_give_back(balanced):
    async with ThreadPool(1, abandon_on_cancel=True) as pool, Gate() as gate:
        task = await pool.spawn(gate.hold, 1)
        await gate.until(1)
        pool.discard(task)
        assert await task.kill()
        balanced(pool)
        blocker = await pool.spawn(gate.hold, 2)
        await gate.until(2)
        gate.open(1)
        while pool.size > 1:
            await trio.lowlevel.checkpoint()
        assert pool.limiter.borrowed_tokens == 1
        gate.open(2)
        assert await blocker == 2
        balanced(pool)


# Rule 2: no error is lost, and none reported twice


async def test_the_error_of_a_call_goes_to_whoever_waits_for_it():
    async with ThreadPool(2) as pool:
        with pytest.raises(Oops):
            await pool.apply(fail)
        task = await pool.spawn(fail, 1)
        for _ in range(2):
            with pytest.raises(Oops):
                await task
        assert task.status is TaskStatus.FAILED
        task = await pool.spawn(fail, 1)
        assert await task.join()
        assert isinstance(task.exception, Oops)


async def test_an_error_that_nobody_has_seen_is_raised_at_the_end_of_the_block():
    with pytest.raises(ExceptionGroup, match="2 unobserved errors in ThreadPool") as info:
        async with ThreadPool(2) as pool:
            await pool.spawn(fail, 1)
            pool.apply_async(fail, (2,))
            assert await pool.apply(double, (1,)) == 2
    assert sorted(error.args for error in info.value.exceptions) == [(1,), (2,)]


async def test_join_raises_what_failed_before_it_was_called():
    async with ThreadPool(2) as pool:
        task = await pool.spawn(fail, 1)
        await task.join()
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(raise_error=True)
        assert [error.args for error in info.value.exceptions] == [(1,)]


async def test_stop_iteration_of_a_call_is_an_error_like_others():
    async with ThreadPool(1) as pool:
        task = await pool.spawn(next, iter(()))
        for use in (task.get, lambda: pool.apply(next, (iter(()),)), lambda: pool.map(next, [[]])):
            with pytest.raises((RuntimeError, TypeError)):
                await use()
        assert isinstance(task.exception, StopIteration)


async def test_a_stored_traceback_holds_no_frame_of_triopool():
    async with ThreadPool(1) as pool:
        task = await pool.spawn(fail)
        await task.join()
        frames = traceback.extract_tb(task.exception.__traceback__)
        assert [frame.name for frame in frames] == ["fail"]
        (error,) = await pool.map(fail, [1], return_exceptions=True)
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("mine"), pytest.fail.Exception])
async def test_what_is_no_exception_takes_the_pool_down(error):
    def leave():
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)) as info:
        async with ThreadPool(2) as pool, Gate() as gate:
            other = await pool.spawn(until_cancelled)
            task = await pool.spawn(leave)
            await trio.sleep_forever()
    assert isinstance(error, type) or info.value is error
    assert task.status is TaskStatus.FAILED
    assert other.status is TaskStatus.KILLED
    assert pool.limiter.borrowed_tokens == 0
    assert gate.begun == []


async def test_sys_exit_in_a_call_is_raised_by_apply_and_leaves_bare():
    with pytest.raises(SystemExit) as info:
        async with ThreadPool(1) as pool:
            await pool.apply(sys.exit, (3,))
    assert info.value.code == 3


async def test_sys_exit_beside_an_error_is_in_the_group_of_its_call():
    def leave():
        raise BaseExceptionGroup("both", [SystemExit(3), Oops()])

    with pytest.raises(BaseExceptionGroup) as info:
        async with ThreadPool(1) as pool:
            await pool.spawn(leave)
            await trio.sleep_forever()
    assert info.group_contains(SystemExit)
    assert info.group_contains(Oops)


async def test_a_group_that_cannot_be_split_is_taken_as_it_is():
    class Unsplit(ExceptionGroup):
        def split(self, _):
            raise Oops

    def run():
        raise Unsplit("both", [KeyError(), ValueError()])

    async with ThreadPool(1) as pool:
        task = await pool.spawn(run)
        with pytest.raises(Unsplit, match="both"):
            await task
        assert await pool.apply(double, (1,)) == 2


async def test_a_link_that_raises_system_exit_takes_the_pool_down():
    with pytest.raises(SystemExit):
        async with ThreadPool(1) as pool, Gate() as gate:
            task = await pool.spawn(gate.hold)
            task.link(lambda _: sys.exit(3))
            gate.open()
            await trio.sleep_forever()
    assert task.successful()


async def test_links_are_called_in_trio_in_order_and_their_errors_are_reported():
    seen = []
    with pytest.raises(ExceptionGroup, match="1 unobserved error"):
        async with ThreadPool(1) as pool, Gate() as gate:
            task = await pool.spawn(gate.hold, 1)
            task.link(fail)
            task.link(lambda done: seen.append((done is task, trio.lowlevel.in_trio_run())))
            task.link_value(lambda _: seen.append("value"))
            task.link_exception(lambda _: seen.append("exception"))
            gate.open()
            await task
    assert seen == [(True, True), "value"]


# Rule 3: on_error


async def test_a_failure_harms_no_sibling():
    async with ThreadPool(2) as pool, Gate() as gate:
        other = await pool.spawn(gate.ask, 1)
        failed = await pool.spawn(fail)
        await failed.join()
        assert failed.exception is not None
        gate.open()
        assert await other == 1


async def test_on_error_cancel_takes_the_others_down():
    with pytest.raises(ExceptionGroup) as info:
        async with ThreadPool(2, on_error="cancel") as pool:
            other = await pool.spawn(until_cancelled)
            await pool.spawn(fail)
            await trio.sleep_forever()
    assert info.group_contains(Oops)
    assert other.status is TaskStatus.KILLED


async def test_on_error_log_writes_it_into_the_log(caplog):
    async with ThreadPool(1, on_error="log") as pool:
        await pool.spawn(fail)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("triopool", logging.ERROR)
    assert isinstance(record.exc_info[1], Oops)


async def test_on_error_hands_a_failed_task_to_a_function_in_trios_thread():
    seen = []

    def note(task):
        seen.append((task, threading.get_ident()))

    async with ThreadPool(1, on_error=note) as pool:
        task = await pool.spawn(fail)
        with pytest.raises(Oops):
            await pool.apply(fail)
    assert seen == [(task, threading.get_ident())]
    assert isinstance(task.exception, Oops)


# Rule 4: leaving the block


async def test_leaving_the_block_waits_for_what_runs_and_what_is_queued():
    async with ThreadPool(1) as pool:
        gate = Gate()
        tasks = [pool.apply_async(gate.hold, (x,)) for x in range(3)]
        trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
    assert [task.value for task in tasks] == [0, 1, 2]


async def test_calls_may_still_spawn_while_the_block_is_left():
    def spawn_another():
        gate.hold()
        return run_in_trio(pool.spawn, double, 2), run_in_trio(pool.apply, double, (3,))

    async with ThreadPool(2) as pool:
        gate = Gate()
        task = await pool.spawn(spawn_another)
        trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
    other, result = task.value
    assert (other.value, result) == (4, 6)


async def test_an_error_in_the_body_kills_and_waits_and_comes_out_as_it_is():
    with pytest.raises(KeyError):
        async with ThreadPool(1) as pool:
            task = await pool.spawn(until_cancelled)
            queued = pool.apply_async(double, (1,))
            raise KeyError
    assert (task.status, queued.status) == (TaskStatus.KILLED, TaskStatus.KILLED)


async def test_a_deadline_around_the_pool_is_seen_by_the_call_and_leaves_the_block(autojump_clock):
    with trio.move_on_after(5) as scope:
        async with ThreadPool(1) as pool:
            task = await pool.spawn(until_cancelled)
    assert scope.cancelled_caught
    assert task.status is TaskStatus.KILLED
    with pytest.raises(trio.TooSlowError), trio.fail_after(5):
        async with ThreadPool(1) as pool:
            await pool.apply(until_cancelled)


async def test_whoever_waits_outside_of_a_cancelled_pool_gets_task_killed():
    async def wait_for(task):
        with pytest.raises(TaskKilled):
            await task
        seen.append(task)

    seen = []
    async with trio.open_nursery() as nursery, ThreadPool(1) as pool:
        task = await pool.spawn(until_cancelled)
        nursery.start_soon(wait_for, task)
        await wait_all_tasks_blocked()
        pool.cancel_scope.cancel()
    assert seen == [task]


async def test_a_call_that_was_not_begun_when_its_pool_was_cancelled_never_runs(balanced):
    ran = []
    for _ in range(20):
        async with ThreadPool(1) as pool:
            task = await pool.spawn(ran.append, 1)  # there is no thread yet
            pool.cancel_scope.cancel()
        assert task.status is TaskStatus.KILLED
        balanced(pool)
    assert not ran


async def test_a_call_of_a_cancelled_pool_that_does_not_ask_returns_its_value():
    gate = Gate()
    async with ThreadPool(1) as pool:
        task = await pool.spawn(gate.hold, 1)
        queued = pool.apply_async(gate.hold, (2,))
        await gate.until(1)
        pool.cancel_scope.cancel()
        gate.open()
    assert (task.value, queued.status, gate.begun) == (1, TaskStatus.KILLED, [1])


async def test_ctrl_c_in_trio_kills_the_calls_and_leaves_bare():
    with pytest.raises(KeyboardInterrupt):
        async with ThreadPool(1) as pool:
            task = await pool.spawn(until_cancelled)
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
    assert task.status is TaskStatus.KILLED


# Rule 5: kill

KILLS = {
    "pool.kill": lambda pool, task, *args, **kwargs: pool.kill(*args, **kwargs),
    "pool.killone": lambda pool, task, *args, **kwargs: pool.killone(task, *args, **kwargs),
    "task.kill": lambda pool, task, *args, **kwargs: task.kill(*args, **kwargs),
}
every_kill = pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)


@every_kill
async def test_a_killed_call_sees_it_in_check_cancelled_with_the_reason(kill, balanced):
    seen = []

    def run():
        try:
            until_cancelled()
        except trio.Cancelled as cancelled:
            seen.append(cancelled.reason)
            raise

    async with ThreadPool(2) as pool:
        task = await pool.spawn(run)
        assert await kill(pool, task, reason="too old") is True
        assert task.status is TaskStatus.KILLED
        assert task.exception is None
        with pytest.raises(TaskKilled, match="was killed: too old"):
            await task
        balanced(pool)
        assert await pool.apply(double, (1,)) == 2


@every_kill
async def test_check_cancelled_is_not_raised_for_the_next_call(kill):
    def run():
        trio.from_thread.check_cancelled()
        return threading.get_ident()

    async with ThreadPool(1) as pool, Gate() as gate:
        for stops in (gate.ask, gate.hold):
            task = await pool.spawn(stops)
            await gate.until(1)
            await kill(pool, task, block=False)
            gate.open()
            assert await task.join()
            assert await pool.apply(run)
            assert await pool.map(lambda _: run(), [1, 2, 3])


@every_kill
@pytest.mark.parametrize("given", [KeyError, KeyError("x")], ids=repr)
async def test_get_of_a_killed_call_raises_the_exception_that_was_passed(kill, given):
    async with ThreadPool(1) as pool:
        task = await pool.spawn(until_cancelled)
        await kill(pool, task, given)
        with pytest.raises(KeyError):
            await task


@every_kill
async def test_a_killed_call_that_returns_or_raises_all_the_same_has_done_so(kill):
    def run():
        gate.hold("fails")
        raise Oops

    async with ThreadPool(2) as pool, Gate() as gate:
        returns = await pool.spawn(gate.hold, "returns")
        fails = await pool.spawn(run)
        await gate.until(2)
        for task in (returns, fails):
            assert await kill(pool, task, block=False) is False
        gate.open()
        assert await returns == "returns"
        with pytest.raises(Oops):
            await fails
        await pool.join()


@every_kill
async def test_kill_waits_and_its_timeout_bounds_the_wait(kill, autojump_clock):
    async with ThreadPool(1) as pool, Gate() as gate:
        task = await pool.spawn(gate.ask)
        await gate.until(1)
        start = trio.current_time()
        assert await kill(pool, task, timeout=5) is False
        assert trio.current_time() == start + 5
        assert (task.status, pool.full()) == (TaskStatus.RUNNING, True)
        gate.open()
        assert await kill(pool, task) is True
        assert not pool.full()


@every_kill
async def test_what_has_not_begun_never_runs(kill, balanced):
    ran = []

    async with ThreadPool(1) as pool, Gate() as gate:
        for _ in range(50):
            task = await pool.spawn(ran.append, 1)
            assert task.status is TaskStatus.RUNNING
            task.kill_nowait()
            if not ran:
                break
            ran.clear()  # its thread was faster
        assert task.status is TaskStatus.KILLED
        await pool.join()
        blocker = await pool.spawn(gate.hold)
        await gate.until(1)
        queued = pool.apply_async(ran.append, (2,))
        if kill is KILLS["pool.kill"]:
            assert await pool.kill(timeout=0) is False
        else:
            assert await kill(pool, queued) is True
        assert queued.status is TaskStatus.KILLED
        gate.open()
        await blocker.join()
        await pool.join()
        balanced(pool)
    assert not ran


async def test_a_call_that_is_killed_before_its_thread_has_started_never_runs(balanced):
    ran = []
    async with ThreadPool(2) as pool:
        tasks = [await pool.spawn(ran.append, x) for x in range(2)]
        # No pass of the loop has gone by since the second one, so it has no thread.
        tasks[1].kill_nowait()
        assert tasks[1].status is TaskStatus.KILLED
        await pool.join()
        balanced(pool)
        assert await pool.apply(double, (1,)) == 2
    assert ran in ([0], [])


async def test_a_thread_that_came_too_late_for_a_call_can_be_asked_to_end_the_next_one(balanced):
    async with ThreadPool(1) as pool, Gate() as gate:
        for _ in range(2):
            withdrawn = pool.spawn_nowait(int)
            withdrawn.kill_nowait()
            assert withdrawn.status is TaskStatus.KILLED
            while not pool._threads.idle:  # its thread is not back yet
                await trio.lowlevel.checkpoint()
        task = await pool.spawn(gate.ask)
        await gate.until(1)
        assert pool.size == 1
        await task.kill(block=False)
        gate.open()
        await task.join()
        assert task.status is TaskStatus.KILLED
        balanced(pool)


@pytest.mark.parametrize("what", ["kill", "discard"])
async def test_a_call_that_is_just_over_is_neither_killed_nor_discarded(what, balanced):
    done = threading.Event()
    async with ThreadPool(1) as pool:
        for _ in range(20):
            done.clear()
            task = await pool.spawn(done.set)
            await trio.lowlevel.checkpoint()
            while not (task.ready() or done.is_set()):
                await trio.lowlevel.checkpoint()
            # If the thread has not deposited the result yet, it does so now or a little later.
            if what == "kill":
                task.kill_nowait()
            else:
                pool.discard(task)
            await task.join()
            await pool.join()
            balanced(pool)
        assert await pool.apply(double, (1,)) == 2


async def test_spawners_that_wait_are_not_killed():
    async with ThreadPool(1) as pool, Gate() as gate, trio.open_nursery() as nursery:
        await pool.spawn(gate.ask, 1)
        await gate.until(1)
        nursery.start_soon(pool.spawn, gate.ask, 2)
        await wait_all_tasks_blocked()
        await pool.kill(block=False)
        gate.open(1)
        await gate.until(2)
        gate.open()


async def test_a_thread_renews_its_host_after_a_kill_only():
    def host():
        return run_sync_in_trio(trio.lowlevel.current_task)

    async with ThreadPool(1) as pool:
        first = await pool.apply(host)
        assert await pool.apply(host) is first
        with pytest.raises(Oops):
            await pool.apply(fail)
        assert await pool.apply(host) is first
        task = await pool.spawn(until_cancelled)
        await task.kill()
        assert await pool.apply(host) is not first


async def test_a_kill_inside_includes_the_caller_and_never_waits_for_it(balanced):
    def kill_all():
        run_in_trio(pool.kill)

    def kill_all_nowait():
        run_sync_in_trio(pool.kill_nowait)
        until_cancelled()

    def kill_myself():
        task = current_task()
        assert task is not None
        run_in_trio(task.kill)

    async with ThreadPool(2) as pool:
        for func in (kill_all, kill_all_nowait, kill_myself):
            task = await pool.spawn(func)
            await task.join()
            assert task.status is TaskStatus.KILLED
            await pool.join()
            balanced(pool)


async def test_a_cancelled_that_is_none_of_the_pools_is_a_kill_of_that_call_alone():
    cancelled = []

    async def cancel_this():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                cancelled.append(error)
                raise

    def raise_stale():
        raise cancelled[0]

    async with ThreadPool(1) as pool, Gate():
        await pool.apply(lambda: run_in_trio(cancel_this))
        task = await pool.spawn(raise_stale)
        await task.join()
        assert task.status is TaskStatus.KILLED
        assert await pool.apply(double, (1,)) == 2


# Leaving calls behind


@every_kill
async def test_a_killed_call_is_left_behind_and_its_slot_comes_back_with_its_thread(kill, balanced):
    ended = threading.Event()

    def run():
        gate.hold()
        ended.set()
        return 1

    async with ThreadPool(1, abandon_on_cancel=True) as pool, Gate() as gate:
        task = await pool.spawn(run)
        await gate.until(1)
        assert await kill(pool, task) is True
        assert (task.status, len(pool)) == (TaskStatus.KILLED, 0)
        assert (pool.full(), pool.size) == (True, 1)
        queued = pool.apply_async(double, (1,))
        await wait_all_tasks_blocked()
        assert (queued.status, ended.is_set()) == (TaskStatus.WAITING, False)
        gate.open()
        assert await queued == 2
        assert ended.is_set()
        await pool.join()
        balanced(pool)
    assert (task.status, task.value) == (TaskStatus.KILLED, None)


async def test_a_caller_that_is_cancelled_goes_on_at_once():
    async with ThreadPool(2, abandon_on_cancel=True) as pool, Gate() as gate:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.apply, gate.hold, (1,))
                await gate.until(1)
                scope.cancel()
        assert scope.cancelled_caught
        assert pool.free_count() == 1
        gate.open()
        while pool.free_count() < 2:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("late", [None, Oops, SystemExit, KeyboardInterrupt])
async def test_a_late_result_or_error_is_dropped_without_a_word(late, caplog, balanced):
    def run(x):
        gate.hold(x)
        if late is not None:
            raise late
        return x

    seen = []
    async with (
        ThreadPool(2, abandon_on_cancel=True, on_error=seen.append) as pool,
        Gate() as gate,
    ):
        task = await pool.spawn(run, 1)
        row = trio.CancelScope()

        async def map_one():
            with row:
                await pool.map(run, [2])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(map_one)
            await gate.until(2)
            await task.kill()
            row.cancel()
        assert pool.full()
        gate.open()
        while pool.limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        balanced(pool)
        assert pool.size == 0
    assert (seen, caplog.records) == ([], [])
    assert task.status is TaskStatus.KILLED


async def test_a_call_left_behind_learns_of_it_from_check_cancelled():
    seen = []

    def run():
        gate.hold()
        try:
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            seen.append("cancelled")
            raise

    async with ThreadPool(1, abandon_on_cancel=True) as pool, Gate() as gate:
        task = await pool.spawn(run)
        await gate.until(1)
        await task.kill()
        gate.open()
        assert await pool.apply(double, (1,)) == 2
    assert seen == ["cancelled"]


async def test_a_call_left_behind_outlives_the_block_and_nothing_else():
    limiter = trio.CapacityLimiter(2)
    async with Gate() as gate:
        with pytest.raises(KeyError):
            async with ThreadPool(limiter, abandon_on_cancel=True) as pool:
                pool.size = 2
                task = await pool.spawn(gate.hold)
                await gate.until(1)
                raise KeyError
        assert task.status is TaskStatus.KILLED
        assert (limiter.borrowed_tokens, pool.size) == (1, 1)
        names = [thread.name for thread in threading.enumerate()]
        assert sum(f"ThreadPool at {id(pool):#x}" in name for name in names) == 1
        gate.open()
        while limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        assert pool.size == 0


def test_a_call_left_behind_may_outlive_the_run_of_trio():
    go, ended = threading.Event(), threading.Event()

    def run(token, begun):
        token.run_sync_soon(begun.set)
        go.wait()
        ended.set()

    async def main():
        async with ThreadPool(1, abandon_on_cancel=True) as pool:
            begun = trio.Event()
            token = trio.lowlevel.current_trio_token()
            await pool.spawn(run, token, begun)
            await begun.wait()
            pool.cancel_scope.cancel()

    trio.run(main)
    go.set()
    assert ended.wait(60)
    assert trio.run(in_a_pool, double, 2) == 4


async def in_a_pool(func, *args):
    async with ThreadPool(1) as pool:
        return await pool.apply(func, args)


async def test_leaving_the_block_normally_leaves_nothing_behind():
    gate = Gate()
    async with ThreadPool(1, abandon_on_cancel=True) as pool:
        task = await pool.spawn(gate.hold, 1)
        trio.lowlevel.spawn_system_task(open_when_all_is_blocked, gate)
    assert task.value == 1


async def test_an_idle_thread_or_a_call_that_has_not_begun_is_not_left_behind(balanced):
    ran = []
    for _ in range(20):
        async with ThreadPool(2, abandon_on_cancel=True) as pool:
            pool.size = 2
            await pool.apply(double, (1,))
            pool.size = 1
            pool.size = 2
            task = await pool.spawn(ran.append, 1)
            pool.cancel_scope.cancel()
        assert task.ready()
        assert ran == [1] * task.successful()
        ran.clear()
        assert pool.size == 0
        balanced(pool)


async def test_a_call_for_an_idle_thread_that_has_not_begun_is_not_left_behind(balanced):
    ran = []
    for _ in range(20):
        async with ThreadPool(1, abandon_on_cancel=True) as pool:
            await pool.apply(double, (1,))
            task = pool.spawn_nowait(ran.append, 1)
            pool.cancel_scope.cancel()
        assert (task.status, ran) in ((TaskStatus.KILLED, []), (TaskStatus.SUCCEEDED, [1]))
        ran.clear()
        while pool.size:  # if it was begun after all, it is
            await trio.lowlevel.checkpoint()
        balanced(pool)


# Rule 6: slots


async def test_those_who_wait_are_served_first_come_first_served():
    log = []
    async with ThreadPool(1) as pool, Gate() as gate, trio.open_nursery() as nursery:
        await pool.spawn(gate.hold)
        for x, ask in enumerate(("spawn", "apply_async", "apply", "apply_async", "map", "spawn")):
            if ask == "apply_async":
                pool.apply_async(log.append, (x,))
            elif ask == "map":
                nursery.start_soon(pool.map, log.append, [x])
            elif ask == "apply":
                nursery.start_soon(pool.apply, log.append, (x,))
            else:
                nursery.start_soon(pool.spawn, log.append, x)
            await wait_all_tasks_blocked()
        gate.open()
        await pool.join()
    assert log == list(range(6))


async def test_two_pools_share_a_limiter_and_take_turns():
    limiter = trio.CapacityLimiter(1)
    async with ThreadPool(limiter) as one, ThreadPool(limiter) as other, Gate() as gate:
        first = await one.spawn(gate.hold, 1)
        await gate.until(1)
        second = other.apply_async(gate.hold, (2,))
        await wait_all_tasks_blocked()
        third = one.apply_async(gate.hold, (3,))
        await wait_all_tasks_blocked()
        assert gate.begun == [1]
        gate.open()
        assert [await task for task in (first, second, third)] == [1, 2, 3]
        assert gate.begun == [1, 2, 3]


async def test_a_spawn_that_waits_for_a_shared_limiter_is_refused_when_its_pool_closes():
    limiter = trio.CapacityLimiter(1)
    refused = []

    async def spawn(pool):
        with pytest.raises(trio.ClosedResourceError):
            await pool.spawn(double, 1)
        refused.append(1)

    async with ThreadPool(limiter) as other, Gate() as gate, trio.open_nursery() as nursery:
        await other.spawn(gate.hold)
        with pytest.raises(KeyError):
            async with ThreadPool(limiter) as pool:
                nursery.start_soon(spawn, pool)
                await wait_all_tasks_blocked()
                raise KeyError
        await wait_all_tasks_blocked()
        assert refused == [1]
        gate.open()


# Rule 7: checkpoints and cancellation


async def test_every_async_method_is_a_checkpoint():
    async with ThreadPool(3) as pool, Pool() as other, Gate() as gate:
        foreign = await other.spawn(trio.sleep_forever)
        for use in (
            lambda: pool.spawn(double, 1),
            lambda: pool.apply(double, (1,)),
            lambda: pool.apply_cb(double, (1,)),
            lambda: pool.map(double, []),
            lambda: pool.map(double, [1]),
            lambda: pool.map_cb(double, [1]),
            lambda: pool.start(Task(double, 1)),
            lambda: pool.add(foreign),
            pool.wait_available,
            lambda: pool.killone(foreign, block=False),
            pool.kill,
            pool.join,
        ):
            with assert_checkpoints():
                await use()
        gate.open()
        await other.kill()


async def test_a_cancelled_spawn_started_nothing_and_holds_no_slot(balanced):
    ran = []
    async with ThreadPool(1) as pool, Gate() as gate:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.spawn(ran.append, 1)
        balanced(pool)
        blocker = await pool.spawn(gate.hold)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.spawn, ran.append, 2)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        gate.open()
        await blocker
        await pool.join()
        balanced(pool)
    assert not ran


async def test_a_cancelled_get_or_join_leaves_the_call_running():
    async with ThreadPool(1) as pool, Gate() as gate:
        task = await pool.spawn(gate.ask, 1)
        for wait in (task.get, task.join, pool.join):
            with trio.move_on_after(0) as scope:
                await wait()
            assert scope.cancelled_caught
        with pytest.raises(trio.TooSlowError):
            await task.get(timeout=0)
        assert await task.join(timeout=0) is False
        assert await pool.join(timeout=0) is False
        gate.open()
        assert await task == 1


async def test_a_cancelled_apply_cancels_its_own_call_waits_for_it_and_touches_no_other(balanced):
    def run():
        try:
            gate.hold(2)
            until_cancelled()
        finally:
            ended.append("cleaned up")

    ended = []
    async with ThreadPool(2) as pool, Gate() as gate:
        other = await pool.spawn(gate.ask, 1)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.apply, run)
                await gate.until(2)
                scope.cancel()
                gate.open(2)
        assert scope.cancelled_caught
        assert ended == ["cleaned up"]
        gate.open()
        assert await other == 1
        balanced(pool)


async def test_a_cancelled_apply_whose_call_returns_all_the_same_returns_its_value():
    async with ThreadPool(1) as pool, Gate() as gate:
        results = []

        async def apply():
            results.append(await pool.apply(gate.hold, (1,)))

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(apply)
                await gate.until(1)
                scope.cancel()
                gate.open()
        assert results == [1]


@pytest.mark.parametrize("how", ["spawn", "spawn_nowait", "apply_async", "start"])
async def test_the_first_line_never_runs_before_the_caller_has_the_task(how):
    class Holder:
        task = None

    def run(holder):
        return holder.task

    async with ThreadPool(1) as pool:
        await pool.apply(double, (1,))  # so that a thread waits for something to do
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(300):
                holder = Holder()
                if how == "spawn":
                    holder.task = await pool.spawn(run, holder)
                elif how == "spawn_nowait":
                    holder.task = pool.spawn_nowait(run, holder)
                elif how == "apply_async":
                    holder.task = pool.apply_async(run, (holder,))
                else:
                    task = Task(run, holder)
                    await pool.start(task)
                    holder.task = task
                task = holder.task
                assert await task is task
                await pool.join()
        finally:
            sys.setswitchinterval(interval)


# Rule 11: members


@either_mode
async def test_apply_inside_a_full_pool_runs_on_the_slot_of_its_caller(abandons, balanced):
    def inner(n):
        assert run_sync_in_trio(lambda: pool.limiter.borrowed_tokens) == 1
        return 0 if n == 0 else 1 + run_in_trio(pool.apply, inner, (n - 1,))

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        assert await pool.apply(inner, (3,)) == 3
        assert await pool.map(inner, [1, 2, 1]) == [1, 2, 1]
        assert await pool.map(inner, (n for n in (1, 2, 1))) == [1, 2, 1]
        balanced(pool)


@either_mode
async def test_map_inside_a_full_pool_runs_on_the_slot_of_its_caller(abandons, balanced):
    def inner(n):
        return n if n < 2 else sum(run_in_trio(pool.map, inner, [n - 1, n - 2]))

    def generated(n):
        return n if n < 2 else sum(run_in_trio(pool.map, generated, (m for m in [n - 1, n - 2])))

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        assert await pool.apply(inner, (6,)) == 8
        assert await pool.apply(generated, (6,)) == 8
        balanced(pool)
    async with ThreadPool(3, abandon_on_cancel=abandons) as pool:
        assert await pool.map(inner, range(7)) == [0, 1, 1, 2, 3, 5, 8]
        assert await pool.map(generated, range(7)) == [0, 1, 1, 2, 3, 5, 8]
        balanced(pool)


@either_mode
@pytest.mark.parametrize("sync", [True, False], ids=["run_sync", "run"])
async def test_an_iterator_inside_a_full_pool_runs_on_the_slot_of_its_caller(
    abandons, sync, balanced
):
    async def open_iterator(values):
        return pool.imap(double, values)

    def inner():
        if sync:
            results = run_sync_in_trio(pool.imap, double, range(5))
        else:
            results = run_in_trio(open_iterator, range(5))
        return [run_in_trio(results.__anext__) for _ in range(5)]

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        assert await pool.apply(inner) == [0, 2, 4, 6, 8]
        await pool.join()
        balanced(pool)


async def test_rows_go_on_with_the_slot_of_a_caller_that_has_ended(balanced):
    def inner():
        return run_sync_in_trio(pool.imap, gate.hold, range(4))

    async with ThreadPool(1) as pool, Gate() as gate:
        results = await pool.apply(inner)
        await gate.until(1)
        assert pool.limiter.borrowed_tokens == 1
        gate.open()
        assert [x async for x in results] == [0, 1, 2, 3]
        await pool.join()
        balanced(pool)


@either_mode
async def test_a_spawn_inside_of_a_full_pool_raises_pool_deadlock(abandons, balanced):
    def inner():
        with pytest.raises(PoolDeadlock):
            run_in_trio(pool.spawn, double, 1)
        queued = run_sync_in_trio(pool.apply_async, double, (2,))
        with pytest.raises(PoolDeadlock):
            run_in_trio(queued.get)
        return queued

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        queued = await pool.apply(inner)
        assert await queued == 4
        (queued,) = await pool.map(inner_of(inner), [1])
        assert await queued == 4
        await pool.join()
        balanced(pool)


def inner_of(func):
    return lambda _: func()


@either_mode
async def test_the_last_of_several_that_wait_in_vain_raises_pool_deadlock(abandons, balanced):
    def inner():
        barrier.wait()
        try:
            return run_in_trio(run_in_trio_get)
        except PoolDeadlock:
            return "deadlock"

    async def run_in_trio_get():
        return await (await pool.spawn(double, 2))

    barrier = threading.Barrier(2)
    async with ThreadPool(2, abandon_on_cancel=abandons) as pool:
        tasks = [await pool.spawn(inner) for _ in range(2)]
        assert sorted([str(await task) for task in tasks]) == ["4", "deadlock"]
        await pool.join()
        balanced(pool)


@either_mode
async def test_a_call_whose_last_hope_for_a_slot_goes_raises_pool_deadlock(abandons, balanced):
    def wait():
        with pytest.raises(PoolDeadlock):
            run_in_trio(queued.get)

    async with ThreadPool(2, abandon_on_cancel=abandons) as pool, Gate() as gate:
        holder = await pool.spawn(gate.hold)
        await gate.until(1)
        task = await pool.spawn(wait)
        queued = pool.apply_async(double, (1,))
        await wait_all_tasks_blocked()
        pool.maxsize = 1
        gate.open()
        await holder
        await task
        assert await queued == 2
        await pool.join()
        balanced(pool)


@either_mode
async def test_waiting_for_what_was_asked_for_outside_is_pool_deadlock_in_a_full_pool(abandons):
    def read():
        with pytest.raises(PoolDeadlock):
            run_in_trio(results.__anext__)
        with pytest.raises(PoolDeadlock):
            run_in_trio(task.get)

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        reader = await pool.spawn(read)
        results = pool.imap(double, [1])
        task = pool.map_async(double, [2])
        await reader
        assert [x async for x in results] == [2]
        assert await task == [4]


@either_mode
async def test_a_kill_in_a_row_of_a_map_that_a_call_asked_for_waits_for_neither(abandons, balanced):
    def kill(_):
        run_in_trio(pool.kill)

    def outer():
        run_in_trio(pool.map, kill, [1])

    async with ThreadPool(2, abandon_on_cancel=abandons) as pool:
        task = await pool.spawn(outer)
        await task.join()
        assert task.status is TaskStatus.KILLED
        while pool.limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        await pool.join()
        balanced(pool)


async def test_a_slot_is_kept_for_a_row_that_is_left_behind_when_its_lender_has_ended(balanced):
    def outer():
        run_in_trio(pool.map, gate.hold, [1])

    async with ThreadPool(1, abandon_on_cancel=True) as pool, Gate() as gate:
        task = await pool.spawn(outer)
        await gate.until(1)
        await pool.kill()
        assert task.status is TaskStatus.KILLED
        while pool.size > 1:
            await trio.lowlevel.checkpoint()
        assert pool.limiter.borrowed_tokens == 1
        gate.open()
        while pool.limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        balanced(pool)


@either_mode
@pytest.mark.parametrize("looks", [False, True], ids=["unseen", "seen"])
async def test_a_call_may_wait_for_a_discarded_row(abandons, looks):
    waiting = trio.Event()

    async def wait_for_it():
        waiting.set()
        return await row

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool, Gate() as gate:
        results = pool.imap(gate.hold, [1])
        await gate.until(1)
        (row,) = pool
        if looks:
            assert row.status is TaskStatus.RUNNING
        pool.discard(row)
        task = await pool.spawn(run_in_trio, wait_for_it)
        await waiting.wait()
        await wait_all_tasks_blocked()
        gate.open()
        assert await task == 1
        assert [x async for x in results] == [1]


@either_mode
async def test_two_that_wait_for_each_other_raise_one_pool_deadlock(abandons, balanced):
    def wait_for(name, others):
        gate.hold(name)
        try:
            return run_in_trio(others[0].get)
        except PoolDeadlock:
            return "deadlock"

    rows, calls = [], []
    async with ThreadPool(2, abandon_on_cancel=abandons) as pool, Gate() as gate:
        results = pool.imap(lambda _: wait_for("row", calls), [1])
        await gate.until(1)
        rows += pool
        assert rows[0].status is TaskStatus.RUNNING
        calls.append(await pool.spawn(wait_for, "call", rows))
        await gate.until(2)
        gate.open()
        assert await calls[0] == await anext(results) == "deadlock"
        await pool.join()
        balanced(pool)


@either_mode
async def test_join_inside_of_a_call_is_a_runtime_error(abandons):
    def inner():
        with pytest.raises(RuntimeError, match="inside a call"):
            run_in_trio(pool.join)
        task = current_task()
        assert task is not None
        with pytest.raises(RuntimeError, match="wait for itself"):
            run_in_trio(task.get)
        return "done"

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        assert await pool.apply(inner) == "done"
        assert await pool.map(inner_of(inner), [1]) == ["done"]


async def test_a_call_in_place_has_a_context_and_a_kill_scope_of_its_own(balanced):
    variable = contextvars.ContextVar("variable", default=0)
    inner_task = []

    def inner():
        assert variable.get() == 1
        variable.set(2)
        inner_task.append(current_task())
        gate.ask()

    def outer():
        variable.set(1)
        with pytest.raises(TaskKilled, match="enough"):
            run_in_trio(pool.apply, inner)
        assert variable.get() == 1
        assert current_task() is outer_task
        trio.from_thread.check_cancelled()
        return "went on"

    async with ThreadPool(1) as pool, Gate() as gate:
        outer_task = await pool.spawn(outer)
        await gate.until(1)
        (task,) = inner_task
        assert task.status is TaskStatus.RUNNING
        task.kill_nowait(reason="enough")
        gate.open()
        assert await outer_task == "went on"
        balanced(pool)


async def test_a_kill_of_the_outer_call_kills_the_one_in_place():
    async with ThreadPool(1) as pool, Gate() as gate:
        task = await pool.spawn(lambda: run_in_trio(pool.apply, gate.ask))
        await gate.until(1)
        task.kill_nowait()
        gate.open()
        await task.join()
        assert task.status is TaskStatus.KILLED


async def test_a_call_in_place_is_begun_by_a_kill_that_came_before():
    ran = []

    def outer():
        run_sync_in_trio(pool.kill_nowait)
        run_in_trio(pool.apply, ran.append, (1,))

    async with ThreadPool(1) as pool:
        task = await pool.spawn(outer)
        await task.join()
        assert task.status is TaskStatus.KILLED
    assert not ran


@either_mode
async def test_errors_of_calls_in_place_reach_their_caller(abandons):
    def outer():
        with pytest.raises(Oops):
            run_in_trio(pool.apply, fail)
        return "done"

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        assert await pool.apply(outer) == "done"


async def test_sys_exit_in_place_takes_the_pool_down():
    with pytest.raises(SystemExit):
        async with ThreadPool(1) as pool:
            await pool.apply(lambda: run_in_trio(pool.apply, sys.exit, (3,)))


async def test_calls_of_another_pool_are_none_of_a_member():
    async with ThreadPool(1) as pool, ThreadPool(1) as other:
        assert await pool.apply(lambda: run_in_trio(other.apply, double, (1,))) == 2
        assert await pool.apply(lambda: run_in_trio(other.map, double, [1, 2])) == [2, 4]


# Rule 12: isolation


async def test_context_variables_are_the_callers_in_a_copy_of_their_own():
    variable = contextvars.ContextVar("variable", default="unset")

    def change():
        before = variable.get()
        variable.set("changed")
        return before

    async with ThreadPool(1) as pool, Gate() as gate:
        variable.set("one")
        tasks = [await pool.spawn(change)]
        variable.set("two")
        tasks += [pool.apply_async(change), pool.apply_async(change)]
        variable.set("three")
        assert await pool.apply(change) == "three"
        assert [await task for task in tasks] == ["one", "two", "two"]
        results = pool.imap(lambda _: change(), range(3))
        variable.set("four")
        assert [x async for x in results] == ["three"] * 3
        assert await pool.map(lambda _: change(), (x for x in range(3))) == ["four"] * 3
        assert variable.get() == "four"
        gate.open()


@either_mode
async def test_current_task_in_a_call_is_its_task(abandons):
    def look(_=None):
        task = current_task()
        return task, run_in_trio(look_in_trio)

    async def look_in_trio():
        await trio.lowlevel.checkpoint()
        return current_task()

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        task = await pool.spawn(look)
        assert await task == (task, task)
        for rows in ([1], (x for x in [1])):
            ((row, in_trio),) = await pool.map(look, rows)
            assert row is in_trio
            assert row.status is TaskStatus.SUCCEEDED
        mine, inner = await pool.apply(
            lambda: (current_task(), run_in_trio(pool.apply, look)),
        )
        assert inner[0] is inner[1]
        assert inner[0] is not mine
        assert current_task() is None


async def test_a_run_of_trio_in_a_call_is_inside_of_no_call_of_ours():
    async def in_system_task(seen):
        seen.append(current_task())

    async def main():
        seen = [current_task()]
        done = trio.Event()

        async def look():
            await in_system_task(seen)
            done.set()

        trio.lowlevel.spawn_system_task(look, context=contextvars.copy_context())
        await done.wait()
        async with ThreadPool(1) as pool:
            task = await pool.spawn(lambda: (current_task(), run_in_trio(look_at_task)))
            assert await task == (task, task)
        return seen

    async def look_at_task():
        return current_task()

    async with ThreadPool(1, abandon_on_cancel=True) as pool:
        assert await pool.apply(trio.run, (main,)) == [None, None]


async def test_a_call_may_take_a_token_of_its_own():
    token = trio.lowlevel.current_trio_token()

    async def look():
        return current_task()

    def run():
        return trio.from_thread.run(look, trio_token=token)

    async with ThreadPool(1) as pool:
        assert await pool.apply(run) is None


class Thing:
    """Something to refer to weakly."""


@pytest.mark.parametrize("how", ["spawn", "apply", "apply_async", "fails", "killed", "left behind"])
async def test_functions_arguments_and_results_are_let_go_at_once(how, no_gc):
    class Function:
        def __call__(self, thing, *, named):
            if how == "fails":
                raise Oops
            if how in ("killed", "left behind"):
                gate.ask()
            return Thing()

    async with ThreadPool(1, abandon_on_cancel=how == "left behind") as pool, Gate() as gate:
        func, argument, named = Function(), Thing(), Thing()
        variable = contextvars.ContextVar("variable")
        token = variable.set(Thing())
        refs = [weakref.ref(each) for each in (func, argument, named, variable.get())]
        if how == "apply":
            result = await pool.apply(func, (argument,), {"named": named})
        else:
            task = pool.spawn_nowait(func, argument, named=named)
            del func, argument, named
            variable.reset(token)
            if how in ("killed", "left behind"):
                await gate.until(1)
                task.kill_nowait()
                gate.open()
            if how in ("spawn", "apply_async"):
                result = await task
            else:
                with contextlib.suppress(Oops, TaskKilled):
                    await task
                result = Thing()
        refs.append(weakref.ref(result))
        func = argument = named = result = task = None
        if how == "apply":
            variable.reset(token)
        del token
        await pool.join()
        while pool.limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        # The thread may be on its way from the end of the call to its next wait.
        for _ in range(1000):
            if not any(ref() for ref in refs):
                break
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)
        assert [ref() for ref in refs] == [None] * 5


async def test_a_pool_keeps_no_finished_call(no_gc):
    async with ThreadPool(2) as pool:
        refs = []
        for x in range(5):
            task = await pool.spawn(double, x)
            refs.append(weakref.ref(task))
            await task
        del task
        await pool.join()
        for _ in range(1000):
            if not any(ref() for ref in refs):
                break
            await trio.to_thread.run_sync(threading.Event().wait, 0.001)
        assert not any(ref() for ref in refs)
    gc.collect()


# Rule 13: join


async def test_join_waits_for_what_runs_and_what_waits(balanced):
    async with ThreadPool(1) as pool, Gate() as gate, trio.open_nursery() as nursery:
        assert await pool.join() is True
        tasks = [pool.apply_async(gate.hold, (x,)) for x in range(3)]
        nursery.start_soon(pool.spawn, gate.hold, 3)
        await wait_all_tasks_blocked()
        assert await pool.join(timeout=0) is False
        gate.open()
        assert await pool.join() is True
        assert [task.value for task in tasks] == [0, 1, 2]
        assert gate.begun == [0, 1, 2, 3]
        balanced(pool)


# Forks

FORK = """
import os, sys, threading, warnings
import trio
from triopool import ThreadPool, ThreadPoolExecutor

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

async def in_child():
    async with ThreadPool(2) as pool:
        assert await pool.apply(pow, (2, 3)) == 8
        assert await pool.map(abs, range(100)) == list(range(100))
        assert [x async for x in pool.imap(abs, range(100))] == list(range(100))

def fork():
    child = os.fork()
    if not child:
        try:
            # This thread may be in a run of Trio, and so may the main thread have been.
            done = []
            thread = threading.Thread(target=lambda: done.append(trio.run(in_child)))
            thread.start()
            thread.join()
            os._exit(7 if done else 1)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

async def main():
    async with ThreadPool(3) as pool:
        pool.size = 3
        go = threading.Event()
        task = await pool.spawn(go.wait)
        try:
            assert fork() == 7
            assert await pool.apply(fork) == 7
            assert await pool.map(lambda _: fork(), range(3)) == [7, 7, 7]
        finally:
            go.set()
        await task

trio.run(main)
print("parent is fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_in_the_middle_leaves_the_child_usable(run_program):
    done = run_program(FORK)
    assert (done.stdout, done.stderr, done.returncode) == ("parent is fine\n", "", 0)
