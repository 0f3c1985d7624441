"""What concerns a whole pool: joining, killing, sizing, leaving."""

from functools import partial

import trio
from trio.lowlevel import checkpoint

import triopool
from schedules.books import Killed, leaves
from schedules.scenarios import POOLS, on
from triopool import Group, Pool, Task, ThreadPool


@on(POOLS)
async def join(a):
    for x in a.new(2):
        a.own(a.pool.apply_async(a.slow, (x,)), x)
    await a.pool.join(timeout=0.5)
    await a.at_once(a.pool.join, a.pool.join)


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
    a.books.kills = True
    tasks = [a.own(a.pool.apply_async(a.long, (x,)), x) for x in a.new(2)]
    [y] = a.new(1)
    tasks.append(a.own(a.pool.apply_async(a.tidy, (y,)), y))
    results = a.pool.imap(a.slow, a.rows(a.new(3)))
    await trio.sleep(1.5)
    a.run.hit_actors()
    await a.pool.kill(timeout=0.5)
    over = await a.pool.kill(Killed("once"), reason="once more")
    if not a.run.done and not (over and all(task.status.name == "KILLED" for task in tasks)):
        a.books.complaints.append(f"after kill: {tasks}")
    await a.read(results, None)


@on(POOLS)
async def kill_without_waiting(a):
    a.books.kills = True
    tasks = [a.own(a.pool.apply_async(a.tidy, (x,)), x) for x in a.new(3)]
    await trio.sleep(1.5)
    a.run.hit_actors()
    a.pool.kill_nowait(Killed)
    await a.pool.kill(block=False)
    for task in tasks:
        try:
            await task
        except Killed:
            pass
    await a.pool.join()


@on(POOLS)
async def kill_in_a_member(a):
    a.books.kills = True

    async def call(x):
        a.own(a.pool.apply_async(a.long, (x,)), x)
        await trio.sleep(1.5)
        a.run.hit_actors()
        await a.pool.kill()

    await a.pool.apply(call, a.new(1))


@on(POOLS)
async def killone(a):
    a.books.kills = True
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
    a.books.kills = True
    results = a.pool.imap(a.slow, a.rows(a.new(3)))
    await trio.sleep(1.5)
    a.run.hit_actors()
    for task in a.pool:
        if not a.run.done and task not in a.pool:
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

    await a.at_once(one, one)
    if a.pool.full():
        a.want(a.pool.free_count(), 0)


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
    a.books.kills = True
    a.own(a.pool.apply_async(a.slow, (x := a.new(1)[0],)), x)

    async def call():
        a.run.hit_all()
        a.pool.cancel_scope.cancel()
        await checkpoint()

    await a.pool.apply(call)


@on(POOLS)
async def close(a):
    """A pool in a task of its own, which is closed."""
    a.books.kills = True
    a.books.nurseries = True
    async with trio.open_nursery() as nursery:
        pool = await nursery.start(Pool(1).run)
        a.books.watch(pool)
        xs = a.new(2)
        tasks = [a.own(pool.apply_async(a.work, (x,)), x) for x in xs]
        pool.close()
        a.saw_all([await task for task in tasks], xs)


@on(POOLS)
async def shared_limiter(a):
    a.books.slotless = True
    a.books.kills = True
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
    a.books.kills = True
    async with Pool(3, on_error="cancel") as pool:
        a.books.watch(pool)
        for x in a.new(2):
            a.own(await pool.spawn(a.long, x), x)
        a.hit = True
        pool.apply_async(a.fail, a.new(1))


@on(POOLS)
async def on_error(a):
    a.books.kills = True

    def hear(task):
        a.saw_error(task.exception)
        a.probe()

    async with Pool(2, on_error=hear) as pool:
        a.books.watch(pool)
        for x in a.new(4):
            a.own(await pool.spawn(a.some_fail, x), x)


@on(POOLS)
async def sys_exit_in_callbacks(a):
    """It leaves the block, beside the error of the call, and stops no other callback."""
    a.books.kills = a.books.nurseries = True
    left = []

    def leave(_):
        a.probe()
        left.append(SystemExit("a callback"))
        raise left[-1]

    def heard(task):
        a.saw_error(task.exception)
        leave(task)

    for on_error, links in (("collect", [leave, a.link]), (heard, [a.link])):
        try:
            async with Pool(2, on_error=on_error) as pool:
                a.books.watch(pool)
                x, y = a.new(2)
                a.own(await pool.spawn(a.tidy, x), x)
                task = a.own(pool.apply_async(a.fail, (y,)), y)
                for link in links:
                    task.link(link)
        except BaseException as error:
            a.want([end for end in leaves(error) if end in left], left)
            others = [end for end in leaves(error) if end not in left]
            for end in others:
                if a.knows(end):
                    a.saw_error(end)
            if others := [end for end in others if not a.knows(end)]:
                raise BaseExceptionGroup("what struck", others) from None
        left.clear()


