"""The scenarios: every public method of the pools, in small plays that anything may strike."""

import trio
from schedules import Setting
from trio.lowlevel import checkpoint

import triopool
from triopool import GreenPile, GreenPool, Group, Pool, Task, ThreadPool

POOLS = (
    Setting("Pool-0", lambda: Pool(0)),
    Setting("Pool-1", lambda: Pool(1)),
    Setting("Pool-2", lambda: Pool(2)),
    Setting("Pool-None", Pool),
    Setting("Pool-1-fresh", lambda: Pool(1, reuse_tasks=False)),
    Setting("Group", Group),
    Setting("GreenPool-1", lambda: GreenPool(1)),
    Setting("GreenPool-2", lambda: GreenPool(2)),
)
GREEN_POOLS = (
    Setting("GreenPool-0", lambda: GreenPool(0)),
    Setting("GreenPool-1", lambda: GreenPool(1)),
    Setting("GreenPool-2", lambda: GreenPool(2)),
    Setting("GreenPool", GreenPool),
)
THREADS = (
    Setting("ThreadPool-1", lambda: ThreadPool(1), threads=True),
    Setting("ThreadPool-2", lambda: ThreadPool(2), threads=True),
    Setting("ThreadPool-None", ThreadPool, threads=True),
)

BY_NAME = {}  # {name: (scenario, settings)}


def on(settings):
    """Add a scenario to the list."""

    def add(scenario):
        BY_NAME[scenario.__name__] = scenario, settings
        return scenario

    return add


async def member(a, func, *args):
    """Do something in a call of the pool."""

    async def call():
        await func(*args)

    await a.pool.apply(call)


async def in_nursery(*funcs):
    """Do several things at once."""
    async with trio.open_nursery() as nursery:
        for func in funcs:
            nursery.start_soon(func)


async def later(func, *args):
    """Do something when all else waits."""
    await trio.sleep(1.5)
    return func(*args)


# Single calls


@on(POOLS)
async def spawn(a):
    xs = a.new(3)
    tasks = [a.own(await a.pool.spawn(a.work, x), x) for x in xs]
    a.saw_all([await task for task in tasks], xs)


@on(POOLS)
async def spawn_at_once(a):
    got = []

    async def one(x):
        task = a.own(await a.pool.spawn(a.some_fail, x), x)
        try:
            got.append(await task.get())
        except Exception as error:
            a.saw_error(error)

    xs = a.new(4)
    await in_nursery(*(lambda x=x: one(x) for x in xs))
    a.saw_all(got, xs[::2], ordered=got == sorted(got, key=lambda each: each[1]))


@on(POOLS)
async def spawn_and_forget(a):
    for x in a.new(4):
        a.own(await a.pool.spawn(a.some_fail, x), x)


@on(POOLS)
async def spawn_nowait(a):
    for x in a.new(3):
        try:
            task = a.own(a.pool.spawn_nowait(a.work, x), x)
        except triopool.PoolFull:
            await checkpoint()
        else:
            a.saw(await task)


@on(POOLS)
async def start(a):
    for x in a.new(2):
        task = a.own(Task(a.work, x), x)
        await a.pool.start(task)
        a.saw(await task)


@on(POOLS)
async def start_without_patience(a):
    blocker, x, y = a.new(3)
    first = a.own(await a.pool.spawn(a.slow, blocker), blocker)
    for number, patience in ((x, {"blocking": False}), (y, {"timeout": 0.5})):
        task = a.own(Task(a.work, number), number)
        try:
            await a.pool.start(task, **patience)
        except triopool.PoolFull:
            a.want(task.status.name, "UNSTARTED")
        else:
            a.saw(await task)
    a.saw(await first)


class OwnRun(Task):
    def __init__(self, actor, x):
        super().__init__()
        self.actor, self.x = actor, x

    async def run(self):
        return await self.actor.work(self.x)


