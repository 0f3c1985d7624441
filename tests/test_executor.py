"""ThreadPoolExecutor: the standard library's contract, and what it adds for Trio."""

import asyncio
import concurrent.futures
import contextvars
import faulthandler
import functools
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import triopool
from triopool import Pool, ThreadPoolExecutor, _executor_map, _executor_threads
from triopool._executor_map import Row
from triopool._executor_threads import Threads, work
from triopool._futures import Future
from triopool._hooks import drop_hooks, hooked

Stdlib = concurrent.futures.ThreadPoolExecutor


class Thing:
    """Something that can be weakly referenced."""


class Gate:
    """A function that blocks until the gate is open, and says how many are in it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._arrived = threading.Semaphore(0)

    def __call__(self, value: Any = None) -> Any:
        self._arrived.release()
        self._opened.wait()
        return value

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            self._arrived.acquire()

    def open(self) -> None:
        self._opened.set()


def fail(*_: object) -> None:
    raise ValueError("no")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {t for t in threading.enumerate() if t.name.startswith("triopool")} - before
    for thread in left:  # of executors that nobody holds any more
        gc.collect()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def one_thread(gate: Gate) -> tuple[ThreadPoolExecutor, "Future[Any]"]:
    """An executor whose only thread is in the gate."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(gate)
    gate.wait_for(1)
    return executor, future


# What it is


def test_it_is_a_real_executor_and_its_futures_are_real_futures(
    executor: ThreadPoolExecutor,
) -> None:
    assert isinstance(executor, Stdlib)
    future = executor.submit(pow, 2, 10)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 1024
    assert "finished returned int" in repr(future)


