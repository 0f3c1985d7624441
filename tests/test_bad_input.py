"""What bad input gets: a fitting error that says what to write instead, and a pool that goes on."""

import functools
import gc
import math
import pickle

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import triopool
from triopool import (
    GreenPile,
    GreenPool,
    GreenThread,
    Group,
    Pool,
    PoolDeadlock,
    PoolFull,
    Task,
    TaskKilled,
    TaskStatus,
    ThreadPool,
    as_completed,
    wait,
)

KINDS = pytest.mark.parametrize("kind", [Group, Pool, GreenPool])
LIMITED = pytest.mark.parametrize("kind", [Pool, GreenPool])


async def double(x=1):
    await trio.lowlevel.checkpoint()
    return 2 * x


def sync_double(x=1):
    return 2 * x


async def agen(x=1):
    yield x


class Callable:
    def __call__(self, x=1):
        return x


async def read(results):
    return [x async for x in results]


async def one_call(method, pool, func):
    """Have ``func`` called once, in one of the ways there are, and hand back what comes of it."""
    match method:
        case "spawn" | "pile.spawn":
            task = await (GreenPile(pool) if method == "pile.spawn" else pool).spawn(func, 1)
            return await task
        case "spawn_n":
            return await pool.spawn_n(func, 1)
        case "spawn_nowait":
            return await pool.spawn_nowait(func, 1)
        case "start":
            task = Task(func, 1)
            try:
                await pool.start(task)
            finally:
                assert task.status in {TaskStatus.UNSTARTED, TaskStatus.RUNNING}
            return await task
        case "apply" | "apply_cb":
            return await getattr(pool, method)(func, (1,))
        case "apply_async":
            return await pool.apply_async(func, (1,))
        case "map" | "map_cb":
            return await getattr(pool, method)(func, [1])
        case "map_async":
            return await pool.map_async(func, [1])
        case "imap" | "imap_unordered":
            return await read(getattr(pool, method)(func, [1]))
        case "starmap":
            return await read(pool.starmap(func, [(1,)]))
        case _:
            raise AssertionError(method)


CALLS = ["spawn", "spawn_nowait", "start", "apply", "apply_cb", "apply_async", "pile.spawn"]
MAPS = ["map", "map_cb", "map_async", "imap", "imap_unordered", "starmap"]
ITERATORS = ["imap", "imap_unordered", "starmap"]


async def check_usable(pool, balanced):
    """Nothing leaked, no warning is due, and all of the slots can be used."""
    gc.collect(1)
    balanced(pool)
    assert await pool.map(double, [1, 2, 3]) == [2, 4, 6]
    assert await pool.apply(double, (4,)) == 8
    await pool.join(raise_error=True)
    balanced(pool)


def ways(kind):
    return CALLS + MAPS + (["spawn_n"] if kind is GreenPool else [])


EVERY_WAY = pytest.mark.parametrize(
    ("kind", "method"), [(kind, way) for kind in (Group, Pool, GreenPool) for way in ways(kind)]
)


# What is no async function


@EVERY_WAY
@pytest.mark.parametrize(
    "func",
    [sync_double, lambda x: x, functools.partial(sync_double), Callable(), int, abs],
    ids=["function", "lambda", "partial", "object", "class", "builtin"],
)
async def test_a_sync_function_is_a_typeerror_that_names_threadpool(kind, method, func, balanced):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"is not an async function: .* ThreadPool"):
            await one_call(method, pool, func)
        await check_usable(pool, balanced)


@EVERY_WAY
async def test_a_coroutine_object_is_a_typeerror_that_shows_how_to_pass_it(kind, method, balanced):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"coroutine object .*double.*, as in \w+\(double, "):
            await one_call(method, pool, double(1))
        await check_usable(pool, balanced)


@EVERY_WAY
async def test_an_async_generator_function_is_a_typeerror_that_says_so(kind, method, balanced):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"agen is not an async function: .*generator"):
            await one_call(method, pool, agen)
        await check_usable(pool, balanced)