@on(POOLS)
async def start_a_subclass(a):
    [x] = a.new(1)
    task = a.own(OwnRun(a, x), x)
    await a.pool.start(task)
    a.saw(await task)


@on(POOLS)
async def add_and_discard(a):
    async with Group() as other:
        a.books.limiters.append(other.limiter)
        x, y = a.new(2)
        task = a.own(await other.spawn(a.slow, x), x)
        await a.pool.add(task)
        a.pool.discard(task)
        try:
            await a.pool.add(task, timeout=1)
        except triopool.PoolFull:
            pass
        a.saw(await task)
        own = a.own(await a.pool.spawn(a.work, y), y)
        a.pool.discard(own)
        a.saw(await own)


@on(POOLS)
async def apply(a):
    for x in a.new(2):
        a.saw(await a.pool.apply(a.work, (x,)))


@on(POOLS)
async def apply_what_fails(a):
    x, y = a.new(2)
    a.saw(await a.pool.apply(a.work, (x,)))
    await a.pool.apply(a.fail, kwds={"x": y})


@on(POOLS)
async def apply_with_a_long_cleanup(a):
    [x] = a.new(1)
    with trio.move_on_after(3):
        await a.pool.apply(a.tidy, (x,))


@on(POOLS)
async def apply_what_does_not_stop(a):
    [x] = a.new(1)
    with trio.move_on_after(2):
        a.saw(await a.pool.apply(a.stubborn, (x,)))


@on(POOLS)
async def apply_in_a_member(a):
    async def inner():
        x, y = a.new(2)
        a.saw(await a.pool.apply(a.work, (x,)))
        await a.pool.apply(a.fail, (y,))

    await member(a, inner)


@on(POOLS)
async def apply_async(a):
    x, y, z = a.new(3)
    called = []

    def callback(result):
        called.append(result[1])
        a.probe()

    tasks = [
        a.own(a.pool.apply_async(a.work, (x,), callback=callback), x),
        a.own(a.pool.apply_async(a.work, (y,), callback=a.async_link), y),
        a.own(a.pool.apply_async(a.fail, (z,)), z),
    ]
    a.saw_all([await task for task in tasks[:2]], [x, y])
    a.want(called, [x])


@on(POOLS)
async def apply_cb(a):
    x, y = a.new(2)
    a.saw(await a.pool.apply_cb(a.work, (x,), callback=a.link))
    a.saw(await a.pool.apply_cb(a.quick, (y,), callback=a.async_link))


@on(POOLS)
async def links(a):
    x, y = a.new(2)
    heard = []

    def link(task):
        heard.append(task)
        a.probe()

    first = a.own(a.pool.apply_async(a.work, (x,)), x)
    second = a.own(a.pool.apply_async(a.fail, (y,)), y)
    for task in (first, second):
        task.link(link)
        task.link_value(link)
        task.link_exception(link)
        task.link(a.link)
        task.unlink(a.link)
    await first.join()
    await second.join()
    a.want([heard.count(first), heard.count(second)], [2, 2])


@on(POOLS)
async def waits_in_vain_for_some_time(a):
    x, y = a.new(2)
    task = a.own(a.pool.apply_async(a.slow, (x,)), x)
    try:
        a.saw(await task.get(timeout=0.5))
    except trio.TooSlowError:
        a.want(await task.join(timeout=0.5), False)
    with trio.move_on_after(0.5):
        await task
    a.saw(await task)
    failing = a.own(a.pool.apply_async(a.fail, (y,)), y)
    await failing.join()
    if failing.exception is not None:
        a.saw_error(failing.exception)


@on(POOLS)
async def several_wait(a):
    [x] = a.new(1)
    task = a.own(a.pool.apply_async(a.fail, (x,)), x)

    async def get():
        try:
            await task
        except Exception as error:
            a.saw_error(error)

    await in_nursery(get, get, task.join)


