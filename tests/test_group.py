"""What every kind of pool does with calls: Group's vocabulary, on Group and on Pool."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import triopool.pool
from triopool import (
    GreenPool,
    Group,
    Pool,
    PoolFull,
    Task,
    TaskKilled,
    TaskStatus,
    current_task,
)

KINDS = pytest.mark.parametrize("kind", [Group, Pool, GreenPool])


async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x


async def fail(message="broken"):
    await trio.lowlevel.checkpoint()
    raise ValueError(message)


async def after(seconds, result=None):
    await trio.sleep(seconds)
    return result


async def forever(started=None):
    if started is not None:
        started.set()
    await trio.sleep_forever()


def test_the_module_is_named_after_gevents():
    assert triopool.pool.Group is Group
    assert triopool.pool.Pool is Pool
    assert triopool.pool.PoolFull is PoolFull
    assert issubclass(Pool, Group)
    assert issubclass(PoolFull, trio.WouldBlock)


# The block


@KINDS
async def test_the_block_waits_for_its_calls(kind, autojump_clock):
    async with kind() as pool:
        task = await pool.spawn(after, 5, "done")
    assert trio.current_time() == 5
    assert task.value == "done"


async def test_run_keeps_a_pool_open_in_a_task_of_its_own(autojump_clock):
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool(1).run)
        assert await pool.apply(double, (1,)) == 2
        await trio.sleep(10)
        task = await pool.spawn(after, 5)
        pool.close()
    assert task.ready()
    assert trio.current_time() == 15


async def test_run_that_is_cancelled_takes_its_calls_along():
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool(1).run)
        task = await pool.spawn(forever)
        nursery.cancel_scope.cancel()
    assert task.status is TaskStatus.KILLED


async def test_run_needs_no_nursery_start():
    pool = Pool(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        await wait_all_tasks_blocked()
        assert await pool.apply(double, (1,)) == 2
        pool.close()


async def test_the_cancel_scope_is_that_of_the_block():
    async with Pool() as pool:
        task = await pool.spawn(forever)
        pool.cancel_scope.cancel()
    assert pool.cancel_scope.cancelled_caught
    assert task.status is TaskStatus.KILLED


@KINDS
async def test_the_repr_says_what_it_is_and_how_full(kind):
    pool = kind()
    assert repr(pool).startswith(f"<{kind.__name__} at 0x")
    async with pool:
        await pool.spawn(double, 1)
        assert "open" in repr(pool)
        assert "1" in repr(pool)
    assert "closed" in repr(pool)


# spawn


@KINDS
async def test_spawn_returns_the_task_of_a_call_that_begins_later(kind):
    log = []

    async def call(*args, **kwargs):
        log.append((args, kwargs, current_task()))

    async with kind() as pool:
        task = await pool.spawn(call, 1, func=2)
        assert log == []
        assert isinstance(task, Task)
        assert task.started
        await task
        assert log == [((1,), {"func": 2}, task)]


@KINDS
async def test_spawn_is_a_checkpoint(kind):
    async with kind() as pool:
        with assert_checkpoints():
            await pool.spawn(double, 1)


@KINDS
async def test_spawn_nowait_starts_a_call_at_once(kind):
    ran = []

    async def call(*args, **kwargs):
        ran.append((args, kwargs))

    async with kind() as pool:
        task = pool.spawn_nowait(call, 1, func=2)
        assert task.status is TaskStatus.RUNNING
        assert not ran
    assert ran == [((1,), {"func": 2})]


# start


@KINDS
async def test_start_runs_a_task_made_by_hand(kind, balanced):
    async with kind() as pool:
        task = Task(double, 2)
        with assert_checkpoints():
            assert await pool.start(task) is None
        assert task.status is TaskStatus.RUNNING
        assert await task == 4
        balanced(pool)


@KINDS
async def test_start_runs_a_subclass_that_overrides_run(kind):
    class Answer(Task):
        async def run(self):
            assert current_task() is self
            return 42

    async with kind() as pool:
        task = Answer()
        await pool.start(task)
        assert await task == 42
        assert task.name.endswith("Answer")


# add and discard


@KINDS
async def test_an_added_task_counts_until_it_is_over(kind, autojump_clock, balanced):
    async with Pool() as owner, kind() as pool:
        task = await owner.spawn(after, 5, "result")
        with assert_checkpoints():
            assert await pool.add(task) is None
        assert len(pool) == len(owner) == 1
        assert task in pool
        assert list(pool) == [task]
        assert pool.limiter.borrowed_tokens == 1
        await pool.join()
        assert trio.current_time() == 5
        assert task not in pool
        balanced(pool)


async def test_leaving_the_block_waits_for_added_tasks(autojump_clock):
    async with Pool() as owner:
        task = await owner.spawn(after, 5)
        async with Group() as group:
            await group.add(task)
        assert task.ready()


async def test_kill_takes_added_tasks_along(balanced):
    async with Pool() as owner, Group() as group:
        task = await owner.spawn(forever)
        await group.add(task)
        assert await group.kill()
        assert task.status is TaskStatus.KILLED
        balanced(group)


async def test_the_error_of_an_added_task_stays_its_owners():
    with pytest.raises(ExceptionGroup, match="1 unobserved error in Pool"):
        async with Pool() as owner:
            task = await owner.spawn(fail)
            async with Group([task]):
                pass  # and nothing is raised here
            assert task.ready()


async def test_an_added_tasks_lifetime_stays_its_owners(autojump_clock):
    async with Pool() as owner:
        task = await owner.spawn(after, 5, "whole")
        with pytest.raises(KeyError):
            async with Group() as group:
                await group.add(task)
                raise KeyError
        assert not task.ready()
        assert await task == "whole"


async def test_a_finished_task_is_not_added():
    async with Pool() as owner, Group() as group:
        task = await owner.spawn(double, 1)
        await task
        await group.add(task)
        assert len(group) == 0


async def test_a_task_is_added_once(balanced):
    async with Pool() as owner, Group() as group:
        task = await owner.spawn(forever)
        await group.add(task)
        await group.add(task)
        assert len(group) == 1
        assert group.limiter.borrowed_tokens == 1
        own = await group.spawn(forever)
        await group.add(own)
        assert len(group) == 2
        await owner.kill()
        await group.kill()
        balanced(group)


async def test_add_waits_for_a_slot(autojump_clock, balanced):
    async with Pool() as owner, Pool(1) as pool:
        await pool.spawn(after, 5)
        task = await owner.spawn(after, 10)
        await pool.add(task)
        assert trio.current_time() == 5
        await pool.join()
        assert trio.current_time() == 10
        balanced(pool)


async def test_add_that_does_not_block_or_runs_out_of_time_raises_poolfull(autojump_clock):
    async with Pool() as owner, Pool(1) as pool:
        blocker = await pool.spawn(forever)
        task = await owner.spawn(forever)
        with pytest.raises(PoolFull):
            await pool.add(task, blocking=False)
        with pytest.raises(PoolFull):
            await pool.add(task, timeout=3)
        assert trio.current_time() == 3
        assert task not in pool
        await blocker.kill()
        await task.kill()


async def test_a_task_that_ends_while_add_waits_is_not_added(autojump_clock, balanced):
    async with Pool() as owner, Pool(1) as pool:
        await pool.spawn(after, 5)
        task = await owner.spawn(after, 3)
        await pool.add(task)
        assert len(pool) == 0
        balanced(pool)


async def test_a_cancelled_add_holds_no_slot(balanced):
    async with Pool() as owner, Pool(1) as pool:
        blocker = await pool.spawn(forever)
        task = await owner.spawn(forever)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.add, task)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await blocker.kill()
        assert task not in pool
        balanced(pool)
        await owner.kill()


async def test_a_task_may_be_added_to_several_groups(autojump_clock):
    async with Pool() as owner, Group() as one, Group() as other:
        task = await owner.spawn(after, 5)
        await one.add(task)
        await other.add(task)
        one.discard(task)
        assert (len(one), len(other)) == (0, 1)


async def test_discard_of_an_added_task_frees_its_slot_and_spares_it(autojump_clock, balanced):
    async with Pool() as owner:
        task = await owner.spawn(after, 5)
        async with Pool(1) as pool:
            await pool.add(task)
            pool.discard(task)
            balanced(pool)
            pool.discard(task)
        assert trio.current_time() == 0
        assert not task.ready()


async def test_discard_of_an_own_task_frees_its_slot_while_the_block_still_waits(
    autojump_clock, balanced
):
    async with Pool(1) as pool:
        task = await pool.spawn(after, 5, "whole")
        pool.discard(task)
        balanced(pool)
        assert task not in pool
        assert await pool.kill()  # which is not there any more
        assert await pool.apply(double, (1,)) == 2
        assert not task.ready()
    assert task.value == "whole"
    assert trio.current_time() == 5


async def test_discard_takes_the_one_it_is_given():
    async with Group() as group:
        tasks = [await group.spawn(forever) for _ in range(3)]
        group.discard(tasks[1])
        assert list(group) == [tasks[0], tasks[2]]
        await group.kill()
        await tasks[1].kill()


async def test_the_error_of_a_discarded_own_task_is_still_reported():
    with pytest.raises(ExceptionGroup, match="1 unobserved error"):
        async with Pool(1) as pool:
            pool.discard(await pool.spawn(fail))


async def test_discard_of_a_stranger_does_nothing():
    async with Pool() as owner, Pool() as pool:
        task = await owner.spawn(double, 1)
        pool.discard(task)
        pool.discard(Task(double, 1))
        assert await task == 2


async def test_a_group_is_made_of_tasks_of_others(autojump_clock):
    async with Pool() as owner:
        tasks = [await owner.spawn(after, n) for n in (1, 2)]
        async with Group(tasks) as group:
            assert len(group) == 2
            assert set(group) == set(tasks)
            await group.join()
            assert trio.current_time() == 2
        async with Group(tasks) as group:  # they are over
            assert len(group) == 0


async def test_a_group_of_tasks_whose_entry_is_cancelled_leaves_trio_in_order():
    async with Pool() as owner:
        task = await owner.spawn(forever)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with Group([task]):
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert not task.ready()
        await task.kill()


async def test_an_unstarted_task_may_be_added_and_then_started(balanced):
    async with Pool(1) as pool:
        task = Task(double, 2)
        await pool.add(task)
        assert len(pool) == 1
        await pool.start(task)
        assert len(pool) == 1
        assert await task == 4
        balanced(pool)


# apply and its variants


@KINDS
async def test_apply_returns_the_result_of_its_call(kind, balanced):
    async def call(*args, **kwargs):
        return args, kwargs

    async with kind() as pool:
        assert await pool.apply(call) == ((), {})
        assert await pool.apply(call, [1, 2]) == ((1, 2), {})
        assert await pool.apply(call, (1,), {"func": 2}) == ((1,), {"func": 2})
        assert await pool.apply(call, kwds={"a": 1}) == ((), {"a": 1})
        with assert_checkpoints():
            await pool.apply(call)
        balanced(pool)


@KINDS
async def test_apply_raises_the_error_of_its_call_once(kind, balanced):
    async with kind(on_error="cancel") as pool:
        with pytest.raises(ValueError, match="broken"):
            await pool.apply(fail)
        balanced(pool)


async def test_a_cancelled_apply_cancels_its_call_and_waits_for_it(autojump_clock, balanced):
    log = []

    async def call():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            log.append(trio.current_time())

    async with Pool() as pool:
        other = await pool.spawn(after, 20, "spared")
        with trio.move_on_after(1) as scope:
            await pool.apply(call)
        assert scope.cancelled_caught
        assert log == [6]
        assert await other == "spared"
        balanced(pool)


async def test_a_cancelled_apply_whose_call_succeeds_all_the_same_returns_its_result(
    autojump_clock,
):
    async def call():
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return "result"

    async with Pool() as pool:
        with trio.move_on_after(1) as scope:
            assert await pool.apply(call) == "result"
        assert not scope.cancelled_caught


async def test_apply_of_a_call_that_is_killed_raises_taskkilled():
    async def kill():
        await wait_all_tasks_blocked()
        (task,) = pool
        await task.kill(reason="enough")

    async with Pool(1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        with pytest.raises(TaskKilled, match="enough"):
            await pool.apply(forever)


@KINDS
@pytest.mark.parametrize("is_async", [True, False])
async def test_apply_cb_runs_its_callback_without_a_slot_before_it_returns(kind, is_async):
    got = []

    def note(result):
        got.append((result, pool.limiter.borrowed_tokens))

    async def note_async(result):
        await trio.lowlevel.checkpoint()
        note(result)

    async with kind() as pool:
        result = await pool.apply_cb(double, (4,), callback=note_async if is_async else note)
        assert result == 8
        assert got == [(8, 0)]
        assert await pool.apply_cb(double, (4,), {}) == 8
        with pytest.raises(ValueError, match="broken"):
            await pool.apply_cb(fail, (), {}, note)
        assert len(got) == 1


@KINDS
@pytest.mark.parametrize("is_async", [True, False])
async def test_apply_async_runs_its_callback_without_a_slot_and_the_block_waits(
    kind, is_async, autojump_clock
):
    got = []

    def note(result):
        got.append((result, pool.limiter.borrowed_tokens))

    async def note_async(result):
        await trio.sleep(5)
        note(result)

    async with kind() as pool:
        task = pool.apply_async(double, (4,), None, note_async if is_async else note)
        assert await task == 8
    assert got == [(8, 0)]


async def test_apply_async_has_no_callback_for_a_failed_or_killed_call():
    got = []
    async with Pool() as pool:
        failed = pool.apply_async(fail, callback=got.append)
        killed = pool.apply_async(forever, callback=got.append)
        with pytest.raises(ValueError, match="broken"):
            await failed
        await killed.kill()
    assert got == []


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_error_of_a_callback_is_reported_like_that_of_a_call(is_async):
    def bad(_):
        raise ValueError("callback")

    async def bad_async(_):
        raise ValueError("callback")

    with pytest.raises(ExceptionGroup) as caught:
        async with Pool() as pool:
            task = pool.apply_async(double, (1,), callback=bad_async if is_async else bad)
            assert await task == 2
    assert [str(e) for e in caught.value.exceptions] == ["callback"]


async def test_kill_takes_callbacks_along():
    async def callback(_):
        await trio.sleep_forever()

    async with Pool() as pool:
        pool.apply_async(double, (1,), callback=callback)
        await wait_all_tasks_blocked()
        assert len(pool) == 0
        assert await pool.kill()
        await pool.join()


@KINDS
@pytest.mark.parametrize("is_async", [True, False])
async def test_map_cb_and_map_async_hand_the_list_to_their_callback(kind, is_async):
    got = []

    async def note_async(results):
        await trio.lowlevel.checkpoint()
        got.append(results)

    callback = note_async if is_async else got.append
    async with kind() as pool:
        assert await pool.map_cb(double, [1, 2], callback) == [2, 4]
        assert await pool.map_async(double, [3], callback) == [6]
        assert await pool.map_cb(double, [1]) == [2]
        assert await pool.map_async(double, [1]) == [2]
    assert got == [[2, 4], [6]]


async def test_map_async_is_a_task_without_a_slot():
    async with Pool(1) as pool:
        task = pool.map_async(forever, [None])
        assert len(pool) == 0
        await wait_all_tasks_blocked()
        assert len(pool) == 1
        assert task not in pool
        assert await task.kill()
        with pytest.raises(TaskKilled):
            await task


# kill and killone


async def test_killone_kills_one_and_spares_the_others(autojump_clock):
    async with Pool() as pool:
        one = await pool.spawn(forever)
        other = await pool.spawn(after, 5, "whole")
        assert await pool.killone(one, reason="you")
        with pytest.raises(TaskKilled, match="you"):
            await one
        assert await other == "whole"
        assert await pool.killone(other)  # it is over


async def test_killone_takes_what_waits_for_a_slot_and_what_has_none(balanced):
    async def callback(_):
        await trio.sleep_forever()

    async with Pool(1) as pool:
        blocker = await pool.spawn(forever)
        queued = pool.apply_async(double, (1,))
        assert await pool.killone(queued, KeyError)
        with pytest.raises(KeyError):
            await queued
        background = pool.map_async(double, [1])
        await wait_all_tasks_blocked()
        assert await pool.killone(background, block=False) in (True, False)
        await background.join()
        assert background.status is TaskStatus.KILLED
        assert await pool.killone(blocker)
        await pool.join()
        balanced(pool)


async def test_killone_that_does_not_block_or_runs_out_of_time_says_whether_it_is_over(
    autojump_clock,
):
    async def cleans_up():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async with Pool() as pool:
        task = await pool.spawn(cleans_up)
        await wait_all_tasks_blocked()
        assert await pool.killone(task, block=False) is False
        assert await pool.killone(task, timeout=2) is False
        assert trio.current_time() == 2
        assert await pool.killone(task) is True
        assert trio.current_time() == 5


async def test_a_row_killed_by_killone_raises_at_its_place():
    async def row(x):
        if x == 1:
            await trio.sleep_forever()
        return x

    async with Pool() as pool:
        results = pool.imap(row, range(3))
        await wait_all_tasks_blocked()
        (task,) = pool
        assert task.args == (1,)
        assert await pool.killone(task)
        assert await anext(results) == 0
        with pytest.raises(TaskKilled):
            await anext(results)
        assert await anext(results) == 2
        await results.aclose()


async def test_kill_takes_everything_and_the_pool_goes_on(balanced):
    async with Pool(2) as pool, trio.open_nursery() as nursery:
        tasks = [await pool.spawn(forever) for _ in range(2)]
        tasks.append(pool.apply_async(forever))
        nursery.start_soon(pool.spawn, double, 1)  # a parked caller is not killed
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            assert await pool.kill()
        assert [task.status for task in tasks] == [TaskStatus.KILLED] * 3
        assert await pool.apply(double, (2,)) == 4
        await pool.join()
        balanced(pool)


async def test_kill_of_an_empty_pool_is_a_checkpoint():
    async with Pool() as pool:
        with assert_checkpoints():
            assert await pool.kill() is True
        assert pool.kill_nowait() is None


async def test_kill_that_runs_out_of_time_says_false(autojump_clock):
    async def shielded(*_):
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    async with Pool() as pool:
        await pool.spawn(shielded)
        results = pool.imap(shielded, [1])
        await wait_all_tasks_blocked()
        assert await pool.kill(timeout=1) is False
        assert trio.current_time() == 1
        assert await pool.kill(block=False) is False
        assert await pool.kill() is True
        assert trio.current_time() == 5
        del results


async def test_kill_from_inside_includes_the_caller_and_does_not_wait_for_it():
    after_kill = []

    async def call():
        await pool.kill()
        after_kill.append(1)
        await trio.lowlevel.checkpoint()
        after_kill.append(2)

    async def row(_):
        await call()

    async with Pool() as pool:
        other = await pool.spawn(forever)
        task = await pool.spawn(call)
        await task.join()
        assert task.status is TaskStatus.KILLED
        assert other.status is TaskStatus.KILLED
        with pytest.raises(TaskKilled):
            await pool.map(row, [1])
    assert 2 not in after_kill


async def test_kill_from_a_row_of_a_members_map_waits_for_neither_of_them(balanced):
    async def row(_):
        assert await pool.kill() is False  # the row, its map and its member go on
        await trio.lowlevel.checkpoint()

    async def outer():
        await pool.map(row, [1])

    async with Pool(2) as pool:
        other = await pool.spawn(forever)
        task = await pool.spawn(outer)
        with pytest.raises(TaskKilled):
            await task
        assert other.status is TaskStatus.KILLED
        await pool.join()
        balanced(pool)


async def test_kill_waits_for_the_rows_of_iterators(autojump_clock):
    async def cleans_up(_):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async with Pool() as pool:
        results = pool.imap(cleans_up, [1, 2])
        await wait_all_tasks_blocked()
        assert await pool.kill() is True
        assert trio.current_time() == 5
        with pytest.raises(TaskKilled):
            await anext(results)


# Looking


@KINDS
async def test_len_bool_contains_and_iter_see_the_calls_that_run_now(kind):
    async with kind() as pool:
        assert len(pool) == 0
        assert list(pool) == []
        tasks = [await pool.spawn(forever) for _ in range(2)]
        assert len(pool) == 2
        assert pool
        assert all(task in pool for task in tasks)
        assert list(pool) == tasks
        assert Task(double, 1) not in pool
        assert "not a task" not in pool
        snapshot = iter(pool)
        await tasks[0].kill()
        assert list(snapshot) == tasks
        assert list(pool) == tasks[1:]
        await pool.kill()
        assert bool(pool) is (kind is GreenPool)


async def test_the_calls_of_maps_and_iterators_are_seen_too():
    async with Pool(3) as pool:
        pool.map_async(forever, [None])
        results = pool.imap(forever, [None] * 2)
        await wait_all_tasks_blocked()
        assert len(pool) == 3
        rows = list(pool)
        assert {row.status for row in rows} == {TaskStatus.RUNNING}
        assert {row.func for row in rows} == {forever}
        assert {row.args for row in rows} == {(None,)}
        assert list(pool) == rows
        assert rows[0] in pool
        await pool.kill()
        assert {row.status for row in rows} == {TaskStatus.KILLED}
        del results


async def test_calls_that_wait_for_a_slot_are_not_among_those_that_run():
    async with Pool(1) as pool:
        blocker = await pool.spawn(forever)
        task = pool.apply_async(double, (1,))
        assert len(pool) == 1
        assert task not in pool
        await blocker.kill()


async def test_looking_at_a_row_with_bad_arguments_harms_no_one():
    async with Pool() as pool:
        results = pool.starmap(double, [1])
        for _ in range(5):
            list(pool)
            await trio.lowlevel.checkpoint()
        with pytest.raises(TypeError, match="iterable"):
            await anext(results)


# Sizing of what has no limit


async def test_a_group_has_no_limit():
    async with Group() as group:
        for _ in range(10):
            await group.spawn(forever)
        assert group.size is None
        assert group.free_count() == 1
        assert not group.full()
        assert await group.wait_available() >= 1
        await group.kill()


# Classes of tasks, and Trio tasks


@KINDS
async def test_task_class_makes_the_tasks_of_a_pool(kind):
    class Mine(Task):
        pass

    async with kind() as pool:
        pool.task_class = Mine
        tasks = [await pool.spawn(double, 1), pool.spawn_nowait(double, 1)]
        tasks += [pool.apply_async(double, (1,)), pool.map_async(double, [1])]
        assert {type(task) for task in tasks} == {Mine}
    if kind is not GreenPool:
        async with kind(task_class=Mine) as pool:
            assert pool.task_class is Mine
            assert type(await pool.spawn(double, 1)) is Mine


async def test_a_task_class_that_overrides_run_runs_rows_too():
    class Twice(Task):
        async def run(self):
            return 2 * await super().run()

    async with Pool(2, Twice) as pool:
        assert await pool.apply(double, (1,)) == 4
        assert await pool.map(double, [1, 2]) == [4, 8]
        assert [x async for x in pool.starmap(double, [(1,), (2,)])] == [4, 8]


@pytest.mark.parametrize("reuse", [True, False])
async def test_without_reuse_tasks_each_call_has_a_trio_task_of_its_own(reuse):
    async def call(_=None):
        return trio.lowlevel.current_task()

    async with Pool(1, reuse_tasks=reuse) as pool:
        trio_tasks = {await pool.apply(call) for _ in range(5)}
        assert len(trio_tasks) == (1 if reuse else 5)
        trio_tasks = set(await pool.map(call, range(5)))
        if not reuse:
            assert len(trio_tasks) == 5


async def test_the_trio_task_is_named_after_the_call_while_it_runs_it():
    async def call():
        return trio.lowlevel.current_task()

    async with Pool(1) as pool:
        trio_task = await pool.apply(call)
        await wait_all_tasks_blocked()
        assert "idle worker of Pool" in trio_task.name
        task = await pool.spawn(forever)
        await wait_all_tasks_blocked()
        assert trio_task.name == task.name
        assert task.name.endswith("forever")
        await task.kill()


# What a call leaves open


async def test_a_cancel_scope_that_a_call_left_open_reaches_no_other_call():
    left = []

    async def leaves_scope():
        left.append(trio.CancelScope().__enter__())

    async with Pool(1) as pool:
        await pool.apply(leaves_scope)
        left[0].cancel()
        assert await pool.apply(double, (1,)) == 2
        assert await pool.map(double, [1, 2]) == [2, 4]


async def test_a_nursery_that_a_call_left_open_fails_that_call_and_no_other():
    managers = []

    async def leaves_nursery(_=None):
        managers.append(trio.open_nursery())
        nursery = await managers[-1].__aenter__()
        nursery.start_soon(trio.sleep_forever)

    async with Pool(1) as pool:
        other = await pool.spawn(double, 1)
        with pytest.raises(RuntimeError, match="ended with a nursery still open"):
            await pool.apply(leaves_nursery)
        with pytest.raises(RuntimeError, match="ended with a nursery still open"):
            await pool.map(leaves_nursery, [1])
        assert await other == 2
        assert await pool.apply(double, (1,)) == 2


async def test_a_nursery_that_a_cancelled_call_left_open_is_reported_as_that():
    managers = []

    async def leaves_nursery():
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            managers.append(trio.open_nursery())
            await managers[-1].__aenter__()

    with pytest.raises(ExceptionGroup) as caught:
        async with Pool(1) as pool:
            await pool.spawn(leaves_nursery)
            await wait_all_tasks_blocked()
            raise KeyError
    body, left_open = caught.value.exceptions
    assert isinstance(body, KeyError)
    assert "ended with a nursery still open" in str(left_open)


async def test_a_nursery_that_a_call_in_place_left_open_fails_that_call():
    managers = []

    async def leaves_nursery():
        managers.append(trio.open_nursery())
        await managers[-1].__aenter__()

    async def outer():
        with pytest.raises(RuntimeError, match="ended with a nursery still open"):
            await pool.apply(leaves_nursery)
        return "goes on"

    async with Pool(1) as pool:
        assert await pool.apply(outer) == "goes on"
        assert await pool.apply(double, (1,)) == 2


async def test_a_cancel_scope_that_a_call_in_place_left_open_fails_it_as_trio_would():
    async def leaves_scope():
        trio.CancelScope().__enter__()

    async def outer():
        with pytest.raises(RuntimeError):
            await pool.apply(leaves_scope)
        return "goes on"

    async with Pool(1) as pool:
        assert await pool.apply(outer) == "goes on"
        assert await pool.apply(double, (1,)) == 2


async def test_ctrl_c_out_of_a_call_that_left_a_scope_open_is_not_lost():
    async def leaves_scope():
        trio.CancelScope().__enter__()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with Pool(1) as pool:
            await pool.apply(leaves_scope)


async def test_maps_of_calls_without_a_checkpoint_share_the_budget():
    async def plain(x):
        return x

    async with Pool(5) as pool, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(pool.map, plain, range(1000))
        assert await pool.map(plain, range(1000)) == list(range(1000))


async def test_apply_leaves_others_waiting_who_wait_for_its_task_already():
    class Shown(Task):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            shown.append(self)

    shown = []
    event = trio.Event()
    async with Pool(1, Shown) as pool, trio.open_nursery() as nursery:
        await pool.spawn(event.wait)
        nursery.start_soon(pool.apply, double, (1,))
        await wait_all_tasks_blocked()
        nursery.start_soon(shown[1].get)
        await wait_all_tasks_blocked()
        event.set()
    assert shown[1].value == 2


async def test_a_stray_wake_up_of_a_worker_whose_call_left_a_nursery_open_is_ignored():
    managers = []
    trio_tasks = []

    async def leaves_nursery():
        managers.append(trio.open_nursery())
        await managers[-1].__aenter__()
        trio_tasks.append(trio.lowlevel.current_task())

    async with Pool(1) as pool:
        with pytest.raises(RuntimeError, match="ended with a nursery still open"):
            await pool.apply(leaves_nursery)
        await wait_all_tasks_blocked()
        trio.lowlevel.reschedule(trio_tasks[0])
        assert await pool.map(double, [1, 2]) == [2, 4]


async def test_an_error_of_a_link_after_the_block_is_logged(caplog):
    def fail(_):
        raise KeyError("late")

    async with Pool() as pool:
        task = await pool.spawn(double, 1)
    task.link(fail)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "late" in caplog.text


async def test_wait_available_keeps_behind_a_call_that_has_just_been_asked_for():
    event = trio.Event()
    async with Pool(1) as pool:
        await pool.spawn(event.wait)
        queued = pool.apply_async(double, (1,))
        assert await pool.wait_available(timeout=0) == 0
        event.set()
        assert await pool.wait_available() == 1
        assert queued.value == 2


async def test_a_call_with_a_nursery_that_is_cancelled_from_outside_is_killed():
    async def run():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    with trio.CancelScope() as scope:
        async with Pool(1) as pool:
            task = await pool.spawn(run)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert task.status is TaskStatus.KILLED
