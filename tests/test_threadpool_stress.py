"""ThreadPool under stress: random programs with fixed seeds, every call accounted for."""

import contextlib
import random
import re
import sys
import threading
import time
from collections import Counter, deque

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import PoolFull, TaskKilled, ThreadPool, current_task
from triopool._mailbox import Mailbox


class Oops(Exception):
    """The error of one call; its argument is the call's number."""


@pytest.fixture(autouse=True)
def hurried():
    """Threads take turns as often as Python lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def named_after(pools):
    marks = tuple(f"ThreadPool at {id(pool):#x}" for pool in pools)
    return [thread for thread in threading.enumerate() if thread.name.startswith(marks)]


def generator(rows):
    yield from rows


async def async_generator(rows):
    for row in rows:
        await trio.lowlevel.checkpoint()
        yield row


SOURCES = (list, iter, generator, async_generator)
KINDS = {"quick": 40, "slow": 15, "asks": 6, "fails": 4, "looks": 3, "in place": 3, "nested": 2}
DEEDS = {"single": 10, "mapping": 4, "background": 2, "iteration": 6, "sizing": 1, "looking": 2}
ENDS = ("get", "get", "join", "leave", "late", "kill", "killone", "discard")


class Program:
    """Some tasks that do at random with the same pools whatever can be done with them.

    Each call has a number. The books say how often it was made, how often somebody got its result,
    whether it raised, and how often somebody got its error, or read its name in a note.
    """

    def __init__(self, seed, *, abandons, shares, kills):
        self.random = random.Random(seed)
        self.abandons = abandons
        self.shares = shares
        self.deeds = {**DEEDS, "killing": 1} if kills else DEEDS
        self.pools = []
        self.lock = threading.Lock()
        self.count = 0
        self.made = Counter()
        self.results = Counter()
        self.raised = set()
        self.errors = Counter()
        self.waived = set()  # calls whose errors nobody need get

    # What the calls do

    def new(self, pool, kinds=KINDS):
        """The arguments of one more call."""
        with self.lock:
            self.count += 1
            (kind,) = self.random.choices(list(kinds), list(kinds.values()))
            return self.count, kind, pool

    def call(self, number, kind, pool):
        with self.lock:
            self.made[number] += 1
        if kind == "slow":
            time.sleep(number % 5 * 1e-4)
        elif kind == "asks":
            for _ in range(number % 5):
                trio.from_thread.check_cancelled()
                time.sleep(1e-4)
        elif kind == "fails":
            with self.lock:
                self.raised.add(number)
            raise Oops(number)
        elif kind == "looks":
            assert current_task().name.endswith(("call", "row"))
        elif kind == "in place":
            # The pool may be closed to new calls by the time that one which was left behind asks.
            with contextlib.suppress(TaskKilled, trio.ClosedResourceError):
                inner = self.new(pool, {"slow": 1})
                self.got(inner, trio.from_thread.run(pool.apply, self.call, inner))
        elif kind == "nested":
            with contextlib.suppress(TaskKilled, trio.ClosedResourceError):
                rows = [self.new(pool, {"quick": 1}) for _ in range(3)]
                for row, result in zip(
                    rows, trio.from_thread.run(pool.map, self.row, rows), strict=True
                ):
                    self.got(row, result)
        return number

    def row(self, args):
        return self.call(*args)

    # The books

    def got(self, args, result):
        """Somebody got what became of a call, as a value."""
        if isinstance(result, Oops):
            self.saw(result)
            result = result.args[0]
        elif not isinstance(result, TaskKilled):
            assert result == args[0]
            with self.lock:
                self.results[result] += 1

    def saw(self, error):
        """Somebody got an error."""
        errors = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else [error]
        for each in errors:
            assert isinstance(each, Oops), each
            notes = " ".join(getattr(each, "__notes__", ()))
            named = [int(number) for number in re.findall(r"Oops\((\d+)\)", notes)]
            with self.lock:
                self.errors.update([each.args[0], *named])

    def check(self):
        assert set(self.made.values()) == {1}
        assert set(self.results.values()) <= {1}
        assert set(self.errors.values()) <= {1}
        assert self.results.keys() <= self.made.keys() - self.raised
        assert self.errors.keys() <= self.raised
        if not self.abandons:  # what was left behind nobody hears of
            assert self.raised - self.waived <= self.errors.keys()

    # The tasks

    async def run(self, length):
        limiter = trio.CapacityLimiter(self.random.randint(1, 4))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2 if self.shares else 1):
                size = limiter if self.shares else self.random.randint(1, 4)
                pool = ThreadPool(size, abandon_on_cancel=self.abandons)
                self.pools.append(await stack.enter_async_context(self.reporting(pool)))
            async with trio.open_nursery() as nursery:
                for _ in range(self.random.randint(2, 5)):
                    nursery.start_soon(self.user, length)

    @contextlib.asynccontextmanager
    async def reporting(self, pool):
        """The block of a pool, in whose place the errors go into the books that leave it."""
        try:
            async with pool:
                yield pool
        except ExceptionGroup as group:
            self.saw(group)

    async def user(self, length):
        for _ in range(length):
            pool = self.random.choice(self.pools)
            (deed,) = self.random.choices(list(self.deeds), list(self.deeds.values()))
            patience = self.random.choice([1e-4, 5e-4, 2e-3, *[100] * 12])
            with trio.move_on_after(patience):
                try:
                    await getattr(self, deed)(pool)
                except Oops as error:
                    self.saw(error)
                except (PoolFull, TaskKilled, trio.TooSlowError):
                    pass

    async def single(self, pool):
        args = self.new(pool)
        way = self.random.choice(["spawn", "spawn_nowait", "apply_async", "apply"])
        if way == "apply":
            self.got(args, await pool.apply(self.call, args))
            return
        if way == "spawn":
            task = await pool.spawn(self.call, *args)
        elif way == "spawn_nowait":
            task = pool.spawn_nowait(self.call, *args)
        else:
            task = pool.apply_async(self.call, args)
        end = self.random.choice(ENDS)
        if end == "get":
            self.got(args, await task)
        elif end == "late":
            self.got(args, await task.get(timeout=1e-3))
        elif end == "join":
            assert await task.join()
        elif end == "kill":
            task.kill_nowait()
        elif end == "killone":
            assert await pool.killone(task)
            assert task.ready()
        elif end == "discard":
            pool.discard(task)

    def rows(self, pool):
        """Some rows, mostly good ones, and an iterable of them."""
        kinds = self.random.choice([KINDS, {"quick": 1}, {"quick": 9, "slow": 1}])
        rows = [self.new(pool, kinds) for _ in range(self.random.choice([0, 1, 2, 7, 40]))]
        return rows, self.random.choice(SOURCES)(rows)

    def returns_exceptions(self, rows):
        """Whether errors are to be values; those go with the results if nobody takes them."""
        chosen = self.random.random() < 0.3
        if chosen:
            self.waived.update(number for number, *_ in rows)
        return chosen

    async def mapping(self, pool):
        rows, source = self.rows(pool)
        chosen = self.returns_exceptions(rows)
        results = await pool.map(self.row, source, return_exceptions=chosen)
        for args, result in zip(rows, results, strict=True):
            self.got(args, result)

    async def background(self, pool):
        rows, source = self.rows(pool)
        task = pool.map_async(self.row, source)
        if self.random.random() < 0.3:
            await trio.lowlevel.checkpoint()
            task.kill_nowait()
        for args, result in zip(rows, await task, strict=True):
            self.got(args, result)

    async def iteration(self, pool):
        rows, source = self.rows(pool)
        chosen = self.returns_exceptions(rows)
        ordered = self.random.random() < 0.6
        way = pool.imap if ordered else pool.imap_unordered
        maxsize = self.random.choice([None, 1, 3])
        results = way(self.row, source, maxsize=maxsize, return_exceptions=chosen)
        known = {args[0]: args for args in rows}
        order = []
        stop = self.random.choice([len(rows) + 1, self.random.randint(1, 9)])
        try:
            while len(order) < stop:
                try:
                    result = await anext(results)
                except StopAsyncIteration:
                    break
                except Oops as error:
                    result = error
                if not isinstance(result, TaskKilled):
                    number = result.args[0] if isinstance(result, Oops) else result
                    self.got(known[number], result)
                    order.append(number)
        finally:
            if self.random.random() < 0.5:
                await results.aclose()
        if ordered:
            assert order == sorted(order)

    async def sizing(self, pool):
        pool.maxsize = self.random.randint(1, 4)
        pool.size = self.random.randint(0, pool.maxsize)

    async def looking(self, pool):
        for task in pool:
            assert repr(task)
            assert task.name
        assert len(pool) >= 0
        assert await pool.wait_available(timeout=1e-3) >= 0
        await pool.join(timeout=1e-3)

    async def killing(self, pool):
        if self.random.random() < 0.5:
            await pool.kill()
        else:
            pool.kill_nowait()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kills", [False, True], ids=["", "kills"])
@pytest.mark.parametrize("shares", [False, True], ids=["", "shared limiter"])
def test_every_call_is_made_once_and_every_outcome_told_once(seed, kills, shares, balanced):
    program = Program(seed, abandons=False, shares=shares, kills=kills)
    trio.run(program.run, 15)
    program.check()
    for pool in program.pools:
        balanced(pool)
        assert pool.size == 0
    assert named_after(program.pools) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shares", [False, True], ids=["", "shared limiter"])
def test_threads_that_are_left_behind_give_their_slots_back(seed, shares, balanced):
    program = Program(seed, abandons=True, shares=shares, kills=True)

    async def main():
        await program.run(15)
        # Whoever has every slot knows that no thread is left.
        for pool in program.pools:
            seats = [object() for _ in range(pool.maxsize)]
            for seat in seats:
                await pool.limiter.acquire_on_behalf_of(seat)
            for seat in seats:
                pool.limiter.release_on_behalf_of(seat)

    trio.run(main)
    program.check()
    for pool in program.pools:
        balanced(pool)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [1, 3])
async def test_maps_that_compete_for_the_slots_of_several_pools_all_end(source, size):
    limiter = trio.CapacityLimiter(size)
    results = []

    async def use(pool):
        results.append(await pool.map(abs, source(range(100))))

    async with (
        ThreadPool(limiter) as first,
        ThreadPool(limiter) as second,
        trio.open_nursery() as nursery,
    ):
        for pool in (first, second, first, second):
            nursery.start_soon(use, pool)
    assert results == [list(range(100))] * 4


async def test_calls_that_queue_beside_feeders_never_share_a_context():
    async with ThreadPool(2) as pool:
        for _ in range(30):
            tasks = [pool.apply_async(time.sleep, (5e-4,)) for _ in range(5)]
            results = pool.imap(abs, range(3))
            tasks += [pool.apply_async(time.sleep, (5e-4,)) for _ in range(5)]
            assert [result async for result in results] == [0, 1, 2]
            for task in tasks:
                await task


class Halt:
    """Where one thread halts when it first comes there."""

    def __init__(self, thread_name):
        self.thread_name = thread_name
        self.reached = threading.Event()
        self.resumed = threading.Event()

    def __call__(self):
        if threading.current_thread().name == self.thread_name and not self.reached.is_set():
            self.reached.set()
            self.resumed.wait()


class HaltingLock:
    def __init__(self, lock, halt):
        self.lock = lock
        self.halt = halt

    def __enter__(self):
        self.halt()
        return self.lock.__enter__()

    def __exit__(self, *exc_info):
        return self.lock.__exit__(*exc_info)


class HaltingDeque(deque):
    def append(self, item):
        self.halt()
        super().append(item)


@contextlib.asynccontextmanager
async def halting(pool, at):
    """The only thread of a pool halts before it claims the first call, or deposits its result."""
    pool.size = 1
    await pool.apply(int)
    crew = pool._threads
    while not crew.idle:
        await trio.lowlevel.checkpoint()
    (worker,) = crew.idle
    halt = Halt(worker.name)
    if at == "claims it":
        crew.lock = HaltingLock(crew.lock, halt)
    else:
        worker.hand.results = HaltingDeque()
        worker.hand.results.halt = halt
    try:
        yield halt
    finally:
        halt.resumed.set()
        if at == "claims it":
            crew.lock = crew.lock.lock


at_the_handover = pytest.mark.parametrize("at", ["claims it", "deposits it"])
both = pytest.mark.parametrize("abandons", [False, True], ids=["", "abandons"])


@at_the_handover
@both
@pytest.mark.parametrize("way", ["task", "pool"])
async def test_a_kill_while_a_thread_hands_over_a_call_hits_no_other(at, abandons, way, balanced):
    made = []
    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        async with halting(pool, at) as halt:
            task = pool.spawn_nowait(made.append, 1)
            await trio.to_thread.run_sync(halt.reached.wait)
            (task if way == "task" else pool).kill_nowait()
            await wait_all_tasks_blocked()  # so its host has gone if it was left behind
            halt.resumed.set()
            await task.join()
        assert await pool.apply(abs, [-1]) == 1
        assert await pool.map(abs, range(3)) == [0, 1, 2]
    assert made == ([] if at == "claims it" else [1])
    assert task.successful() == (made == [1] and not abandons)
    balanced(pool)


@pytest.mark.parametrize("source", SOURCES)
@at_the_handover
@both
async def test_a_kill_while_a_thread_hands_over_a_row_hits_no_other(at, abandons, source, balanced):
    made = []
    read = []

    def call(x):
        made.append(x)
        return x

    async with ThreadPool(1, abandon_on_cancel=abandons) as pool:
        async with halting(pool, at) as halt:
            results = pool.imap(call, source([1, 2, 3]))
            await trio.to_thread.run_sync(halt.reached.wait)
            pool.kill_nowait()
            await wait_all_tasks_blocked()  # so its host has gone if it was left behind
            halt.resumed.set()
            with pytest.raises(TaskKilled):
                while True:
                    read.append(await anext(results))
        assert await pool.apply(abs, [-1]) == 1
        assert await pool.map(abs, range(3)) == [0, 1, 2]
    assert made == ([] if at == "claims it" else [1])
    assert read == ([] if abandons else made)
    balanced(pool)


async def test_news_is_posted_and_taken_by_one_thread_at_a_time():
    class Watched(Mailbox):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "news":
                locked.append(self.lock.locked())

    class News(list):
        def append(self, item):
            super().append(item)
            locked.append(mailbox.lock.locked())

    locked = []
    mailbox = Watched(trio.lowlevel.current_trio_token(), int)
    mailbox.news = News()
    locked.clear()
    mailbox.post("news")
    assert mailbox.take() == ["news"]
    assert locked == [True, True]