@on(POOLS)
async def wait(a):
    xs = a.new(3)
    tasks = [a.own(a.pool.apply_async(a.slow, (x,)), x) for x in xs]
    await triopool.wait(tasks, timeout=0.5)
    await triopool.wait(tasks, count=1)
    done = await triopool.wait(tasks)
    a.want(done, tasks)
    a.saw_all([await task for task in tasks], xs)


@on(POOLS)
async def as_completed(a):
    xs = a.new(3)
    tasks = {a.own(a.pool.apply_async(a.work, (x,)), x): x for x in xs}
    a.saw_all([await task async for task in triopool.as_completed(tasks)], xs, ordered=False)
    more = [a.own(a.pool.apply_async(a.slow, (x,)), x) for x in a.new(3)]
    async for task in triopool.as_completed(more, timeout=100):
        a.saw(await task)
        break


# Maps


@on(POOLS)
async def map(a):
    xs = a.new(4)
    a.saw_all(await a.pool.map(a.work, xs), xs)


@on(POOLS)
async def map_quick(a):
    xs = a.new(5)
    a.saw_all(await a.pool.map(a.quick, xs), xs)


@on(POOLS)
async def map_rows(a):
    xs = a.new(3)
    a.saw_all(await a.pool.map(a.work, a.rows(xs)), xs)


@on(POOLS)
async def map_async_rows(a):
    xs = a.new(3)
    a.saw_all(await a.pool.map(a.work, a.async_rows(xs)), xs)


@on(POOLS)
async def map_in_step(a):
    async def add(x, y):
        a.want(x, y)
        return await a.work(x)

    xs = a.new(2)
    a.saw_all(await a.pool.map(add, a.async_rows(xs), a.rows([*xs, 99])), xs)


@on(POOLS)
async def map_what_fails(a):
    await a.pool.map(a.some_fail, a.rows(a.new(5)))


@on(POOLS)
async def map_with_errors_as_values(a):
    xs = a.new(4)
    a.reads_errors = True
    got = await a.pool.map(a.some_fail, a.async_rows(xs), return_exceptions=True)
    a.want([isinstance(each, Exception) for each in got], [False, True, False, True])
    a.saw_values(got)


@on(POOLS)
async def map_with_a_long_cleanup(a):
    with trio.move_on_after(3):
        await a.pool.map(a.tidy, a.rows(a.new(3)))


@on(POOLS)
async def map_in_a_member(a):
    async def inner():
        xs, ys = a.new(2), a.new(3)
        a.saw_all(await a.pool.map(a.work, a.rows(xs)), xs)
        await a.read(a.pool.imap(a.work, a.async_rows(ys)), ys)

    await member(a, inner)


@on(POOLS)
async def map_cb(a):
    xs, ys = a.new(2), a.new(2)
    a.saw_all(await a.pool.map_cb(a.work, xs, a.link), xs)
    a.saw_all(await a.pool.map_cb(a.work, a.rows(ys), a.async_link), ys)


@on(POOLS)
async def map_async(a):
    xs = a.new(3)
    task = a.pool.map_async(a.work, a.rows(xs), callback=a.async_link)
    a.saw_all(await task, xs)


@on(POOLS)
async def map_async_that_is_killed(a):
    task = a.pool.map_async(a.slow, a.async_rows(a.new(3)))
    failing = a.pool.map_async(a.some_fail, a.rows(a.new(3)))
    await trio.sleep(1.5)
    await task.kill()
    try:
        await task
    except triopool.TaskKilled:
        pass
    await failing.join()


# Iterators


@on(POOLS)
async def imap(a):
    xs = a.new(4)
    await a.read(a.pool.imap(a.work, xs), xs)


@on(POOLS)
async def imap_bounded(a):
    xs = a.new(4)
    await a.read(a.pool.imap(a.work, a.rows(xs), maxsize=1), xs)


@on(POOLS)
async def imap_async_rows(a):
    xs = a.new(3)
    await a.read(a.pool.imap(a.work, a.async_rows(xs), maxsize=2), xs)


