"""Rows that a thread has claimed ahead, since they are quick: nobody's until they begin."""

import itertools
import math
import sys
import threading
import time
from collections import deque

import pytest
import trio
from gates import Gate
from trio.testing import wait_all_tasks_blocked

from triopool import TaskKilled, TaskStatus, ThreadPool, _remote_rows, _thread_rows
from triopool._hand import Hand

WAITING, RUNNING, KILLED = TaskStatus.WAITING, TaskStatus.RUNNING, TaskStatus.KILLED
SOURCES = {"list": list, "generator": lambda values: (value for value in values)}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)

HELD = 100  # the row in the middle of which a thread is held


@pytest.fixture(autouse=True)
def always_quick(monkeypatch):
    """However slow this machine is, threads claim as many rows as they ever do."""
    for module in (_remote_rows, _thread_rows):
        monkeypatch.setattr(module, "QUICK", math.inf)


class Rows:
    """Rows of which one is held, and which of them were made."""

    def __init__(self, gate):
        self.gate = gate
        self.made = []

    def make(self, x):
        self.made.append(x)
        if x == HELD:
            self.gate.hold(x)
        return x


@every_source
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("held", [1, 30, HELD, 298])
async def test_none_waits_behind_a_slow_one_while_a_thread_is_idle(source, size, held):
    others = threading.Semaphore(0)

    def make(x):
        if x == held:
            for _ in range(299):
                others.acquire()
        else:
            others.release()
        return x

    async with ThreadPool(size) as pool:
        assert await pool.map(make, source(range(300))) == list(range(300))


@every_source
async def test_a_slot_that_comes_free_is_used_for_those_behind_a_slow_one(source):
    async with Gate() as gate, ThreadPool(2) as pool:
        rows = Rows(gate)
        blocker = await pool.spawn(gate.hold, "blocker")
        await gate.until(1)
        results = pool.imap_unordered(rows.make, source(range(200)))
        await gate.until(2)
        gate.open("blocker")
        assert await blocker == "blocker"
        read = [await anext(results) for _ in range(199)]
        assert sorted(read) == [x for x in range(200) if x != HELD]
        gate.open()
        assert [x async for x in results] == [HELD]


@every_source
async def test_those_behind_a_slow_one_that_were_looked_at_keep_their_order(source):
    numbers = [2 * HELD - x for x in range(2 * HELD)]
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, source(numbers))
        await gate.until(1)
        assert list(pool)
        gate.open()
        assert [x async for x in results] == rows.made == numbers


@every_source
async def test_those_behind_one_that_exits_are_not_made(source):
    made = []

    def make(x):
        made.append(x)
        if x == HELD:
            sys.exit(3)

    with pytest.raises(SystemExit):
        async with ThreadPool(1) as pool:
            _results = pool.imap(make, source(range(2 * HELD)))
            await trio.sleep_forever()
    assert made == list(range(HELD + 1))


@every_source
async def test_those_behind_a_slow_one_are_not_made_if_the_pool_is_cancelled(source, balanced):
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, source(range(HELD + 9)))
        await gate.until(1)
        await wait_all_tasks_blocked()  # so the input is at its end
        pool.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            gate.open()
            await pool.join()
    assert rows.made == list(range(HELD + 1))
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)
    balanced(pool)


@every_source
async def test_those_behind_a_slow_one_can_be_killed_and_the_others_are_made(source, balanced):
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, source(range(300)), return_exceptions=True)
        await gate.until(1)
        tasks = list(pool)
        assert [task.args for task in tasks[:2]] == [(HELD,), (HELD + 1,)]
        assert tasks[0].status is RUNNING
        assert {task.status for task in tasks[1:]} == {WAITING}
        assert await tasks[1].kill()
        assert await pool.killone(tasks[3])
        assert [tasks[1].status, tasks[3].status] == [KILLED, KILLED]
        gate.open()
        values = [value async for value in results]
        killed = [x for x, value in enumerate(values) if isinstance(value, TaskKilled)]
        assert killed == [HELD + 1, HELD + 3]
        assert rows.made == [x for x in range(300) if x not in killed]
        balanced(pool)


@every_source
async def test_a_link_of_one_may_kill_the_next_while_all_are_killed(source, balanced):
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, source(range(300)), return_exceptions=True)
        await gate.until(1)
        waiting = [task for task in pool if task.status is WAITING]
        for one, next_one in itertools.pairwise(waiting):
            one.link(lambda _, next_one=next_one: next_one.kill_nowait(KeyError))
        pool.kill_nowait()
        assert len(waiting) > 2
        assert {task.status for task in waiting} == {KILLED}
        assert len(pool) == 1
        gate.open()
        with pytest.raises(TaskKilled):
            async for x in results:
                assert x == rows.made[x]
        assert rows.made == list(range(HELD + 1))
        balanced(pool)