@pytest.mark.parametrize(
    "args", [(0,), (-1,), ("4",), (1, "", 3), (1, "", "init"), (1, "", None, (), 5)]
)
def test_bad_arguments_are_the_same_errors_as_in_the_standard_library(args: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as theirs:
        Stdlib(*args)
    with pytest.raises(type(theirs.value)):
        ThreadPoolExecutor(*args)


@pytest.mark.parametrize("cpus", [None, 3, 100])
def test_default_number_of_threads_is_that_of_the_standard_library(
    monkeypatch: pytest.MonkeyPatch, cpus: int | None
) -> None:
    for name in ("cpu_count", "process_cpu_count"):
        monkeypatch.setattr(os, name, lambda: cpus, raising=False)
    assert ThreadPoolExecutor()._max_workers == Stdlib()._max_workers


def test_what_others_read_of_the_private_names_is_there() -> None:
    executor: Any = ThreadPoolExecutor(3)
    assert (executor._max_workers, executor._shutdown, executor._broken) == (3, False, False)
    assert (len(executor._threads), executor._work_queue.qsize()) == (0, 0)
    executor.submit(int).result()
    assert len(executor._threads) == 1
    executor.shutdown()
    assert executor._shutdown


def test_threads_are_named_so_that_they_show_whose_they_are() -> None:
    def name() -> str:
        return threading.current_thread().name

    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        names = first.submit(name).result(), second.submit(name).result()
    assert all(each.startswith("triopool.ThreadPoolExecutor-") for each in names)
    assert names[0] != names[1]
    with ThreadPoolExecutor(1, "disk") as third:
        assert third.submit(name).result() == "disk_0"


# Threads


def test_threads_start_on_demand_up_to_the_limit(gate: Gate) -> None:
    with ThreadPoolExecutor(3) as executor:
        threads: set[threading.Thread] = executor._threads
        for expected in (1, 2, 3, 3, 3):
            executor.submit(gate)
            assert len(threads) == expected
        gate.open()


def test_an_idle_thread_is_used_again(executor: ThreadPoolExecutor) -> None:
    for _ in range(100):
        executor.submit(int).result()
        # A thread is idle a moment after its result is out.
        while executor._pool._queued != sum(done[0] for done in executor._pool._done):
            time.sleep(0)
    assert len(executor._threads) == 1


def test_calls_that_wait_for_each_other_get_a_thread_each() -> None:
    with ThreadPoolExecutor(8) as executor:
        for count in (1, 3, 8):
            barrier = threading.Barrier(count)
            calls = [executor.submit(barrier.wait) for _ in range(count)]
            assert sorted(call.result() for call in calls) == list(range(count))


def test_a_callback_that_waits_for_a_call_gets_a_thread_for_it() -> None:
    results = []

    def nested(_: object) -> None:
        results.append(executor.submit(int).result())

    with ThreadPoolExecutor(2) as executor:
        executor.submit(int).add_done_callback(nested)
    assert results == [0]


def test_calls_begin_in_the_order_of_submission(gate: Gate) -> None:
    executor, _ = one_thread(gate)
    seen: list[int] = []
    with executor:
        executor.submit(seen.append, 0)
        executor.map(seen.append, [1, 2])
        executor.submit(seen.append, 3)
        gate.open()
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("others", [0, 1])
def test_a_thread_that_the_system_refuses_is_an_error_only_if_there_is_no_other(
    others: int, gate: Gate
) -> None:
    with ThreadPoolExecutor(4) as executor:
        running = [executor.submit(gate) for _ in range(others)]
        before = threading.stack_size(1 << 46)
        try:
            if others:
                waiting = executor.submit(int)
            else:
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    executor.submit(int)
                assert executor._work_queue.empty()
        finally:
            threading.stack_size(before)
        assert len(executor._threads) == others
        assert executor.submit(pow, 2, 2).result() == 4
        gate.open()
        if others:
            assert (waiting.result(), running[0].result()) == (0, None)


def test_initializer_runs_in_each_thread_at_its_start() -> None:
    seen: list[tuple[int, str]] = []

    def init(word: str) -> None:
        seen.append((threading.get_ident(), word))

    with ThreadPoolExecutor(2, initializer=init, initargs=("hello",)) as executor:
        barrier = threading.Barrier(2)

        def ident(_: object) -> int:
            barrier.wait()
            return threading.get_ident()

        idents = list(executor.map(ident, range(2)))
    assert sorted(seen) == sorted((ident, "hello") for ident in idents)


def test_a_failing_initializer_breaks_what_has_not_begun(
    caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    def init() -> None:
        gate()
        fail()

    with ThreadPoolExecutor(1, initializer=init) as executor:
        calls = [executor.submit(int) for _ in range(2)]
        cancelled = executor.submit(int)
        cancelled.cancel()
        rows = executor.map(int, "12")
        gate.open()
        lengths = []
        for call in (calls[0], *calls):
            with pytest.raises(BrokenThreadPool, match="initializer failed") as caught:
                call.result()
            lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
        assert len(set(lengths)) == 1  # it does not grow
        assert cancelled.cancelled()
        with pytest.raises(BrokenThreadPool, match="initializer failed"):
            next(rows)
        with pytest.raises(BrokenThreadPool, match="initializer failed"):
            executor.submit(int)
        with pytest.raises(BrokenThreadPool):
            executor.map(int, "1")
        assert executor._broken
    assert caplog.messages == ["Exception in initializer:"]


def test_an_executor_that_is_shut_down_and_then_breaks_still_ends(
    caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    first = iter([True])

    def init() -> None:
        if not next(first, False):
            gate()
            fail()

    executor = ThreadPoolExecutor(2, initializer=init)
    other = Gate()
    running = executor.submit(other)
    other.wait_for(1)
    call = executor.submit(int)
    gate.wait_for(1)
    executor.shutdown(wait=False)
    gate.open()
    with pytest.raises(BrokenThreadPool):
        call.result()
    other.open()
    executor.shutdown()
    assert running.result() is None


# Errors


def test_an_error_of_a_call_is_raised_as_often_as_one_asks_and_does_not_grow(
    executor: ThreadPoolExecutor,
) -> None:
    lengths = []
    future = executor.submit(fail)
    for _ in range(3):
        with pytest.raises(ValueError, match="no") as caught:
            future.result()
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
        assert isinstance(future.exception(), ValueError)
    assert len(set(lengths)) == 1


def test_asking_for_an_error_while_another_is_handled_does_not_join_them(
    executor: ThreadPoolExecutor, gate: Gate
) -> None:
    def call() -> None:
        gate()
        fail()

    future = executor.submit(call)
    try:
        raise KeyError
    except KeyError:
        gate.open()
        for _ in range(2):
            with pytest.raises(ValueError, match="no") as caught:
                future.result()
            assert caught.value.__context__ is None


def test_the_traceback_of_an_error_shows_no_frame_of_the_threads(
    executor: ThreadPoolExecutor,
) -> None:
    error = executor.submit(fail).exception()
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


def test_an_error_that_somebody_else_sets_is_raised_as_it_is() -> None:
    future: Future[int] = Future()
    future.set_exception(KeyError(1))
    with pytest.raises(KeyError):
        future.result()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_call_can_raise_anything(kind: type[BaseException]) -> None:
    def call(_: object = None) -> None:
        raise kind

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(kind):
            executor.submit(call).result()
        with pytest.raises(kind):
            next(executor.map(call, range(1)))
        assert executor.submit(int).result() == 0


def test_a_callback_that_raises_what_is_no_exception_costs_no_thread(
    caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    def callback(_: object) -> None:
        raise SystemExit

    executor, future = one_thread(gate)
    future.add_done_callback(callback)
    gate.open()
    assert executor.submit(int).result() == 0
    executor.shutdown()
    assert caplog.messages == ["Exception in worker"]


def test_result_with_a_timeout(gate: Gate) -> None:
    executor, future = one_thread(gate)
    with executor:
        with pytest.raises(TimeoutError):
            future.result(timeout=0)
        gate.open()
        assert future.result(timeout=60) is None


# Awaiting in Trio


async def test_awaiting_a_future_gives_its_result(executor: ThreadPoolExecutor, gate: Gate) -> None:
    future = executor.submit(gate, 5)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            with assert_checkpoints():
                assert await future == 5

        await wait_all_tasks_blocked()
        gate.open()
    with assert_checkpoints():
        assert await future == 5


async def test_awaiting_a_future_raises_its_error_which_does_not_grow(
    executor: ThreadPoolExecutor,
) -> None:
    future = executor.submit(fail)
    lengths = []
    for _ in range(3):
        with assert_checkpoints(), pytest.raises(ValueError, match="no") as caught:
            await future
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(lengths)) == 1


def test_ctrl_c_at_any_line_of_who_awaits_a_future_disturbs_nothing_later() -> None:
    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal over
        if not frame.f_code.co_filename.endswith("_futures.py"):
            return None
        line = frame.f_code, frame.f_lineno
        if event == "line" and over and line not in struck:
            struck.add(line)
            over = False
            signal.raise_signal(signal.SIGINT)
        return trace

    async def let_go(gate: Gate) -> None:
        await wait_all_tasks_blocked()
        gate.open()

    async def main() -> None:
        gate = Gate()
        executor = ThreadPoolExecutor(1)
        future = executor.submit(gate, 5)
        trio.lowlevel.spawn_system_task(let_go, gate)
        try:
            await future
        finally:
            gate.open()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(executor.shutdown)
                await wait_all_tasks_blocked()

    before = sys.gettrace()
    struck: set[Any] = set()
    over = False
    while not over:
        over = True  # unless there is a line that was not struck yet
        sys.settrace(trace)
        try:
            trio.run(main)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
    assert len(struck) > 10


async def test_cancelling_an_awaiter_leaves_the_call_alone(
    executor: ThreadPoolExecutor, gate: Gate, autojump_clock: MockClock
) -> None:
    future = executor.submit(gate, 7)
    for _ in range(3):
        with trio.move_on_after(1) as scope:
            await future
        assert scope.cancelled_caught
    assert not future._links  # nothing is kept of those who gave up
    assert not future.cancelled()
    gate.open()
    assert await future == 7


async def test_awaiting_a_done_future_is_cancellable(executor: ThreadPoolExecutor) -> None:
    future = executor.submit(int)
    await future
    with trio.CancelScope() as scope:
        scope.cancel()
        await future
    assert scope.cancelled_caught


async def test_a_cancelled_future_is_no_cancellation_of_the_awaiter(gate: Gate) -> None:
    executor, _ = one_thread(gate)
    with executor:
        future = executor.submit(int)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(CancelledError):
                    await future

            await wait_all_tasks_blocked()
            assert future.cancel()
        with pytest.raises(CancelledError):
            await future
        gate.open()


async def test_a_cancellation_that_left_the_call_is_none_of_the_awaiter(
    executor: ThreadPoolExecutor,
) -> None:
    async def main() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                return error
        raise AssertionError

    def call() -> None:
        raise trio.run(main)

    future = executor.submit(call)
    for _ in range(2):
        with pytest.raises(CancelledError, match="cancellation of another") as caught:
            await future
        assert isinstance(caught.value.__cause__, trio.Cancelled)


async def test_many_can_await_one_future_and_some_give_up(
    executor: ThreadPoolExecutor, gate: Gate
) -> None:
    async def wait() -> None:
        results.append(await future)

    async def give_up() -> None:
        with scope:
            results.append(await future)

    future = executor.submit(gate, 3)
    results: list[int] = []
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(give_up)
        for _ in range(5):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        gate.open()
    assert results == [3] * 5


def test_several_trio_runs_await_one_future(gate: Gate) -> None:
    async def main() -> Any:
        return await future

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(3) as runs:
        future = executor.submit(gate, 4)
        loops = [runs.submit(trio.run, main) for _ in range(3)]
        gate.wait_for(1)
        gate.open()
        assert [loop.result() for loop in loops] == [4, 4, 4]


def test_a_future_that_is_done_after_the_run_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    links: list[Callable[[Any], object]] = []

    future: Future[int] = Future()

    async def awaiting() -> None:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await future

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            links.extend(future._links)
            links[0](future)  # the thread has taken the callback, and is about to call it
            nursery.cancel_scope.cancel()

    trio.run(awaiting)
    links[0](future)
    future.set_result(1)
    assert not caplog.records


def test_links_are_called_once_in_order_and_can_be_undone() -> None:
    seen: list[str] = []
    future: Future[int] = Future()

    def first(_: object) -> None:
        seen.append("first")
        future._unlink(third)

    def second(_: object) -> None:
        seen.append("second")

    def third(_: object) -> None:
        seen.append("third")

    for each in (first, second, third):
        future._link(each)
    future.set_result(1)
    future._link(third)
    assert seen == ["first", "second", "third"]


def test_awaiting_without_trio_says_what_to_do(executor: ThreadPoolExecutor) -> None:
    future = executor.submit(int)

    async def main() -> None:
        await future

    with pytest.raises(RuntimeError, match=r"asyncio\.wrap_future"):
        asyncio.run(main())
    coroutine = main()
    with pytest.raises(RuntimeError, match=r"future\.result\(\)"):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match="needs Trio"):
        asyncio.run(ThreadPoolExecutor(1).__aenter__())


async def test_awaiting_in_a_thread_is_an_error(executor: ThreadPoolExecutor) -> None:
    def elsewhere() -> None:
        future.__await__().send(None)

    future = executor.submit(int)
    with pytest.raises(RuntimeError, match="needs Trio"):
        await trio.to_thread.run_sync(elsewhere)


# Beside tasks, and in asyncio


async def test_futures_and_tasks_are_waited_for_together(executor: ThreadPoolExecutor) -> None:
    async def sleep_forever() -> None:
        await trio.sleep_forever()

    async def call() -> int:
        return await executor.submit(pow, 2, 3)

    async with Pool() as pool:
        task = await pool.spawn(call)
        futures = [executor.submit(pow, 2, n) for n in range(10)]
        objects: list[Any] = [task, *futures]
        assert await triopool.wait(objects) == objects
        assert (await task, futures[3].result()) == (8, 8)
        seen = [each async for each in triopool.as_completed(objects)]
        assert sorted(map(id, seen)) == sorted(map(id, objects))
        endless = await pool.spawn(sleep_forever)
        assert await triopool.wait([endless, futures[0]], count=1) == [futures[0]]
        pool.cancel_scope.cancel()


async def test_futures_come_in_the_order_in_which_they_get_done(gate: Gate) -> None:
    with ThreadPoolExecutor(2) as executor:
        last = executor.submit(gate)
        rest = [executor.submit(int) for _ in range(100)]
        seen = []
        async for each in triopool.as_completed([last, *rest]):
            seen.append(each)
            if len(seen) == 100:
                gate.open()
        assert seen == [*rest, last]


async def test_who_waits_no_longer_is_forgotten_by_the_future(gate: Gate) -> None:
    executor, future = one_thread(gate)
    with executor:
        for _ in range(3):
            assert await triopool.wait([future], timeout=0) == []
        assert not future._links
        completed = triopool.as_completed([future])
        assert len(future._links) == 1
        del completed
        await wait_all_tasks_blocked()
        assert not future._links
        gate.open()


def test_asyncio_takes_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(2)
        assert await loop.run_in_executor(executor, pow, 2, 3) == 8
        assert await asyncio.wrap_future(executor.submit(pow, 2, 4)) == 16
        with pytest.raises(ValueError, match="no"):
            await loop.run_in_executor(executor, fail)
        loop.set_default_executor(executor)
        assert (await asyncio.to_thread(threading.current_thread)).name.startswith("triopool")
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(int)

    asyncio.run(main())


def test_what_dasks_local_scheduler_does_with_an_executor_works() -> None:
    done: deque[Any] = deque()
    with ThreadPoolExecutor(3) as executor:
        for number in range(2 * executor._max_workers):
            call = functools.partial(pow, number)
            executor.submit(list, map(call, [2])).add_done_callback(done.append)
        executor.shutdown()
    assert sorted(future.result() for future in done) == [[n * n] for n in range(6)]


def test_what_concurrent_futures_does_with_futures_works(
    executor: ThreadPoolExecutor, gate: Gate
) -> None:
    slow, quick, bad = executor.submit(gate), executor.submit(int), executor.submit(fail)
    done, rest = concurrent.futures.wait([slow, quick, bad], return_when="FIRST_EXCEPTION")
    assert bad in done
    assert slow in rest
    first = next(concurrent.futures.as_completed([slow, quick]))
    assert first is quick
    gate.open()
    assert set(concurrent.futures.as_completed([slow, quick, bad])) == {slow, quick, bad}


# map


def test_map_gives_results_in_the_order_of_the_rows(executor: ThreadPoolExecutor) -> None:
    assert list(executor.map(pow, range(100), itertools.repeat(2))) == [n * n for n in range(100)]
    assert list(executor.map(pow, range(3), range(2), chunksize=7)) == [1, 1]
    assert list(executor.map(int, [])) == []
    assert list(executor.map(int)) == []


def test_a_map_that_nobody_reads_is_run(gate: Gate) -> None:
    seen: list[int] = []
    with ThreadPoolExecutor(2) as executor:
        executor.map(seen.append, range(10))
    assert sorted(seen) == list(range(10))


def test_a_row_begins_while_the_input_is_still_pulled(executor: ThreadPoolExecutor) -> None:
    seen = threading.Event()

    def rows() -> Iterator[int]:
        yield 1
        seen.wait()
        yield 2

    def call(n: int) -> int:
        seen.set()
        return n

    assert list(executor.map(call, rows())) == [1, 2]


def test_map_raises_an_error_in_its_place_and_begins_nothing_more(gate: Gate) -> None:
    seen: list[int] = []

    def call(n: int) -> int:
        if n == 1:
            fail()
        if n == 2:
            gate()
        seen.append(n)
        return n

    with ThreadPoolExecutor(1) as executor:
        results = executor.map(call, range(50))
        assert next(results) == 0
        with pytest.raises(ValueError, match="no") as caught:
            next(results)
        assert list(results) == []
        gate.open()
    assert len(seen) < 50
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["call", "fail"]


@pytest.mark.parametrize("buffersize", [None, 3])
def test_closing_a_map_cancels_what_has_not_begun(gate: Gate, buffersize: int | None) -> None:
    executor, _ = one_thread(gate)
    seen: list[int] = []
    args = [Thing() for _ in range(3)]
    refs = [weakref.ref(arg) for arg in args]
    with executor:
        results: Any = executor.map(seen.append, args, timeout=0, buffersize=buffersize)
        del args
        with pytest.raises(TimeoutError):
            next(results)
        results.close()
        del results
        gc.collect()
        assert not any(ref() for ref in refs)  # while they are queued
        gate.open()
    assert seen == []


def test_closing_a_map_of_a_subclass_cancels_what_has_not_begun(gate: Gate) -> None:
    futures: list[Any] = []

    class Noted(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            futures.append(super().submit(fn, *args, **kwargs))
            return futures[-1]

    with Noted(1) as executor:
        results: Any = executor.map(gate, range(3), timeout=0)
        gate.wait_for(1)
        with pytest.raises(TimeoutError):
            next(results)
        cancelled = [future.cancelled() for future in futures]
        gate.open()
    assert cancelled == [False, True, True]


def test_a_timeout_is_for_all_of_a_map(executor: ThreadPoolExecutor) -> None:
    assert list(executor.map(int, "123", timeout=1e9)) == [1, 2, 3]
    assert list(executor.map(int, "123", timeout=float("inf"))) == [1, 2, 3]
    done = executor.map(int, "12", timeout=-1)
    executor.submit(int).result()
    executor.shutdown()
    assert list(done) == [1, 2]  # what is there in time is there


def test_when_the_time_of_a_map_is_over_reading_does_not_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeouts = []

    class Spy:
        def __init__(self) -> None:
            self._lock = threading.Lock()
            self.release = self._lock.release

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if blocking and timeout >= 0:
                timeouts.append(timeout)
            return self._lock.acquire(blocking, timeout)

    def wait(futures: Any, timeout: float) -> Any:
        timeouts.append(timeout)
        return wait_really(futures, timeout)

    class Subclass(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(fn, *args, **kwargs)

    wait_really = concurrent.futures.wait
    monkeypatch.setattr(concurrent.futures, "wait", wait)
    monkeypatch.setattr(_executor_map, "Lock", Spy)
    for kind in (ThreadPoolExecutor, Subclass):
        gate = Gate()
        with kind(1) as executor:
            with pytest.raises(TimeoutError):
                next(executor.map(gate, "12", timeout=-1))
            gate.open()
    assert timeouts == [0, 0]


def test_a_slow_row_does_not_hold_up_the_quick_ones_behind_it(gate: Gate) -> None:
    seen = threading.Semaphore(0)

    def call(n: int) -> int:
        if n == 0:
            gate()
        seen.release()
        return n

    with ThreadPoolExecutor(2) as executor:
        results = executor.map(call, range(200))
        for _ in range(199):
            seen.acquire()
        gate.open()
        assert list(results) == list(range(200))


def test_with_a_buffersize_the_input_is_pulled_as_results_are_read() -> None:
    numbers = itertools.count()
    with ThreadPoolExecutor(2) as executor:
        results = executor.map(str, numbers, buffersize=4)
        assert next(numbers) == 4
        assert [next(results), next(results)] == ["0", "1"]
        assert next(numbers) == 7
        assert list(itertools.islice(results, 5)) == ["2", "3", "5", "6", "8"]


@pytest.mark.parametrize("size", [1, 2, 7, 100, True])
def test_a_buffersize_changes_no_result(executor: ThreadPoolExecutor, size: int) -> None:
    assert list(executor.map(pow, range(20), range(30), buffersize=size)) == [
        n**n for n in range(20)
    ]
    assert list(executor.map(int, [], buffersize=size)) == []
    assert list(executor.map(int, buffersize=size)) == []


def test_bad_buffersizes_are_errors(executor: ThreadPoolExecutor) -> None:
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        executor.map(int, "1", buffersize=1.0)  # type: ignore[arg-type]
    for size in (0, -1):
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            executor.map(int, "1", buffersize=size)


def test_an_error_of_the_input_comes_at_once_or_after_the_results_before_it(
    executor: ThreadPoolExecutor,
) -> None:
    def rows() -> Iterator[int]:
        yield from (1, 2, 3)
        fail()

    with pytest.raises(ValueError, match="no"):
        executor.map(abs, rows())
    results = executor.map(abs, rows(), buffersize=2)
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="no"):
        next(results)
    assert list(results) == []


def test_a_buffered_map_over_a_shutdown_says_so_after_its_results() -> None:
    executor = ThreadPoolExecutor(2)
    results = executor.map(abs, range(10), buffersize=3)
    executor.shutdown()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(results)


def test_a_buffered_map_keeps_its_executor_and_a_plain_one_does_not() -> None:
    executor = ThreadPoolExecutor(2)
    ref = weakref.ref(executor)
    results = executor.map(abs, range(10), buffersize=3)
    del executor
    assert list(results) == list(range(10))
    gc.collect()
    assert ref() is None
    executor = ThreadPoolExecutor(2)
    ref = weakref.ref(executor)
    results = executor.map(abs, range(10))
    del executor
    assert ref() is None
    assert list(results) == list(range(10))


def test_a_subclass_that_overrides_submit_is_asked_for_each_row(gate: Gate) -> None:
    var = contextvars.ContextVar("var", default=0)

    class InContext(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(contextvars.copy_context().run, fn, *args, **kwargs)

    def read(n: int) -> int:
        return n + var.get()

    var.set(5)
    with InContext(1) as executor:
        assert list(executor.map(read, range(10))) == list(range(5, 15))
        assert list(executor.map(read, range(3), buffersize=2, timeout=60)) == [5, 6, 7]
        with pytest.raises(ValueError, match="no"):
            next(executor.map(fail, [1]))
        executor.submit(gate)
        with pytest.raises(TimeoutError):
            next(executor.map(int, "12", timeout=0))
        gate.open()


@pytest.mark.parametrize("how", ["submit", "map"])
def test_functions_arguments_and_results_are_let_go(how: str, no_gc: None) -> None:
    class Function(Thing):
        def __call__(self, arg: Thing) -> Thing:
            return Thing()

    func, arg = Function(), Thing()
    gone = [threading.Event() for _ in range(3)]
    with ThreadPoolExecutor(1) as executor:
        if how == "map":
            results: Any = executor.map(func, [arg])
            result = next(results)
        else:
            future = executor.submit(func, arg)
            result = future.result()
            del future
        refs = [
            weakref.ref(each, lambda _, event=event: event.set())
            for each, event in zip((func, arg, result), gone, strict=True)
        ]
        del func, arg, result
        for event in gone:
            assert event.wait(60)
        assert [ref() for ref in refs] == [None] * 3


@pytest.mark.parametrize("how", ["submit", "map"])
def test_an_error_keeps_nothing_alive(how: str, no_gc: None) -> None:
    def call(arg: Thing) -> None:
        fail()

    gone = threading.Event()
    arg = Thing()
    ref = weakref.ref(arg, lambda _: gone.set())
    with ThreadPoolExecutor(1) as executor:
        try:
            if how == "map":
                next(executor.map(call, [arg]))
            else:
                executor.submit(call, arg).result()
        except ValueError:
            pass
        del arg
        assert gone.wait(60)
        assert ref() is None


@pytest.mark.parametrize("where", ["a call", "a subclass", "the input", "a call that nobody reads"])
def test_an_error_of_a_map_is_in_no_cycle(where: str, no_gc: None) -> None:
    class Subclass(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(fn, *args, **kwargs)

    class Mine(Exception):
        """Which can be weakly referenced."""

    refs: list[weakref.ref[Any]] = []

    def call(n: int) -> int:
        if n == 0:
            return n
        error = Mine(n)
        refs.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    with Subclass(1) if where == "a subclass" else ThreadPoolExecutor(1) as executor:
        if where == "the input":
            results: Any = executor.map(abs, map(call, [0, 1]), buffersize=1)
        else:
            results = executor.map(call, [0, 1])
        assert next(results) == 0
        if where != "a call that nobody reads":
            try:
                next(results)
            except Mine:
                pass
    results.close()
    del results
    assert [ref() for ref in refs] == [None]


async def test_an_error_that_was_awaited_keeps_nothing_alive(no_gc: None) -> None:
    def call(arg: Thing) -> None:
        fail()

    gone = threading.Event()
    arg = Thing()
    ref = weakref.ref(arg, lambda _: gone.set())
    with ThreadPoolExecutor(1) as executor:
        try:
            await executor.submit(call, arg)
        except ValueError:
            pass
        del arg
        assert gone.wait(60)
        assert ref() is None


def test_a_cancelled_call_lets_go_of_its_arguments_at_once(gate: Gate) -> None:
    executor, _ = one_thread(gate)
    with executor:
        arg = Thing()
        ref = weakref.ref(arg)
        future = executor.submit(id, arg)
        del arg
        assert ref() is not None
        assert future.cancel()
        assert future.cancel()
        assert ref() is None
        gate.open()
    assert future.cancelled()


def test_a_call_that_runs_cannot_be_cancelled(gate: Gate) -> None:
    executor, future = one_thread(gate)
    with executor:
        assert not future.cancel()
        gate.open()
    assert future.result() is None


# Ending


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_runs_what_is_queued_and_lets_nothing_in(wait: bool, gate: Gate) -> None:
    executor, _ = one_thread(gate)
    calls = [executor.submit(int) for _ in range(5)]
    executor.shutdown(wait=False)
    for begin in (lambda: executor.submit(int), lambda: executor.map(int, "1")):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            begin()
    gate.open()
    executor.shutdown(wait)
    assert [call.result() for call in calls] == [0] * 5


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_kill_drops_what_has_not_begun_and_waits_for_what_runs(how: str, gate: Gate) -> None:
    executor, running = one_thread(gate)
    calls = [executor.submit(int) for _ in range(3)]
    rows = executor.map(int, "123")
    waiter = threading.Thread(target=concurrent.futures.wait, args=(calls,))
    waiter.start()
    end = (
        executor.kill
        if how == "kill"
        else functools.partial(executor.shutdown, cancel_futures=True)
    )
    end(wait=False)
    waiter.join()
    for call in calls:
        assert call.cancelled()
        with pytest.raises(CancelledError):
            call.result()
    with pytest.raises(CancelledError):
        next(rows)
    assert running.running()
    gate.open()
    end()
    end()
    assert running.done()
    assert not any(thread.is_alive() for thread in executor._threads)


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_ending_it_from_inside_does_not_wait(how: str) -> None:
    barrier = threading.Barrier(2)

    def end() -> None:
        barrier.wait()
        getattr(executor, how)(wait=True)

    executor = ThreadPoolExecutor(2)
    calls = [executor.submit(end) for _ in range(2)]
    assert [call.result() for call in calls] == [None, None]
    executor.shutdown()


def test_callbacks_of_dropped_calls_may_use_the_executor(gate: Gate) -> None:
    def callback(_: object) -> None:
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(int)
        executor.shutdown(wait=False)
        seen.append(1)

    seen: list[int] = []
    executor, _ = one_thread(gate)
    executor.submit(int).add_done_callback(callback)
    executor.kill(wait=False)
    gate.open()
    executor.kill()
    assert seen == [1]


def test_every_call_is_dropped_even_if_a_callback_raises_what_is_no_exception(gate: Gate) -> None:
    def callback(_: object) -> None:
        raise SystemExit

    executor, _ = one_thread(gate)
    calls = [executor.submit(int) for _ in range(3)]
    calls[0].add_done_callback(callback)
    with pytest.raises(SystemExit):
        executor.kill()
    assert all(call.cancelled() for call in calls)
    gate.open()
    executor.kill()


def test_a_call_whose_future_somebody_has_set_is_no_obstacle(
    caplog: pytest.LogCaptureFixture, gate: Gate
) -> None:
    executor, _ = one_thread(gate)
    calls = [executor.submit(int) for _ in range(2)]
    calls[0].set_result(1)
    calls[1].set_result(1)
    executor.kill(wait=False)
    gate.open()
    executor.kill()
    assert not caplog.records


def test_its_threads_end_when_nobody_holds_the_executor(gate: Gate) -> None:
    executor, future = one_thread(gate)
    rest = [executor.submit(int) for _ in range(3)]
    threads = executor._threads
    del executor
    gate.open()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert (future.result(), [call.result() for call in rest]) == (None, [0, 0, 0])


async def test_async_with_runs_what_is_queued_and_does_not_block_the_loop(gate: Gate) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await wait_all_tasks_blocked()
            gate.open()

        async with ThreadPoolExecutor(1) as executor:
            calls = [executor.submit(gate), *[executor.submit(int) for _ in range(3)]]
    assert [call.result() for call in calls] == [None, 0, 0, 0]
    assert not any(thread.is_alive() for thread in executor._threads)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


async def test_entering_and_leaving_are_checkpoints() -> None:
    executor = ThreadPoolExecutor(1)
    with assert_checkpoints():
        await executor.__aenter__()
    with assert_checkpoints():
        await executor.__aexit__(None, None, None)


async def test_leaving_with_an_error_drops_what_has_not_begun_and_waits_for_what_runs(
    gate: Gate,
) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await wait_all_tasks_blocked()
            gate.open()

        with pytest.raises(KeyError):
            async with ThreadPoolExecutor(1) as executor:
                calls = [executor.submit(gate), executor.submit(int)]
                gate.wait_for(1)
                raise KeyError
    assert [call.cancelled() for call in calls] == [False, True]
    assert not any(thread.is_alive() for thread in executor._threads)


@pytest.mark.parametrize("where", ["in the block", "at its end"])
async def test_cancelling_the_block_drops_what_has_not_begun_and_waits_for_what_runs(
    gate: Gate, where: str
) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await wait_all_tasks_blocked()
            scope.cancel()
            for _ in range(5):
                await wait_all_tasks_blocked()
                assert scope.cancel_called
            gate.open()

        with trio.CancelScope() as scope:
            async with ThreadPoolExecutor(1) as executor:
                calls = [executor.submit(gate), executor.submit(int)]
                gate.wait_for(1)
                if where == "in the block":
                    await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [call.cancelled() for call in calls] == [False, True]
    assert not any(thread.is_alive() for thread in executor._threads)


def test_ctrl_c_at_the_end_of_the_block_waits_for_what_runs_and_a_second_does_not(
    gate: Gate,
) -> None:
    @trio.lowlevel.enable_ki_protection  # so that it is the main task that hears of it
    async def interrupt() -> None:
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)
        await wait_all_tasks_blocked()
        assert calls[1].cancelled()
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            with pytest.raises(KeyboardInterrupt):
                async with executor:
                    calls.append(executor.submit(gate))
                    calls.append(executor.submit(int))
                    gate.wait_for(1)
            assert calls[0].running()

    calls: list[Future[Any]] = []
    executor = ThreadPoolExecutor(1)
    trio.run(main)
    gate.open()
    executor.shutdown()


def test_a_trio_run_inside_one_of_its_calls_may_end_it() -> None:
    async def main() -> str:
        async with executor:
            return await executor.submit(str, 5)

    executor = ThreadPoolExecutor(2)
    assert executor.submit(trio.run, main).result() == "5"
    executor.shutdown()


async def test_blocking_methods_do_not_deadlock_in_trios_thread(gate: Gate) -> None:
    executor = ThreadPoolExecutor(2)
    assert executor.submit(int).result() == 0
    assert list(executor.map(int, "123")) == [1, 2, 3]
    future = executor.submit(trio.run, trio.lowlevel.checkpoint)
    executor.shutdown(wait=True)
    assert await future is None


# What a thread does, in this one


def test_a_worker_runs_items_until_the_end_and_passes_it_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def callback(_: object) -> None:
        raise SystemExit

    threads = Threads(1, "triopool", None, ())
    good, bad, cancelled, rude = (Future[int]() for _ in range(4))
    good._call, bad._call, rude._call = (int, (), {}), (fail, (), {}), (int, (), {})
    cancelled.cancel()
    rude.add_done_callback(callback)
    rows = deque(Row(func, (1,)) for func in (abs, fail, abs))
    rows[2].cancel()
    for item in (good, bad, cancelled, rude, *rows):
        threads.queue.put(item)
    threads.retire()
    done = [0]
    threads._alive = 1
    over = threads.over()
    work(threads, threads.queue, done)
    assert over.done()
    assert good.result() == 0
    assert isinstance(bad.exception(), ValueError)
    assert rows[0].wait(None)
    assert rows[0].take() == 1
    assert rows[1].wait(0)
    with pytest.raises(ValueError, match="no"):
        rows[1].take()
    assert not rows[2].wait(0)
    assert done == [7]
    assert threads.queue.get_nowait() is None
    assert caplog.messages == ["Exception in worker"]


def test_what_is_dropped_lets_its_arguments_go(gate: Gate, no_gc: None) -> None:
    executor, _ = one_thread(gate)
    things = [Thing(), Thing()]
    refs = [weakref.ref(thing) for thing in things]
    call = executor.submit(id, things[0])
    rows = executor.map(id, things[1:])
    things.clear()
    executor.shutdown(wait=False, cancel_futures=True)
    assert [ref() for ref in refs] == [None, None]
    gate.open()
    executor.shutdown()
    assert call.cancelled()
    with pytest.raises(CancelledError):
        next(rows)


def test_a_callback_that_another_one_has_unlinked_is_not_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called = []

    def first(future: Future[int]) -> None:
        called.append("first")
        future._unlink(second)

    def second(_: Future[int]) -> None:
        called.append("second")

    def third(_: Future[int]) -> None:
        called.append("third")

    future = Future[int]()
    for callback in (first, second, third):
        future._link(callback)
    future.set_result(1)
    assert called == ["first", "third"]
    assert caplog.text == ""


def test_a_worker_whose_initializer_fails_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    threads = Threads(1, "triopool", fail, (1, 2))
    future, cancelled = Future[int](), Future[int]()
    future._call = int, (), {}
    cancelled.cancel()
    row = Row(int, ("1",))
    for item in (cancelled, future, row, None):
        threads.queue.put(item)
    work(threads, threads.queue, [0])
    assert isinstance(future.exception(), BrokenThreadPool)
    assert future._call is None
    with pytest.raises(BrokenThreadPool):
        row.take()
    assert threads.queue.get_nowait() is None
    assert caplog.messages == ["Exception in initializer:"]


def test_a_worker_that_forked_leaves_the_queue_alone_in_the_child() -> None:
    threads = Threads(1, "triopool", None, ())
    queue = threads.queue
    future = Future[None]()
    future._call = threads._begin, (), {}  # what happens in the child
    queue.put(future)
    queue.put(Future[None]())
    work(threads, queue, [0])
    assert queue.qsize() == 1


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> _executor_threads._Interpreter:
    """What the executors in a test share, and no others."""
    interpreter = _executor_threads._Interpreter()
    monkeypatch.setattr(_executor_threads, "_interpreter", interpreter)
    return interpreter


def test_the_exit_runs_what_is_queued_and_lets_nothing_in(
    interpreter: _executor_threads._Interpreter, gate: Gate
) -> None:
    executor, running = one_thread(gate)
    queued = executor.submit(gate.open)
    unused = ThreadPoolExecutor(1)
    ended = threading.Thread()
    interpreter.running[ended] = executor._pool  # it ends at this moment
    opener = threading.Timer(0, gate.open)
    opener.start()
    _executor_threads._exit()
    opener.join()
    assert running.done()
    assert queued.done()
    assert not any(thread.is_alive() for thread in executor._threads)
    for each in (executor, unused):
        with pytest.raises(RuntimeError, match="after interpreter shutdown"):
            each.submit(int)


def test_in_the_child_of_a_fork_every_executor_begins_anew(
    interpreter: _executor_threads._Interpreter,
) -> None:
    executor, unused = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    executor.submit(int).result()
    old, queue = set(executor._threads), executor._work_queue
    _executor_threads._after_fork_in_child()
    assert not executor._threads
    assert not interpreter.running
    for each in (executor, unused):
        assert each.submit(int).result() == 0
        each.shutdown()
    queue.put(None)
    for thread in old:
        thread.join()


def test_drop_hooks_leaves_a_thread_without_hooks() -> None:
    def call() -> tuple[Any, Any]:
        sys.setprofile(print_nothing)
        sys.settrace(print_nothing)
        drop_hooks()
        return sys.getprofile(), sys.gettrace()

    def print_nothing(*_: object) -> None:
        pass

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(call).result() == (None, None)


# Hooks


def traced() -> int:
    return 1


@pytest.mark.parametrize("born_before", [True, False])
@pytest.mark.parametrize("how", ["submit", "map"])
@pytest.mark.parametrize("kind", ["profile", "trace"])
def test_hooks_see_calls_that_start_while_they_are_set_and_nothing_else(
    kind: str, how: str, born_before: bool
) -> None:
    set_hook: Any = getattr(threading, f"set{kind}")
    get_hook: Any = getattr(threading, f"get{kind}")
    events: list[tuple[str, str, str]] = []

    def hook(frame: Any, event: str, arg: object) -> None:
        name = threading.current_thread().name
        if name.startswith("triopool"):
            events.append((name, event, frame.f_code.co_name))

    def call() -> None:
        if how == "map":
            assert list(executor.map(lambda _: traced(), [1])) == [1]
        else:
            assert executor.submit(traced).result() == 1

    with ThreadPoolExecutor(1) as executor:
        if born_before:
            call()
        before = get_hook()
        set_hook(hook)
        try:
            call()
        finally:
            set_hook(before)
        during = [name for _, event, name in events if event == "call"]
        assert during.count("traced") == 1
        if born_before:
            assert set(during) <= {"traced", "<lambda>"}
        count = len(events)
        call()
        assert len(events) == count
        if before is None:
            assert executor.submit(getattr(sys, f"get{kind}")).result() is None


def test_a_call_under_hooks_fails_as_any_other(executor: ThreadPoolExecutor) -> None:
    before = threading.getprofile()
    threading.setprofile(lambda *_: None)
    try:
        error = executor.submit(fail).exception()
        with pytest.raises(ValueError, match="no"):
            next(executor.map(fail, [1]))
    finally:
        threading.setprofile(before)  # type: ignore[arg-type]
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


def test_hooks_that_a_thread_had_are_put_back() -> None:
    def mine(*_: object) -> None:
        pass

    def call() -> Any:
        sys.setprofile(mine)
        try:
            inside = hooked(sys.getprofile)
            return inside, sys.getprofile()
        finally:
            sys.setprofile(None)

    def hook(*_: object) -> None:
        pass

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(call).result() == (mine, mine)
        before = threading.getprofile()
        threading.setprofile(hook)
        try:
            assert executor.submit(call).result() == (hook, mine)
        finally:
            threading.setprofile(before)  # type: ignore[arg-type]


# The interpreter's end, and forks


def test_what_was_submitted_runs_before_the_interpreter_exits(
    run_program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_program("""
import atexit, sys
from triopool import ThreadPoolExecutor

def late():
    for each in (executor, idle, unused):
        try:
            each.submit(int)
        except RuntimeError as error:
            print(error)

def call(n):
    if n == 0:
        try:
            while True:
                probe.submit(int).result()
        except RuntimeError:
            pass  # now it exits
    print(n, flush=True)
    if n == 2:
        try:
            executor.submit(int)
        except RuntimeError as error:
            print(error)

atexit.register(late)
executor, idle, unused = ThreadPoolExecutor(1), ThreadPoolExecutor(1), ThreadPoolExecutor(1)
probe = ThreadPoolExecutor(1)
idle.submit(int).result()
gone = ThreadPoolExecutor(1)
gone.submit(int)
del gone
for n in range(3):
    executor.submit(call, n)
""")
    message = "cannot schedule new futures after interpreter shutdown"
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0", "1", "2", *[message] * 4]
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork here")
def test_after_a_fork_both_sides_are_usable_and_nothing_runs_twice(
    run_program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_program("""
import os, sys, threading, warnings
from triopool import ThreadPoolExecutor
warnings.simplefilter("ignore", DeprecationWarning)  # of fork, where there are threads

def wait():
    begun.set()
    release.wait()
    return os.getpid()

begun, release = threading.Event(), threading.Event()
executor, unused = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
first = executor.submit(wait)
begun.wait()
queued = executor.submit(print, "queued", flush=True)
with executor._pool._lock:  # as another thread might hold it
    child = os.fork()
if not child:
    assert not executor._threads and executor._work_queue.empty()
    assert executor.submit(os.getpid).result() == os.getpid()
    assert list(executor.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
    assert unused.submit(int).result() == 0
    assert not first.done() and not queued.done()
    executor.shutdown()
    print("child", flush=True)
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7
release.set()
assert first.result() == os.getpid()
assert queued.result() is None
executor.shutdown()
print("parent")
""")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["child", "queued", "parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork here")
def test_a_call_that_forks_leaves_the_queue_to_the_parent(
    run_program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_program("""
import os, threading, warnings
from triopool import ThreadPoolExecutor
warnings.simplefilter("ignore", DeprecationWarning)

def fork():
    begin.wait()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return child

begin = threading.Event()
executor = ThreadPoolExecutor(1)
child = executor.submit(fork)
queued = executor.submit(print, "queued", flush=True)
begin.set()
assert child.result()
executor.shutdown()
""")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["queued"]


# Stress


def stress(seed: int) -> None:
    rng = random.Random(seed)
    executor = ThreadPoolExecutor(rng.randint(1, 5))
    ran: deque[int] = deque()
    lock = threading.Lock()
    futures: list[tuple[int, Future[int]]] = []
    numbers = itertools.count()

    def call(number: int) -> int:
        ran.append(number)
        if number % 7 == 0:
            raise KeyError(number)
        return number

    def submitter(rng: random.Random) -> None:
        for _ in range(300):
            with lock:
                number = next(numbers)
            try:
                future = executor.submit(call, number)
            except RuntimeError:
                return
            with lock:
                futures.append((number, future))
            if rng.random() < 0.3:
                future.cancel()

    def mapper(rng: random.Random) -> None:
        for _ in range(10):
            size = rng.choice([None, 1, 3])
            try:
                results = executor.map(str, range(40), buffersize=size)
                count = rng.randint(0, 40)
                assert list(itertools.islice(results, count)) == [str(n) for n in range(count)]
            except (RuntimeError, CancelledError):
                return

    def ender(rng: random.Random) -> None:
        while len(futures) < rng.choice([50, 400, 800]):
            if all(not thread.is_alive() for thread in threads[:-1]):
                break
            time.sleep(0)
        executor.shutdown(wait=rng.random() < 0.5, cancel_futures=rng.random() < 0.5)

    jobs = [submitter, submitter, submitter, mapper, mapper, ender]
    threads = [
        threading.Thread(target=job, args=(random.Random(rng.random()),), name=f"job {job}")
        for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    executor.shutdown()
    assert not any(thread.is_alive() for thread in executor._threads)
    begun = set()
    for number, future in futures:
        assert future.done()
        if future.cancelled():
            continue
        begun.add(number)
        if number % 7:
            assert future.result() == number
        else:
            assert isinstance(future.exception(), KeyError)
    assert sorted(ran) == sorted(begun)  # each once, and none that was cancelled


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    faulthandler.dump_traceback_later(110, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        sys.setswitchinterval(before)


@pytest.mark.parametrize("seed", range(5))
def test_under_stress_nothing_is_lost_doubled_or_left(seed: int, hasty_switches: None) -> None:
    stress(seed)


@pytest.mark.parametrize("seed", range(3))
def test_awaiting_under_stress_gives_every_result_once(seed: int, hasty_switches: None) -> None:
    rng = random.Random(seed)

    async def reader(number: int) -> None:
        future = executor.submit(abs, number)
        if rng.random() < 0.3:
            with trio.move_on_after(rng.choice([0, 0.001])):
                await future
        if rng.random() < 0.2 and future.cancel():
            with pytest.raises(CancelledError):
                await future
            return
        results.append(await future)
        assert await triopool.wait([future], count=1) == [future]

    async def main() -> None:
        async with executor:
            async with Pool(50) as pool:
                for number in range(500):
                    await pool.spawn(reader, number)
            assert len(results) == len(set(results))

    executor = ThreadPoolExecutor(3)
    results: list[int] = []
    trio.run(main)
    assert not any(thread.is_alive() for thread in executor._threads)