@on(POOLS)
async def imap_with_errors(a):
    xs = a.new(4)
    await a.read(a.pool.imap(a.some_fail, a.rows(xs)), xs[::2])


@on(POOLS)
async def imap_with_errors_as_values(a):
    xs = a.new(4)
    a.reads_errors = True
    results = a.pool.imap_unordered(a.some_fail, xs, return_exceptions=True)
    await a.read(results, xs[::2], ordered=False)


@on(POOLS)
async def imap_unordered(a):
    xs = a.new(4)
    await a.read(a.pool.imap_unordered(a.slow, a.rows(xs), maxsize=2), xs, ordered=False)


@on(POOLS)
async def starmap(a):
    async def add(x, y):
        a.want(x, y)
        return await a.work(x)

    xs = a.new(3)
    await a.read(a.pool.starmap(add, a.async_rows(zip(xs, xs, strict=True))), xs)


@on(POOLS)
async def imap_read_on_after_cancellation(a):
    """A cancelled `anext` loses no result."""
    xs = a.new(4)
    results = a.pool.imap(a.slow, a.rows(xs), maxsize=2)
    with trio.move_on_after(3) as reader:
        a.scope = reader  # what strikes the caller strikes this from now on
        await a.read(results, None)
    if reader.cancel_called and a.run.deed == "caller":
        a.hit = False  # nothing else was
    await a.read(results, None)
    a.want([x for actor, x in a.books.results if actor is a], xs)


@on(POOLS)
async def imap_with_two_readers(a):
    xs = a.new(4)
    results = a.pool.imap(a.work, a.rows(xs), maxsize=2)

    async def read():
        await a.read(results, None)

    await in_nursery(read, read)
    a.want(sorted(x for actor, x in a.books.results if actor is a), xs)


@on(POOLS)
async def imap_left_early(a):
    async with a.pool.imap(a.tidy, a.async_rows(a.new(3))) as results:
        with trio.move_on_after(3):
            await anext(results)
    async with a.pool.imap_unordered(a.some_fail, a.rows(a.new(4)), maxsize=2) as results:
        await a.read(results, None, limit=1)


@on(POOLS)
async def imap_closed(a):
    results = a.pool.imap(a.slow, a.rows(a.new(4)))
    await a.read(results, None, limit=1)
    await results.aclose()
    try:
        await anext(results)
    except (trio.ClosedResourceError, StopAsyncIteration):
        pass


@on(POOLS)
async def imap_dropped(a):
    results = a.pool.imap(a.some_fail, a.rows(a.new(4)), maxsize=2)
    await a.read(results, None, limit=1)
    del results
    await checkpoint()


@on(POOLS)
async def imap_left_open(a):
    """The block closes what is open at its end."""
    results = a.pool.imap(a.some_fail, a.async_rows(a.new(4)), maxsize=2)
    a.books.kept.append(results)
    await a.read(results, None, limit=1)
    a.books.kept.append(unread := a.pool.imap_unordered(a.slow, a.rows(a.new(3)), maxsize=1))
    await a.read(unread, None, limit=1)


@on(POOLS)
async def imap_over_a_generator_that_imaps(a):
    """Input that comes from the same pool."""
    xs = a.new(3)

    async def inner():
        async with a.pool.imap(a.work, xs) as results:
            async for result in results:
                a.saw(result)
                yield result[1] + 100

    a.count = 200
    await a.read(a.pool.imap(a.work, inner()), [x + 100 for x in xs])


# The pool


@on(POOLS)
async def join(a):
    for x in a.new(2):
        a.own(a.pool.apply_async(a.slow, (x,)), x)
    await a.pool.join(timeout=0.5)
    await in_nursery(a.pool.join, a.pool.join)


@on(POOLS)
async def join_and_raise(a):
    for x in a.new(4):
        a.own(a.pool.apply_async(a.some_fail, (x,)), x)
    try:
        await a.pool.join(raise_error=True)
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            a.saw_error(error)