@on(POOLS)
async def leave_with_an_error(a):
    a.books.slotless = True
    a.books.kills = True
    async with Group() as group:
        for x in a.new(2):
            a.own(group.apply_async(a.tidy, (x,)), x)
        group.imap(a.slow, a.rows(a.new(2))).__aiter__()
        await trio.sleep(1.5)
        a.hit = True
        raise a.books.error("the body", a)


@on(POOLS)
async def outsiders(a):
    """Those who use a pool from outside of its block, while that is left."""
    a.books.kills = a.books.nurseries = True
    heard = []

    async def hears(func, *args):
        try:
            await func(*args)
        except (triopool.TaskKilled, trio.ClosedResourceError) as error:
            heard.append(type(error).__name__)

    async with trio.open_nursery() as nursery, Group() as others, Pool(1) as pool:
        a.books.watch(pool, others)
        t, u, v, w, x, y, z = a.new(7)
        task = a.own(await pool.spawn(a.long, v), v)
        results = pool.imap(a.work, a.async_rows(a.new(2)))
        nursery.start_soon(hears, task.get)
        nursery.start_soon(hears, anext, results)
        nursery.start_soon(hears, pool.spawn, a.work, w)
        nursery.start_soon(hears, pool.start, a.own(Task(a.work, t), t))
        nursery.start_soon(hears, pool.add, a.own(others.spawn_nowait(a.slow, u), u))
        nursery.start_soon(hears, pool.apply, a.work, (x,))
        nursery.start_soon(hears, pool.map, a.work, a.rows([y]))
        nursery.start_soon(hears, pool.apply_async(a.work, (z,)).get)
        nursery.start_soon(hears, pool.wait_available)
        nursery.start_soon(hears, pool.join)
        await trio.sleep(0.5)
        pool.cancel_scope.cancel()
    a.want(sorted(heard), ["ClosedResourceError"] * 5 + ["TaskKilled"] * 4)


@on(POOLS)
async def a_reader_outside(a):
    """The block closes what somebody still reads."""
    a.books.kills = a.books.nurseries = True

    async def read(results):
        try:
            await a.read(results, None)
        except trio.ClosedResourceError:
            pass

    async with trio.open_nursery() as nursery, Pool(2) as pool:
        a.books.watch(pool)
        nursery.start_soon(read, pool.imap(a.slow, a.async_rows(a.new(3))))
        nursery.start_soon(read, pool.imap_unordered(a.slow, a.rows(a.new(3)), maxsize=1))
        a.own(await pool.spawn(a.slow, x := a.new(1)[0]), x)


@on(POOLS)
async def log(a):
    a.books.kills = a.books.logs = True
    async with Pool(1, on_error="log") as pool:
        a.books.watch(pool)
        for x in a.new(4):
            a.own(pool.apply_async(a.some_fail, (x,), callback=a.link), x)


@on(POOLS)
async def a_class_of_tasks(a):
    class Counted(Task):
        async def run(self):
            return await super().run()

    a.books.kills = True
    async with Pool(2, task_class=Counted) as pool:
        a.books.watch(pool)
        xs, ys = a.new(2), a.new(3)
        tasks = [a.own(await pool.spawn(a.work, x), x) for x in xs]
        await a.read(pool.imap(a.work, a.rows(ys)), ys)
        a.saw_all([await task for task in tasks], xs)


@on(POOLS)
async def deadlock(a):
    """Members that wait for a slot of their own pool, which some of them hear is in vain."""

    async def call(x):
        try:
            a.saw(await a.own(await a.pool.spawn(a.work, x), x))
        except triopool.PoolDeadlock:
            pass

    async def wait_for(x):
        try:
            await triopool.wait([a.own(a.pool.apply_async(a.work, (x,)), x)])
        except triopool.PoolDeadlock:
            pass

    calls = zip((call, wait_for, call, wait_for), a.new(4), strict=True)
    await a.at_once(*(partial(a.pool.apply, func, (x,)) for func, x in calls))