@EVERY_WAY
@pytest.mark.parametrize("func", [None, 5, "double"], ids=repr)
async def test_what_cannot_be_called_is_a_typeerror(kind, method, func, balanced):
    async with kind() as pool:
        if func is None and kind is GreenPool and method in ITERATORS:
            assert await one_call(method, pool, func) == [(1,)]  # eventlet's way to pass rows on
        else:
            with pytest.raises(TypeError, match="async function"):
                await one_call(method, pool, func)
        await check_usable(pool, balanced)


@pytest.mark.parametrize("method", [*CALLS, *MAPS, "spawn_n"])
async def test_whatever_returns_an_awaitable_is_an_async_function(method, balanced):
    class AsyncCallable:
        async def __call__(self, x):
            return 2 * x

    class Awaitable:
        def __await__(self):
            return double(1).__await__()

    async with GreenPool() as pool:
        for func in (
            lambda x: double(x),
            functools.partial(double),
            AsyncCallable(),
            lambda _: Awaitable(),
        ):
            result = await one_call(method, pool, func)
            await pool.join()
            assert result == (None if method == "spawn_n" else [2] if method in MAPS else 2)
        await check_usable(pool, balanced)


@LIMITED
async def test_what_a_lambda_returned_is_closed_when_the_call_cannot_start(kind, balanced):
    def func(x):
        return double(x)

    async with kind(1) as pool:
        blocker = await pool.spawn(trio.sleep_forever)
        with pytest.raises(triopool.PoolFull):
            pool.spawn_nowait(func, 1)
        with pytest.raises(triopool.PoolFull):
            await pool.start(Task(func, 1), blocking=False)
        for method in ("spawn", "apply"):
            with trio.CancelScope() as scope:
                scope.cancel()
                await getattr(pool, method)(func, *((1,) if method == "spawn" else ((1,),)))
        queued = pool.apply_async(func, (1,))
        queued.kill_nowait()
        await blocker.kill()
        gc.collect(1)
        fresh = await pool.spawn(func, 1)
        fresh.kill_nowait()
        await wait_all_tasks_blocked()
        await check_usable(pool, balanced)


async def test_a_sync_function_for_the_one_shot_functions_is_a_typeerror():
    with pytest.raises(TypeError, match="ThreadPool"):
        await triopool.map(sync_double, [1, 2])
    for function in (triopool.imap, triopool.imap_unordered):
        async with function(sync_double, [1]) as results:
            with pytest.raises(TypeError, match="ThreadPool"):
                await anext(results)
    with pytest.raises(TypeError, match="coroutine object"):
        await triopool.map(double(), [1])
    with pytest.raises(TypeError, match="coroutine object"):
        async with triopool.imap(double(), [1]):
            pytest.fail("entered")
    gc.collect(1)


async def test_a_one_shot_iterator_without_a_block_is_a_typeerror_that_says_async_with():
    with pytest.raises(TypeError, match=r"async with triopool\.imap"):
        async for _ in triopool.imap(double, [1]):
            pass
    with pytest.raises(TypeError, match=r"async with triopool\.imap_unordered"):
        for _ in triopool.imap_unordered(double, [1]):
            pass


def test_a_task_without_a_function_is_a_typeerror():
    with pytest.raises(TypeError, match="needs an async function"):
        Task()
    with pytest.raises(TypeError, match="needs an async function"):
        GreenThread(None)


@KINDS
async def test_wrong_arguments_are_the_calls_own_typeerror(kind, balanced):
    async with kind() as pool:
        with pytest.raises(TypeError, match="positional argument"):
            await (await pool.spawn(double, 1, 2, 3))
        with pytest.raises(TypeError, match="positional argument"):
            await pool.map(double, [1], [2])
        await check_usable(pool, balanced)


# Sizes


@pytest.mark.parametrize("size", ["3", 2.5, 3.0, True, math.inf, [3], object, int], ids=repr)
async def test_a_size_that_is_no_size_is_a_typeerror(size):
    match = r"size is an int, None for no limit, or a trio\.CapacityLimiter"
    with pytest.raises(TypeError, match=match):
        Pool(size)
    async with Pool(2) as pool:
        with pytest.raises(TypeError, match=match):
            pool.size = size
        assert pool.size == 2
    with pytest.raises(TypeError, match=match):
        await triopool.map(double, [1], size=size)
    with pytest.raises(TypeError, match=match):
        triopool.imap(double, [1], size=size)