@on(POOLS)
async def kill(a):
    tasks = [a.own(a.pool.apply_async(a.long, (x,)), x) for x in a.new(2)]
    [y] = a.new(1)
    tasks.append(a.own(a.pool.apply_async(a.tidy, (y,)), y))
    results = a.pool.imap(a.slow, a.rows(a.new(3)))
    await trio.sleep(1.5)
    a.run.hit_actors()
    await a.pool.kill(timeout=0.5)
    over = await a.pool.kill(ZeroDivisionError("killed"), reason="once more")
    if not a.run.struck and not (over and all(task.status.name == "KILLED" for task in tasks)):
        a.books.complaints.append(f"after kill: {tasks}")
    await a.read(results, None)


@on(POOLS)
async def kill_without_waiting(a):
    tasks = [a.own(a.pool.apply_async(a.tidy, (x,)), x) for x in a.new(3)]
    await trio.sleep(1.5)
    a.run.hit_actors()
    a.pool.kill_nowait(KeyError)
    await a.pool.kill(block=False)
    for task in tasks:
        try:
            await task
        except KeyError:
            pass
    await a.pool.join()


@on(POOLS)
async def kill_in_a_member(a):
    async def call(x):
        a.own(a.pool.apply_async(a.long, (x,)), x)
        await trio.sleep(1.5)
        a.run.hit_actors()
        await a.pool.kill()

    await a.pool.apply(call, a.new(1))


@on(POOLS)
async def killone(a):
    x, y, z = a.new(3)
    tasks = [a.own(a.pool.apply_async(a.tidy, (each,)), each) for each in (x, y)]
    bystander = a.own(a.pool.apply_async(a.work, (z,)), z)
    await trio.sleep(1.5)
    if not tasks[1].ready():
        await a.pool.killone(tasks[1], timeout=0.5)
    await tasks[0].kill()
    await tasks[1].kill(block=False)
    tasks[1].kill_nowait()
    a.saw(await bystander)


@on(POOLS)
async def killone_of_a_map(a):
    results = a.pool.imap(a.slow, a.rows(a.new(3)))
    await trio.sleep(1.5)
    a.run.hit_actors()
    for task in a.pool:
        if not a.run.struck and task not in a.pool:
            a.books.complaints.append(f"{task} is not in its pool")
        task.kill_nowait()
        break
    await a.read(results, None)


@on(POOLS)
async def wait_available(a):
    a.own(a.pool.apply_async(a.slow, (x := a.new(1)[0],)), x)
    await a.pool.wait_available(timeout=0.5)

    async def one():
        if not await a.pool.wait_available():
            a.books.complaints.append("none is available")

    await in_nursery(one, one)
    a.pool.full(), a.pool.free_count(), len(a.pool), bool(a.pool)  # noqa: B018


@on(POOLS)
async def resize(a):
    if a.pool.size is None and not isinstance(a.pool, Pool):
        return
    size = a.pool.size
    xs = a.new(3)
    tasks = [a.own(a.pool.apply_async(a.slow, (x,)), x) for x in xs]
    results = a.pool.imap(a.slow, a.rows(ys := a.new(3)))
    try:
        for new in (3, 1, 0):
            a.pool.size = new
            await trio.sleep(1.5)
    finally:
        a.pool.size = size or 1
    a.saw_all([await task for task in tasks], xs)
    await a.read(results, ys)
    a.pool.size = size or 1


@on(POOLS)
async def a_call_cancels_the_pool(a):
    a.own(a.pool.apply_async(a.slow, (x := a.new(1)[0],)), x)

    async def call():
        a.run.hit_all()
        a.pool.cancel_scope.cancel()
        await checkpoint()

    await a.pool.apply(call)


@on(POOLS)
async def close(a):
    """A pool in a task of its own, which is closed."""
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool(1).run)
        a.books.limiters.append(pool.limiter)
        xs = a.new(2)
        tasks = [a.own(pool.apply_async(a.work, (x,)), x) for x in xs]
        pool.close()
        a.saw_all([await task for task in tasks], xs)


