"""Single calls, and whoever waits for them."""

import trio
from trio.lowlevel import checkpoint

import triopool
from schedules.scenarios import POOLS, member, on
from triopool import Group, Task


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
    await a.at_once(*(lambda x=x: one(x) for x in xs))
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
    a.books.slotless = True
    a.books.kills = True
    async with Group() as other:
        a.books.watch(other)
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
        before = a.pool.limiter.statistics()
        if own in a.pool:  # nothing has killed it
            a.pool.discard(own)
            a.want(own in a.pool, False)
            if not before.tasks_waiting:  # else somebody has the slot now
                a.want(a.pool.limiter.borrowed_tokens, before.borrowed_tokens - 1)
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

    await a.at_once(get, get, task.join)


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
    async for task in triopool.as_completed(more, timeout=1_000):
        a.saw(await task)
        break


@on(POOLS)
async def looks(a):
    """What can be asked at any time."""
    [x] = a.new(1)
    task = a.own(a.pool.apply_async(a.work, (x,)), x)
    while not task.ready():
        if task.args:
            a.want((task.func, task.args, task.kwargs), (a.work, (x,), {}))
        a.want(task.status.name in {"WAITING", "RUNNING"}, True)
        a.want(task.started, task in a.pool)
        a.want((task.value, task.exception, task.successful()), (None, None, False))
        a.want(task.name.endswith("Actor.work"), True)
        await trio.sleep(0.3)
    if task.successful():
        a.saw(task.value)