async def test_a_negative_size_is_a_valueerror():
    with pytest.raises(ValueError, match="cannot be negative: -1"):
        Pool(-1)
    async with Pool(2) as pool:
        with pytest.raises(ValueError, match="cannot be negative: -1"):
            pool.size = -1
        assert pool.size == 2


async def test_a_limiter_as_a_new_size_is_a_typeerror_that_says_what_to_do():
    async with Pool(2) as pool, GreenPool(2) as green:
        with pytest.raises(TypeError, match="a pool keeps its limiter"):
            pool.size = trio.CapacityLimiter(3)
        with pytest.raises(TypeError, match="keeps its limiter"):
            green.resize(trio.CapacityLimiter(3))
        assert pool.size == green.size == 2


async def test_the_size_of_a_group_cannot_be_set():
    group = Group()
    with pytest.raises(AttributeError):
        group.size = 3


@pytest.mark.parametrize("maxsize", [0, -1])
@pytest.mark.parametrize("method", ITERATORS)
@KINDS
async def test_a_maxsize_below_1_is_a_valueerror(kind, method, maxsize, balanced):
    async with kind() as pool:
        with pytest.raises(ValueError, match="at least 1"):
            getattr(pool, method)(double, [(1,)], maxsize=maxsize)
        await check_usable(pool, balanced)


@pytest.mark.parametrize("maxsize", ["3", 2.5, True, math.inf], ids=repr)
@pytest.mark.parametrize("method", ITERATORS)
async def test_a_maxsize_that_is_no_int_is_a_typeerror(method, maxsize, balanced):
    async with Pool() as pool:
        with pytest.raises(TypeError, match="maxsize is an int"):
            getattr(pool, method)(double, [(1,)], maxsize=maxsize)
        await check_usable(pool, balanced)


async def test_a_maxsize_below_1_of_a_one_shot_iterator_is_a_valueerror():
    with pytest.raises(ValueError, match="at least 1"):
        async with triopool.imap(double, [1], maxsize=0):
            pytest.fail("entered")


# Iterables


@pytest.mark.parametrize("iterable", [None, 5, double], ids=["None", "int", "function"])
@pytest.mark.parametrize("method", MAPS)
@KINDS
async def test_what_cannot_be_iterated_over_is_a_typeerror(kind, method, iterable, balanced):
    async with kind() as pool:
        text = "an iterable or async iterable of arguments is needed"
        with pytest.raises(TypeError, match=text) as caught:
            await one_map(method, pool, iterable)
        assert caught.value.__suppress_context__  # what Python says about it would only distract
        await check_usable(pool, balanced)


async def one_map(method, pool, *iterables):
    if method in ITERATORS:
        return await read(getattr(pool, method)(double, *iterables))
    if method == "map_async":
        return await pool.map_async(double, *iterables)
    return await getattr(pool, method)(double, *iterables)


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
async def test_no_iterable_at_all_is_a_typeerror(method, balanced):
    async with Pool() as pool:
        with pytest.raises(TypeError, match="at least one iterable"):
            await one_map(method, pool)
        await check_usable(pool, balanced)
    with pytest.raises(TypeError, match="at least one iterable"):
        await triopool.map(double)


async def test_rows_of_starmap_that_are_no_tuples_raise_at_their_place(balanced):
    async with Pool() as pool:
        results = pool.starmap(double, [(1,), 2, (3,)])
        assert await anext(results) == 2
        with pytest.raises(TypeError, match="iterable"):
            await anext(results)
        assert await anext(results) == 6
        await results.aclose()
        await check_usable(pool, balanced)


@pytest.mark.parametrize("method", ITERATORS)
async def test_a_plain_for_over_an_iterator_is_a_typeerror_that_says_async_for(method, balanced):
    async with Pool() as pool:
        with pytest.raises(TypeError, match="async for"):
            for _ in getattr(pool, method)(double, [(1,)] * 3):
                pass
        gc.collect(1)
        await wait_all_tasks_blocked()
        await pool.kill()
        await check_usable(pool, balanced)


async def test_a_plain_for_over_a_pile_or_as_completed_is_a_typeerror_that_says_async_for():
    async with GreenPile() as pile:
        task = await pile.spawn(double)
        with pytest.raises(TypeError, match="async for"):
            for _ in pile:
                pass
        with pytest.raises(TypeError, match="async for"):
            for _ in as_completed([task]):
                pass
        assert await pile.next() == 2