@on(POOLS)
async def shared_limiter(a):
    if isinstance(a.pool, ThreadPool):
        return
    async with Pool(a.pool.limiter) as other:
        xs, ys = a.new(3), a.new(3)
        tasks = [a.own(other.apply_async(a.work, (x,)), x) for x in xs]
        await a.read(a.pool.imap(a.work, a.rows(ys)), ys)
        a.saw_all([await task for task in tasks], xs)
        await other.map(a.work, a.new(2))


@on(POOLS)
async def fail_fast(a):
    """A pool that fails as a nursery does."""
    async with Pool(3, on_error="cancel") as pool:
        a.books.limiters.append(pool.limiter)
        for x in a.new(2):
            a.own(await pool.spawn(a.long, x), x)
        a.hit = True
        pool.apply_async(a.fail, a.new(1))


@on(POOLS)
async def on_error(a):
    def hear(task):
        a.saw_error(task.exception)
        a.probe()

    async with Pool(2, on_error=hear) as pool:
        a.books.limiters.append(pool.limiter)
        for x in a.new(4):
            a.own(await pool.spawn(a.some_fail, x), x)


@on(POOLS)
async def leave_with_an_error(a):
    async with Group() as group:
        for x in a.new(2):
            a.own(group.apply_async(a.tidy, (x,)), x)
        group.imap(a.slow, a.rows(a.new(2))).__aiter__()
        await trio.sleep(1.5)
        a.hit = True
        raise a.books.error("the body", a)


# eventlet's


@on(GREEN_POOLS)
async def green_spawn(a):
    xs = a.new(3)
    threads = [a.own(await a.pool.spawn(a.some_fail, x), x) for x in xs]
    threads[0].link(lambda _, number: a.probe(), 3)
    a.saw(await threads[0].wait())
    a.saw(await threads[2].wait())
    await a.pool.spawn_n(a.work, a.new(1)[0])
    a.pool.running(), a.pool.free(), a.pool.waiting()  # noqa: B018
    await a.pool.waitall()


@on(GREEN_POOLS)
async def green_spawn_in_a_member(a):
    async def inner():
        for x in a.new(2):
            a.own(await a.pool.spawn(a.some_fail, x), x)
            await a.pool.spawn_n(a.work, a.new(1)[0])

    await member(a, inner)


@on(GREEN_POOLS)
async def green_cancel(a):
    x, y = a.new(2)
    running = a.own(await a.pool.spawn(a.long, x), x)
    waiting = a.own(a.pool.apply_async(a.work, (y,)), y)
    waiting.cancel()
    await trio.sleep(0.5)
    running.cancel()
    await running.kill()


@on(GREEN_POOLS)
async def green_starmap(a):
    xs = a.new(3)
    got = [row async for row in a.pool.starmap(None, a.rows(zip(xs, xs, strict=True)))]
    a.want(got, [(x, x) for x in xs])


@on(GREEN_POOLS)
async def pile(a):
    pile = GreenPile(a.pool)
    xs = a.new(4)
    for x in xs:
        a.own(await pile.spawn(a.some_fail, x), x)
    await a.read(pile, xs[::2])


@on(GREEN_POOLS)
async def pile_unordered(a):
    a.reads_errors = True
    async with GreenPile(a.pool, ordered=False, return_exceptions=True) as pile:
        xs = a.new(4)
        for x in xs:
            a.own(await pile.spawn(a.some_fail, x), x)
        await a.read(pile, xs[::2], ordered=False)


@on(GREEN_POOLS)
async def pile_read_elsewhere(a):
    pile = GreenPile(a.pool)
    xs = a.new(3)

    async def spawn():
        try:
            for x in xs:
                a.own(await pile.spawn(a.work, x), x)
        finally:
            pile.close()

    async def read():
        await a.read(pile, xs)

    await in_nursery(spawn, read)


