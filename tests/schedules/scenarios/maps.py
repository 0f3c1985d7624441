"""Maps and iterators."""

import trio
from trio.lowlevel import checkpoint

import triopool
from schedules.scenarios import POOLS, member, on

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
    if reader.cancel_called and a.run.deeds == ["caller"]:
        a.hit = False  # nothing else was
    await a.read(results, None)
    a.want([x for actor, x in a.books.results if actor is a], xs)


@on(POOLS)
async def imap_with_two_readers(a):
    xs = a.new(4)
    results = a.pool.imap(a.work, a.rows(xs), maxsize=2)

    async def read():
        await a.read(results, None)

    await a.at_once(read, read)
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
    """Input that comes from the same pool, and ends where a call of that is killed."""
    a.books.kills = True
    xs = a.new(3)

    async def inner():
        async with a.pool.imap(a.work, xs) as results:
            async for result in results:
                a.saw(result)
                yield result[1] + 100

    a.count = 200
    await a.read(a.pool.imap(a.work, inner()), [x + 100 for x in xs])


@on(POOLS)
async def imap_that_outlives_its_member(a):
    """It goes on with the slot of the call that began it."""
    kept = []
    xs = a.new(4)

    async def begin():
        kept.append(a.pool.imap(a.slow, a.rows(xs)))
        kept.append(a.pool.imap_unordered(a.work, a.async_rows(ys), maxsize=1))
        await checkpoint()

    ys = a.new(3)
    await a.pool.apply(begin)
    first, second = kept
    kept.clear()
    await a.read(second, ys, ordered=False)
    await a.read(first, xs)