# Arguments of apply


@pytest.mark.parametrize("args", [5, 0, False], ids=repr)
@pytest.mark.parametrize("method", ["apply", "apply_async", "apply_cb"])
async def test_arguments_that_are_no_sequence_are_a_typeerror(method, args, balanced):
    async with Pool() as pool:
        with pytest.raises(TypeError):
            result = getattr(pool, method)(double, args)
            if method != "apply_async":
                await result
        await check_usable(pool, balanced)


@pytest.mark.parametrize("method", ["apply_cb", "apply_async", "map_cb", "map_async"])
async def test_a_callback_that_is_no_function_is_a_typeerror_at_once(method, balanced):
    async with Pool() as pool:
        args = ((1,), {}) if method.startswith("apply") else ([1],)
        with pytest.raises(TypeError, match="callback"):
            result = getattr(pool, method)(double, *args, 5)
            if method.endswith("cb"):
                await result
        await check_usable(pool, balanced)


# Where tasks belong


@KINDS
async def test_start_of_a_function_is_a_typeerror_that_names_spawn(kind, balanced):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"spawn\(func, \*args\)"):
            await pool.start(double)
        coroutine = double()
        with pytest.raises(TypeError, match=r"spawn\(func, \*args\)"):
            await pool.start(coroutine)
        coroutine.close()
        await check_usable(pool, balanced)


@KINDS
async def test_start_of_a_started_task_is_a_runtimeerror(kind, balanced):
    async with kind() as pool:
        running = await pool.spawn(trio.sleep_forever)
        over = await pool.spawn(double)
        await over
        for task in (running, over):
            with pytest.raises(RuntimeError, match="a task runs once; make a new one"):
                await pool.start(task)
        killed = Task(double)
        killed.kill_nowait()
        with pytest.raises(RuntimeError, match="a task runs once"):
            await pool.start(killed)
        await running.kill()
        await check_usable(pool, balanced)


@LIMITED
async def test_start_of_a_task_that_waits_already_is_a_runtimeerror(kind, balanced):
    async with kind(1) as pool, trio.open_nursery() as nursery:
        blocker = await pool.spawn(trio.sleep_forever)
        task = Task(double)
        nursery.start_soon(pool.start, task)
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="a task runs once"):
            await pool.start(task)
        await blocker.kill()
        assert await task == 2
        await check_usable(pool, balanced)


@KINDS
async def test_add_and_killone_and_group_of_what_is_no_task_are_typeerrors(kind, balanced):
    async with kind() as pool:
        with pytest.raises(TypeError, match=r"spawn\(func, \*args\)"):
            await pool.add(double)
        with pytest.raises(TypeError, match="takes a Task"):
            await pool.killone(double)
        with pytest.raises(TypeError, match="takes Tasks"):
            Group([double])
        await check_usable(pool, balanced)


async def test_killone_of_a_stranger_is_a_valueerror():
    async with Pool() as pool, Pool() as other:
        task = await other.spawn(double)
        with pytest.raises(ValueError, match=r"is not in .*task\.kill\(\)"):
            await pool.killone(task)
        assert await task == 2


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit(3), int, "reason"], ids=repr)
async def test_kill_with_what_is_no_exception_is_a_typeerror_and_kills_nothing(exception):
    async with Pool() as pool:
        task = await pool.spawn(double)
        for kill in (pool.kill, task.kill):
            with pytest.raises(TypeError, match="takes an Exception"):
                await kill(exception)
        with pytest.raises(TypeError, match="takes an Exception"):
            await pool.killone(task, exception)
        for kill_nowait in (pool.kill_nowait, task.kill_nowait):
            with pytest.raises(TypeError, match="takes an Exception"):
                kill_nowait(exception)
        assert await task == 2


async def test_a_link_that_is_no_function_is_a_typeerror():
    async with Pool() as pool:
        task = await pool.spawn(double)
        for link in (task.link, task.link_value, task.link_exception):
            with pytest.raises(TypeError, match="a link is a sync function"):
                link(5)