@on(GREEN_POOLS)
async def pile_left_early(a):
    async with GreenPile(2) as pile:
        a.books.limiters.append(pile.pool.limiter)
        for x in a.new(2):
            a.own(await pile.spawn(a.slow, x), x)
        a.own(await pile.spawn(a.tidy, x := a.new(1)[0]), x)
        await a.read(pile, None, limit=1)


# One job


@on(POOLS[3:4])
async def one_map(a):
    xs, ys = a.new(3), a.new(4)
    a.saw_all(await triopool.map(a.work, a.rows(xs), size=1), xs)
    await triopool.map(a.some_fail, a.async_rows(ys))


@on(POOLS[3:4])
async def one_imap(a):
    xs = a.new(3)
    async with triopool.imap(a.work, a.rows(xs), size=2, maxsize=1) as results:
        await a.read(results, xs)
    async with triopool.imap(a.tidy, a.new(2)) as results:
        with trio.move_on_after(1.5):
            await anext(results)


@on(POOLS[3:4])
async def one_imap_unordered(a):
    xs = a.new(4)
    async with triopool.imap_unordered(a.some_fail, a.async_rows(xs), size=2) as results:
        await a.read(results, xs[::2], ordered=False)
    async with triopool.imap_unordered(a.some_fail, a.async_rows(a.new(4)), size=1) as results:
        await a.read(results, None, limit=1)


# Threads


@on(THREADS)
async def threads_spawn(a):
    xs = a.new(3)
    tasks = [a.own(await a.pool.spawn(a.sync_work, x), x) for x in xs]
    a.saw_all([await task for task in tasks], xs)
    for x in a.new(2):
        a.own(await a.pool.spawn(a.sync_some_fail, x), x)


@on(THREADS)
async def threads_apply(a):
    for x in a.new(2):
        a.saw(await a.pool.apply(a.sync_work, (x,)))
    await a.pool.apply(a.sync_fail, a.new(1))


@on(THREADS)
async def threads_apply_async(a):
    x, y = a.new(2)
    task = a.own(a.pool.apply_async(a.sync_work, (x,), callback=a.async_link), x)
    a.own(a.pool.apply_async(a.sync_fail, (y,)), y)
    a.saw(await task)


@on(THREADS)
async def threads_map(a):
    xs, ys = a.new(9), a.new(3)
    a.saw_all(await a.pool.map(a.sync_work, xs), xs)
    a.saw_all(await a.pool.map(a.sync_work, a.async_rows(ys)), ys)
    await a.pool.map(a.sync_some_fail, a.rows(a.new(4)))


@on(THREADS)
async def threads_imap(a):
    xs, ys, zs = a.new(4), a.new(4), a.new(3)
    await a.read(a.pool.imap(a.sync_some_fail, a.rows(xs)), xs[::2])
    await a.read(a.pool.imap_unordered(a.sync_work, a.async_rows(ys), maxsize=1), ys, ordered=False)
    async with a.pool.imap(a.sync_work, zs) as results:
        await a.read(results, None, limit=1)


@on(THREADS)
async def threads_kill(a):
    tasks = [a.own(a.pool.apply_async(a.sync_work, (x,)), x) for x in a.new(4)]
    await tasks[3].kill()
    a.run.hit_actors()
    await a.pool.kill()


@on(THREADS)
async def threads_size(a):
    xs = a.new(6)
    results = a.pool.imap(a.sync_work, a.rows(xs))
    a.pool.size = 1
    await a.read(results, xs)
    a.pool.size = 0
    await a.pool.join()


@on(THREADS)
async def threads_that_call_back(a):
    def call(x):
        a.begin(x)
        try:
            trio.from_thread.run(trio.lowlevel.checkpoint)
            trio.from_thread.check_cancelled()
        except trio.Cancelled:
            a.end(x, "cancelled")
            raise
        a.end(x, "returned")
        return a, x

    [x] = a.new(1)
    a.saw(await a.pool.apply(call, (x,)))