@every_source
async def test_those_behind_a_slow_one_do_not_keep_the_slot_from_others(source):
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, source(range(300)))
        await gate.until(1)
        task = pool.apply_async(lambda: len(rows.made))
        await wait_all_tasks_blocked()
        gate.open()
        # The feeder of the map may have been in the line before.
        assert await task in (HELD + 1, HELD + 2)
        assert [x async for x in results] == list(range(300))


async def test_a_discarded_row_keeps_those_behind_it_for_others():
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap_unordered(rows.make, range(200))
        await gate.until(1)
        pool.discard(next(iter(pool)))
        read = [await anext(results) for _ in range(199)]
        assert sorted(read) == [x for x in range(200) if x != HELD]
        assert len(pool) == 0
        gate.open()
        assert [x async for x in results] == [HELD]


@pytest.mark.parametrize("maxsize", [1, 2, 50])
async def test_what_a_thread_claims_is_within_the_bound(maxsize):
    async with Gate() as gate, ThreadPool(2) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, range(300), maxsize=maxsize)
        for x in range(HELD):
            assert await anext(results) == x
            assert len(rows.made) <= x + 1 + maxsize
        await gate.until(1)
        await pool.wait_available()
        assert len(rows.made) <= HELD + maxsize
        gate.open()
        assert [x async for x in results] == list(range(HELD, 300))


async def test_an_error_of_the_input_comes_after_the_rows_that_were_claimed_before():
    numbers = dict.fromkeys(range(100))

    def make(x):
        if x == 50:
            numbers["another"] = None
        return x

    read = []
    async with ThreadPool(1) as pool:
        with pytest.raises(RuntimeError, match="changed size"):
            async with pool.imap(make, numbers) as results:
                while True:
                    read.append(await anext(results))
    assert read == list(range(len(read)))
    assert 50 < len(read) < 100


async def test_the_arguments_of_those_that_are_over_are_let_go(no_gc):
    class Number:
        alive = 0

        def __init__(self):
            type(self).alive += 1

        def __del__(self):
            type(self).alive -= 1

    async with Gate() as gate, ThreadPool(1) as pool:
        seen = []

        def make(number):
            seen.append(None)
            if len(seen) == HELD:
                gate.hold()

        async def numbers():
            for _ in range(300):
                yield Number()

        results = pool.imap(make, numbers(), maxsize=150)
        await gate.until(1)
        for _ in range(HELD - 1):
            await anext(results)
        # what runs, and what waits behind it
        assert Number.alive <= 1 + 150
        gate.open()
        assert [x async for x in results] == [None] * (300 - HELD + 1)
        assert Number.alive == 0
        await trio.lowlevel.checkpoint()


async def test_no_row_in_a_stock_is_forgotten_when_room_has_come_meanwhile():
    async with Gate() as gate, ThreadPool(1) as pool:
        hold = {HELD, HELD + 1}

        def make(x):
            return gate.hold(x) if x in hold else x

        results = pool.imap_unordered(make, range(300), maxsize=8)
        for x in range(HELD - 7):
            assert await anext(results) == x
        await gate.until(1)
        # All room is taken, so its feeder has nothing to do. The pool grows meanwhile.
        await wait_all_tasks_blocked()
        pool.maxsize = 3
        assert [await anext(results) for _ in range(2)] == [HELD - 7, HELD - 6]
        gate.open(HELD)
        await gate.until(2)
        others = {await anext(results) for _ in range(100)}
        assert {HELD, HELD + 2} <= others
        gate.open()
        assert len([x async for x in results]) == 300 - HELD + 5 - 100


class Looking:
    """A thread that looks at a task, and is held in the middle of that."""

    def __init__(self, monkeypatch):
        self.found = threading.Event()
        self.go_on = threading.Event()
        self.thread = None
        has_begun = _remote_rows.RowCall.has_begun

        def held(call):
            begun = has_begun(call)
            if threading.current_thread() is self.thread:
                self.found.set()
                self.go_on.wait()
            return begun

        monkeypatch.setattr(_remote_rows.RowCall, "has_begun", held)

    def look(self, task):
        self.thread = threading.current_thread()
        return task.status, task.started


async def test_a_task_that_ends_while_another_thread_looks_stays_at_its_end(monkeypatch):
    looking = Looking(monkeypatch)
    seen = []

    async def look(task):
        seen.extend(await trio.to_thread.run_sync(looking.look, task))

    async with Gate() as gate, ThreadPool(1) as pool, trio.open_nursery() as nursery:
        results = pool.imap(gate.hold, [1, 2])
        await gate.until(1)
        task = next(iter(pool))
        nursery.start_soon(look, task)
        await trio.to_thread.run_sync(looking.found.wait)
        gate.open(1)
        assert await anext(results) == 1
        await task.join()
        looking.go_on.set()
        gate.open()
        assert await anext(results) == 2
    assert seen == [TaskStatus.SUCCEEDED, True]
    assert task.status is TaskStatus.SUCCEEDED
    assert await task == 1


