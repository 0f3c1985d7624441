"""The pools of eventlet, jobs without a pool, and threads."""

import trio

import triopool
from schedules.scenarios import GREEN_POOLS, POOLS, THREADS, member, on
from triopool import GreenPile, Task, ThreadPool

# eventlet's


@on(GREEN_POOLS)
async def green_spawn(a):
    xs = a.new(3)
    threads = [a.own(await a.pool.spawn(a.some_fail, x), x) for x in xs]
    threads[0].link(lambda _, number: a.probe(), 3)
    threads[0].link(a.link, 4)
    threads[0].unlink(a.link, 4)
    a.saw(await threads[0].wait())
    a.saw(await threads[2].wait())
    if not a.pool.waiting():
        a.want(a.pool.running() >= a.pool.limiter.borrowed_tokens, True)
    await a.pool.spawn_n(a.work, a.new(1)[0])
    await a.pool.waitall()
    a.want(a.pool.running(), 0)
    free = a.pool.free()
    a.pool.resize(free + 1)
    a.want(a.pool.free(), free + 1)
    a.pool.resize(free)


@on(GREEN_POOLS)
async def green_spawn_in_a_member(a):
    async def inner():
        for x in a.new(2):
            a.own(await a.pool.spawn(a.some_fail, x), x)
            await a.pool.spawn_n(a.work, a.new(1)[0])

    await member(a, inner)


@on(GREEN_POOLS)
async def green_cancel(a):
    a.books.kills = True
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
    a.want(len(pile), 4)
    await a.read(pile, xs[::2])
    a.want(len(pile), 0)


@on(GREEN_POOLS)
async def pile_unordered(a):
    a.books.kills = True
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

    await a.at_once(spawn, read)


@on(GREEN_POOLS)
async def pile_left_early(a):
    a.books.kills = True
    async with GreenPile(2) as pile:
        a.books.watch(pile.pool)
        for x in a.new(2):
            a.own(await pile.spawn(a.slow, x), x)
        a.own(await pile.spawn(a.tidy, x := a.new(1)[0]), x)
        await a.read(pile, None, limit=1)


@on(GREEN_POOLS)
async def pile_left_while_somebody_spawns(a):
    a.books.kills = True

    tasks = []

    async def spawn(pile):
        try:
            for x in a.new(3):
                task = a.own(await pile.spawn(a.slow, x), x)
                tasks.append(task)
        except trio.ClosedResourceError:
            pass

    async def leave():
        async with GreenPile(a.pool) as pile:
            nursery.start_soon(spawn, pile)
            await trio.sleep(1.5)

    a.books.nurseries = True
    async with trio.open_nursery() as nursery:
        await leave()
    await a.pool.join()
    a.want({task.status.name for task in tasks}, {"KILLED"})


# One job


@on(POOLS[3:4])
async def one_map(a):
    a.books.slotless = True
    xs, ys = a.new(3), a.new(4)
    a.saw_all(await triopool.map(a.work, a.rows(xs), size=1), xs)
    await triopool.map(a.some_fail, a.async_rows(ys))


@on(POOLS[3:4])
async def one_imap(a):
    a.books.slotless = True
    xs = a.new(3)
    async with triopool.imap(a.work, a.rows(xs), size=2, maxsize=1) as results:
        await a.read(results, xs)
    async with triopool.imap(a.tidy, a.new(2)) as results:
        with trio.move_on_after(1.5):
            await anext(results)


@on(POOLS[3:4])
async def one_imap_unordered(a):
    a.books.slotless = True
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
async def threads_one_by_one(a):
    a.books.kills = True
    x, y, z = a.new(3)
    try:
        task = a.own(a.pool.spawn_nowait(a.sync_work, x), x)
    except triopool.PoolFull:
        await a.pool.wait_available()
        a.want(a.pool.full(), False)
    else:
        a.saw(await task)
    task = a.own(Task(a.sync_work, y), y)
    await a.pool.start(task)
    task.link(a.link)
    a.saw(await task)
    a.saw(await a.pool.apply_cb(a.sync_work, (z,), callback=a.async_link))
    async with ThreadPool(1) as other:
        a.books.watch(other)
        [x] = a.new(1)
        task = a.own(await other.spawn(a.sync_work, x), x)
        if not task.ready():
            await a.pool.add(task)
        a.saw(await task)


@on(THREADS)
async def threads_maps_of_all_kinds(a):
    xs, ys, zs = a.new(3), a.new(2), a.new(2)
    a.saw_all(await a.pool.map_cb(a.sync_work, xs, a.async_link), xs)
    a.saw_all(await a.pool.map_async(a.sync_work, a.rows(ys)), ys)
    await a.read(a.pool.starmap(a.sync_work, [(z,) for z in zs]), zs)
    a.reads_errors = True
    xs = a.new(4)
    a.saw_values(await a.pool.map(a.sync_some_fail, a.async_rows(xs), return_exceptions=True))


@on(THREADS)
async def threads_join(a):
    for x in a.new(4):
        a.own(a.pool.apply_async(a.sync_some_fail, (x,)), x)
    try:
        await a.pool.join(raise_error=True)
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            a.saw_error(error)


@on(THREADS)
async def threads_kill(a):
    a.books.kills = True
    tasks = [a.own(a.pool.apply_async(a.sync_work, (x,)), x) for x in a.new(4)]
    await tasks[3].kill()
    a.run.hit_actors()
    await a.pool.kill()


@on(THREADS)
async def threads_size(a):
    xs = a.new(6)
    results = a.pool.imap(a.sync_work, a.rows(xs))
    if a.pool.maxsize != 0:
        a.pool.size = 1
        a.want(a.pool.size, 1)
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


@on(THREADS)
async def threads_that_use_their_pool(a):
    """On the slot that they have."""
    a.books.slotless = True

    def call(x, y):
        a.saw(trio.from_thread.run(a.pool.apply, a.sync_work, (x,)))
        a.saw_all(trio.from_thread.run(a.pool.map, a.sync_work, [y]), [y])

    await a.pool.apply(call, a.new(2))