@KINDS
async def test_an_unknown_on_error_or_task_class_is_a_typeerror(kind):
    for on_error in ("collct", None, 5):
        with pytest.raises(TypeError, match="on_error is 'collect', 'cancel', 'log' or a "):
            kind(on_error=on_error)
    if kind is not GreenPool:
        for task_class in (5, int, Task(double)):
            with pytest.raises(TypeError, match="task_class is a subclass of Task"):
                kind(task_class=task_class)


async def test_wait_and_as_completed_for_what_is_neither_task_nor_future_are_typeerrors():
    coroutine = double()
    for bad in (5, double, coroutine):
        with pytest.raises(TypeError, match="tasks and futures"):
            await wait([bad])
        with pytest.raises(TypeError, match="tasks and futures"):
            as_completed([bad])
    coroutine.close()


# join from inside


@KINDS
async def test_join_from_inside_is_a_runtimeerror_that_says_what_to_do(kind, balanced):
    async def call():
        await pool.join()

    async with kind() as pool:
        with pytest.raises(RuntimeError, match=r"call it outside, or open a pool inside"):
            await pool.apply(call)
        await check_usable(pool, balanced)


# Before, after, and twice

USES = {
    "spawn": lambda pool: pool.spawn(double),
    "spawn_nowait": lambda pool: pool.spawn_nowait(double),
    "start": lambda pool: pool.start(Task(double)),
    "apply": lambda pool: pool.apply(double),
    "apply_cb": lambda pool: pool.apply_cb(double, callback=double),
    "apply_async": lambda pool: pool.apply_async(double),
    "map": lambda pool: pool.map(double, [1]),
    "map_cb": lambda pool: pool.map_cb(double, [1]),
    "map_async": lambda pool: pool.map_async(double, [1]),
    "imap": lambda pool: pool.imap(double, [1]),
    "imap_unordered": lambda pool: pool.imap_unordered(double, [1]),
    "starmap": lambda pool: pool.starmap(double, [(1,)]),
    "add": lambda pool: pool.add(Task(double)),
    "pile.spawn": lambda pool: GreenPile(pool).spawn(double),
    "spawn_n": lambda pool: pool.spawn_n(double),
}
CONTROLS = {
    "join": lambda pool: pool.join(),
    "kill": lambda pool: pool.kill(),
    "kill_nowait": lambda pool: pool.kill_nowait(),
    "killone": lambda pool: pool.killone(Task(double)),
    "wait_available": lambda pool: pool.wait_available(),
    "waitall": lambda pool: pool.waitall(),
}
GREEN = {"spawn_n", "waitall"}


def each_of(uses):
    kinds = (Group, Pool, GreenPool)
    return pytest.mark.parametrize(
        ("kind", "use"),
        [
            pytest.param(kind, func, id=f"{kind.__name__}-{name}")
            for kind in kinds
            for name, func in uses.items()
            if kind is GreenPool or name not in GREEN
        ],
    )


async def call(use, pool):
    result = use(pool)
    if hasattr(result, "__await__"):
        await result


@each_of(USES | CONTROLS | {"close": lambda pool: pool.close()})
async def test_use_before_the_block_is_a_runtimeerror_that_says_async_with(kind, use, balanced):
    pool = kind()
    with pytest.raises(RuntimeError, match="async with"):
        await call(use, pool)
    gc.collect(1)
    async with pool:
        await check_usable(pool, balanced)


async def test_the_cancel_scope_before_the_block_is_a_runtimeerror():
    with pytest.raises(RuntimeError, match="async with"):
        _ = Pool().cancel_scope


@each_of(USES | CONTROLS)
async def test_use_after_the_block_is_a_closedresourceerror(kind, use):
    async with kind() as pool:
        pass
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        await call(use, pool)
    gc.collect(1)


@each_of(USES)
async def test_use_after_close_is_a_closedresourceerror(kind, use, balanced):
    async with kind() as pool:
        task = await pool.spawn(trio.lowlevel.checkpoint)
        pool.close()
        with pytest.raises(trio.ClosedResourceError, match="closed to new calls"):
            await call(use, pool)
        await pool.join()
        assert task.successful()
        balanced(pool)
    gc.collect(1)