async def test_what_is_withdrawn_never_seems_to_run():
    seen = []
    async with Gate() as gate, ThreadPool(1) as pool:
        rows = Rows(gate)
        results = pool.imap(rows.make, range(300))
        await gate.until(1)
        first, second = [task for task in pool if task.status is WAITING][:2]
        first.link(lambda _: seen.append((second.status, second.started)))
        pool.kill_nowait()
        assert (second.status, second.started) == (KILLED, False)
        gate.open()
        with pytest.raises(TaskKilled):
            async for x in results:
                assert x <= HELD
    assert seen == [(WAITING, False)]


async def test_threads_that_rest_together_keep_no_slot_that_they_have_no_row_for():
    async with ThreadPool(2) as pool, Gate() as gate, trio.open_nursery() as nursery:
        results = pool.imap_unordered(gate.hold, range(20), maxsize=2)
        nursery.start_soon(anext, results)
        await gate.until(2)
        gate.open(0, 1)
        until_they_rest(pool)  # both before Trio hears of it
        await gate.until(3)
        assert await pool.apply(abs, (-1,)) == 1
        gate.open()
        await results.aclose()


def until(condition):
    """Wait for threads, without letting Trio's loop go on."""
    while not condition():
        time.sleep(1e-4)


def until_they_rest(pool):
    until(lambda: all(worker.hand.resting for worker in pool._threads.threads))


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one report"])
async def test_no_error_of_the_input_is_lost_beside_one_of_a_row(together):
    numbers = dict.fromkeys(range(50))

    def make(x):
        gate.hold(x)
        if x == 0:
            raise KeyError("row")
        numbers["another"] = None
        return x

    async with ThreadPool(2) as pool, Gate() as gate:
        task = pool.map_async(make, numbers)
        await gate.until(2)
        series = task._series
        gate.open(1)
        if together:
            until(lambda: series.rows.drained)  # its thread has seen the change
            gate.open(0)
            until_they_rest(pool)
        else:
            while not series.exhausted:
                await trio.lowlevel.checkpoint()
            gate.open(0)
        with pytest.raises((KeyError, RuntimeError)) as info:
            await task
    errors = [str(info.value), *info.value.__notes__]
    assert sorted("changed size" in error for error in errors) == [False, True]


async def test_a_row_is_in_the_pool_that_makes_it_and_in_no_other():
    async with ThreadPool(1) as pool, ThreadPool(1) as other, Gate() as gate:
        results = pool.imap(gate.hold, [1])
        await gate.until(1)
        (task,) = pool
        assert task in pool
        assert task not in other
        gate.open()
        assert await anext(results) == 1


async def test_a_look_at_a_row_whose_map_is_over_finds_nothing():
    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.hold, [1])
        await gate.until(1)
        (task,) = pool
        host = task._host
        assert host.is_of(pool)
        gate.open()
        assert [x async for x in results] == [1]
        assert task not in pool
        host.is_of(pool)  # as another thread may ask that is late


async def test_a_map_whose_only_thread_makes_a_discarded_row_grows_again():
    async with ThreadPool(2) as pool, Gate() as gate:
        results = pool.imap_unordered(gate.hold, [0, 1, 2])
        await gate.until(2)
        rows = results._stream.rows
        rows.makes_do = True
        assert not rows.grows
        for task in list(pool):
            pool.discard(task)
        assert rows.grows
        await gate.until(3)
        gate.open()
        assert sorted([x async for x in results]) == [0, 1, 2]


async def test_nothing_is_kept_of_a_discarded_row_that_is_over():
    async with ThreadPool(1) as pool, Gate() as gate:
        results = pool.imap(gate.hold, [1, 2])
        await gate.until(1)
        rows = results._stream.rows
        (task,) = (task for task in pool if task.args == (1,))
        pool.discard(task)
        assert rows.discarded
        gate.open(1)
        assert await anext(results) == 1
        assert not rows.discarded
        gate.open()
        assert await anext(results) == 2


def test_a_thread_is_not_making_a_row_that_was_recalled_while_it_began_it():
    class Recalled(deque):
        def __getitem__(self, place):
            row = super().__getitem__(place)
            recalled.extend(hand.recall())
            return row

    recalled = []
    hand = Hand()
    hand.stock = Recalled([(7, "row")])
    assert hand.begin() is None
    assert recalled == [(7, "row")]
    assert hand.making() is None