@KINDS
async def test_what_controls_a_pool_works_after_close(kind, balanced):
    async with kind() as pool:
        task = await pool.spawn(trio.sleep_forever)
        pool.close()
        assert await pool.wait_available() >= 1
        assert await pool.killone(task)
        assert await pool.kill()
        assert await pool.join()
        balanced(pool)


@KINDS
async def test_close_may_be_called_again(kind):
    async with kind() as pool:
        pool.close()
        pool.close()
    pool.close()


@KINDS
async def test_looking_is_allowed_before_and_after_the_block(kind):
    pool = kind()
    for _ in range(2):
        assert len(pool) == 0
        assert list(pool) == []
        assert Task(double) not in pool
        assert pool.free_count() >= 1
        assert not pool.full()
        assert repr(pool)
        pool.discard(Task(double))
        if pool.limiter.borrowed_tokens == 0 and "new" in repr(pool):
            async with pool:
                pass


@KINDS
async def test_a_spawn_that_waits_when_the_block_is_killed_is_cancelled_or_refused(kind):
    if kind is Group:
        return
    outcomes = []

    async def spawn(pool):
        with pytest.raises((trio.ClosedResourceError, trio.Cancelled)) as caught:
            await pool.spawn(double)
        outcomes.append(caught.type)

    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError):
            async with kind(1) as pool:
                await pool.spawn(trio.sleep_forever)
                nursery.start_soon(spawn, pool)
                await wait_all_tasks_blocked()
                raise KeyError
    assert outcomes == [trio.ClosedResourceError]


@KINDS
async def test_entering_a_pool_twice_is_a_runtimeerror(kind, balanced):
    async with kind() as pool:
        with pytest.raises(RuntimeError, match="entered only once; make a new one"):
            await pool.__aenter__()
        with pytest.raises(RuntimeError, match="entered only once"):
            await pool.run()
        await check_usable(pool, balanced)
    with pytest.raises(RuntimeError, match="entered only once"):
        async with pool:
            pytest.fail("entered")


async def test_entering_a_pile_twice_is_a_runtimeerror():
    async with GreenPile(2) as pile:
        with pytest.raises(RuntimeError, match="entered only once"):
            await pile.__aenter__()
        await pile.spawn(double)
        assert await pile.next() == 2
    with pytest.raises(RuntimeError, match="entered only once"):
        async with pile:
            pytest.fail("entered")


async def test_an_owned_pile_before_its_block_is_a_runtimeerror_that_names_the_pile():
    pile = GreenPile(2)
    with pytest.raises(RuntimeError, match=r"async with GreenPile"):
        await pile.spawn(double)
    with pytest.raises(RuntimeError, match=r"async with GreenPile"):
        await pile.next()
    assert len(pile) == 0


async def test_an_iterator_after_the_block_is_a_closedresourceerror():
    async with Pool() as pool:
        results = pool.imap(double, [1])
        await pool.join()
    with pytest.raises(trio.ClosedResourceError, match="this iterator is closed"):
        await anext(results)


def test_a_class_of_tasks_that_are_equal_to_others_is_refused():
    with pytest.raises(TypeError, match="leave out __eq__ and __hash__"):

        class Equal(Task[None]):
            def __eq__(self, other: object) -> bool:
                return isinstance(other, Equal)

            def __hash__(self) -> int:
                return 0

    with pytest.raises(TypeError, match="eq=False"):

        @attrs.define
        class Data(Task[None]):
            row: int = 0


def test_a_group_of_a_number_is_told_of_the_pool_that_has_one():
    with pytest.raises(TypeError, match=r"a Group takes tasks, and has no size; Pool\(5\) has one"):
        Group(5)


async def test_a_pile_over_threads_is_told_where_results_of_threads_come_from():
    async with ThreadPool(1) as pool:
        with pytest.raises(TypeError, match=r"a pool of async functions, not <ThreadPool .* imap"):
            GreenPile(pool)


@pytest.mark.parametrize("error", [PoolFull, TaskKilled, PoolDeadlock])
def test_a_traceback_names_an_error_as_it_is_imported(error):
    assert f"{error.__module__}.{error.__qualname__}" == f"triopool.{error.__name__}"
    assert pickle.loads(pickle.dumps(error("x"))).args == ("x",)
