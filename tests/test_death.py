"""Death in a call: of the process, of its memory, of its stack, of its interpreter. All is told."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from triopool import GreenPool, Group, Pool, Task, TaskStatus, ThreadPool, _forks
from triopool._crew import TaskCrew

Program = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """
import gc, os, resource, signal, sys, threading
import trio
from triopool import GreenPool, Group, Pool, Task, ThreadPool, current_task

async def double(x):
    await trio.lowlevel.checkpoint()
    return 2 * x

def double_sync(x):
    return 2 * x

async def check(pool):
    "The pool is as good as new."
    function = double_sync if isinstance(pool, ThreadPool) else double
    assert await pool.map(function, range(30)) == list(range(0, 60, 2))
    assert [x async for x in pool.imap(function, range(5))] == [0, 2, 4, 6, 8]
    assert await pool.apply(function, (1,)) == 2
    assert len(pool) == 0
"""


async def double(x: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * x


# SystemExit


EXITS = """
async def call(x=0):
    await trio.lowlevel.checkpoint()
    return call_sync(x)

def call_sync(x=0):
    if x == 0:  # several at once would leave in a group
        sys.exit(EXIT)
    return x

async def rows():
    yield 1
    sys.exit(EXIT)

ended = []

async def sleeper():
    try:
        await trio.sleep_forever()
    finally:
        ended.append("sleeper")

async def main():
    async with Pool(3) as around, KIND as pool:
        await around.spawn(sleeper)
        function = call_sync if isinstance(pool, ThreadPool) else call
        use = sys.argv[1]
        if use == "spawn":
            await pool.spawn(function)
            await trio.sleep_forever()
        elif use == "apply":
            await pool.apply(function)
        elif use == "map":
            await pool.map(function, range(5))
        elif use == "imap":
            async for _ in pool.imap(function, range(5)):
                pass
        elif use == "link":
            task = await pool.spawn(abs if function is call_sync else double, 1)
            task.link(lambda _: call_sync())
            await trio.sleep_forever()
        else:
            await pool.map(abs if function is call_sync else double, rows())

try:
    trio.run(main)
finally:
    assert ended == ["sleeper"]
"""


@pytest.mark.parametrize(
    ("kind", "use", "code"),
    [
        ("Pool", "spawn", "'no more'"),
        ("Pool", "link", "3"),
        ("Pool", "map", "3"),
        ("ThreadPool", "imap", "3"),
        ("ThreadPool", "input", "3"),
    ],
)
def test_sys_exit_in_a_call_is_how_the_process_ends(
    kind: str, use: str, code: str, run_program: Program
) -> None:
    done = run_program(HEAD + EXITS.replace("KIND", f"{kind}(2)").replace("EXIT", code), use)
    expected = ("", 3) if code == "3" else ("no more\n", 1)
    assert (done.stderr, done.returncode) == expected


# The process


@pytest.mark.parametrize("kind", ["Pool", "ThreadPool"])
@pytest.mark.parametrize("end", ["os._exit(5)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_call_that_ends_the_process_ends_it_at_once(
    kind: str, end: str, run_program: Program
) -> None:
    done = run_program(
        HEAD
        + f"""
async def call(x):
    await trio.lowlevel.checkpoint()
    call_sync(x)

def call_sync(x):
    if x == 7:
        {end}

async def main():
    async with {kind}(3) as pool:
        await pool.map(call_sync if {kind} is ThreadPool else call, range(100))

trio.run(main)
print("it lives")
"""
    )
    status = 5 if "exit" in end else -signal.SIGKILL
    assert (done.stdout, done.stderr, done.returncode) == ("", "", status)


def test_interpreter_that_ends_while_pools_lie_suspended_says_nothing(run_program: Program) -> None:
    done = run_program(
        HEAD
        + """
async def main():
    async with Pool(2) as pool:
        await pool.spawn(trio.sleep_forever)
        results = pool.imap(double, range(9))
        await anext(results)
        for _ in range(2):
            pool.apply_async(trio.sleep_forever)
        kept.extend([pool, results])
        sys.exit(4)

kept = []
trio.run(main)
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 4)


# Memory


NO_MEMORY = """
def limit():
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (96 << 20),) * 2)

def eat_sync(x=0):
    eaten = []
    while x % 2 == 0:
        # Pieces so large that there is something left for everybody else.
        eaten.append(bytearray(1 << 20))
    return 2 * x

async def eat(x=0):
    await trio.lowlevel.checkpoint()
    return eat_sync(x)

async def main():
    async with KIND(3) as pool:
        function = eat_sync if KIND is ThreadPool else eat
        await check(pool)  # all threads are there
        task = await pool.spawn(function)
        for wait in (task.get, lambda: pool.apply(function), lambda: pool.map(function, range(4))):
            try:
                await wait()
            except MemoryError:
                pass
            else:
                sys.exit("there was enough")
            await check(pool)
        results = await pool.map(function, range(4), return_exceptions=True)
        assert [type(x) for x in results] == [MemoryError, int, MemoryError, int], results
        read = []
        async with pool.imap(function, range(4), return_exceptions=True) as results:
            async for result in results:
                read.append(type(result))
        assert read == [MemoryError, int, MemoryError, int], read
        unseen = await pool.spawn(function)
        await unseen.join()
        del results, unseen
        await check(pool)

threading.stack_size(256 * 1024)
limit()
try:
    trio.run(main)
except* MemoryError as group:
    assert len(group.exceptions) == 1
    print("one that nobody saw")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
@pytest.mark.parametrize("kind", ["Pool", "ThreadPool"])
def test_memory_that_runs_out_in_a_call_is_an_error_of_that_call(
    kind: str, run_program: Program
) -> None:
    done = run_program(HEAD + NO_MEMORY.replace("KIND", kind))
    assert (done.stdout, done.stderr) == ("one that nobody saw\n", "")


# The stack


async def fall(depth: int = 0) -> None:
    await fall(depth + 1)


def fall_sync() -> None:
    fall_sync()


@pytest.mark.parametrize("kind", [Group, Pool, GreenPool])
async def test_endless_recursion_in_a_call_is_an_error_of_that_call(
    kind: Callable[[], Any],
) -> None:
    async with kind() as pool:
        with pytest.raises(RecursionError):
            await (await pool.spawn(fall))
        with pytest.raises(RecursionError):
            await pool.apply(fall)
        with pytest.raises(RecursionError):
            await pool.map(fall, range(3))
        (error,) = [x async for x in pool.imap(fall, [1], return_exceptions=True)]
        assert isinstance(error, RecursionError)
        assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]
        assert len(pool) == pool.limiter.borrowed_tokens == 0


async def test_endless_recursion_in_a_thread_is_an_error_of_that_call() -> None:
    async with ThreadPool(2) as pool:
        with pytest.raises(RecursionError):
            await pool.apply(fall_sync)
        errors = await pool.map(lambda _: fall_sync(), range(3), return_exceptions=True)
        assert [type(error) for error in errors] == [RecursionError] * 3
        assert await pool.map(abs, range(5)) == [0, 1, 2, 3, 4]
        assert len(pool) == 0


async def test_endless_recursion_by_way_of_the_pool_ends_at_the_limit() -> None:
    async def deeper() -> None:
        await pool.apply(deeper)

    async with Pool(1) as pool:
        with pytest.raises(RecursionError):
            await pool.apply(deeper)
        assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]
        assert len(pool) == pool.limiter.borrowed_tokens == 0


async def test_endless_recursion_in_a_link_is_an_error_that_is_told() -> None:
    def link(task: Task[Any]) -> None:
        link(task)

    async with Pool(1) as pool:
        task = await pool.spawn(double, 1)
        task.link(link)
        with pytest.raises(ExceptionGroup) as info:
            await pool.join(raise_error=True)
        assert [type(error) for error in info.value.exceptions] == [RecursionError]
        assert task.value == 2


async def dive(depth: int, func: Callable[[], Awaitable[object]]) -> object:
    return await (dive(depth - 1, func) if depth else func())


async def iterate(pool: Any) -> None:
    async for _ in pool.imap(double, range(3)):
        pass


async def queue(pool: Any) -> None:
    for x in range(3):
        pool.apply_async(double, (x,))


async def spawn_nowait(pool: Any) -> None:
    pool.spawn_nowait(double, 1)


USES: dict[str, Callable[[Any], Awaitable[object]]] = {
    "spawn": lambda pool: pool.spawn(double, 1),
    "spawn_nowait": spawn_nowait,
    "start": lambda pool: pool.start(Task(double, 1)),
    "apply": lambda pool: pool.apply(double, (1,)),
    "apply_async": queue,
    "map": lambda pool: pool.map(double, range(3)),
    "imap": iterate,
}


@pytest.fixture
def shallow() -> Iterator[None]:
    """A stack that ends soon."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    yield
    sys.setrecursionlimit(before)


async def deepest() -> int:
    """How deep one can dive from here."""
    for depth in range(400, 0, -1):
        with contextlib.suppress(RecursionError):
            await dive(depth, trio.lowlevel.checkpoint)
            return depth
    raise AssertionError("there is no stack at all")


# Trio makes the coroutine of a task before it finds that there is no room to start it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_stack_that_ends_in_the_pool_itself_costs_no_slot(
    use: Callable[[Any], Awaitable[object]], shallow: None
) -> None:
    outcomes = set()
    async with Pool(1) as pool:
        depth = await deepest()
        for left in range(60):
            try:
                await dive(depth - left, lambda: use(pool))
            except RecursionError:
                outcomes.add("no stack")
            else:
                outcomes.add("enough")
            try:
                await pool.join(raise_error=True)
            except* RecursionError:
                pass
            assert await pool.map(double, range(3)) == [0, 2, 4]
            assert (len(pool), pool.limiter.borrowed_tokens) == (0, 0)
    assert outcomes == {"no stack", "enough"}


async def test_call_that_cannot_begin_for_want_of_memory_costs_no_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begin(*_: object) -> None:
        raise MemoryError

    async with Pool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(TaskCrew, "begin", begin)
            for use in USES["spawn"], USES["spawn_nowait"], USES["apply"], USES["start"]:
                with pytest.raises(MemoryError):
                    await use(pool)
                assert (len(pool), pool.limiter.borrowed_tokens) == (0, 0)
        assert await pool.map(double, range(3)) == [0, 2, 4]


# The loop


async def test_call_that_blocks_the_loop_delays_the_others_and_harms_none() -> None:
    async def block(x: int) -> int:
        time.sleep(0.002)  # noqa: ASYNC251
        return x

    async with Pool(4) as pool, ThreadPool(2) as threads:
        sibling = await pool.spawn(trio.sleep_forever)
        thread = await threads.spawn(trio.from_thread.run, trio.sleep_forever)
        with trio.move_on_after(0.003) as scope:
            await pool.map(block, range(1000))
        assert scope.cancelled_caught
        assert await pool.map(block, range(5)) == [0, 1, 2, 3, 4]
        assert await threads.map(abs, range(100)) == list(range(100))
        for task in (sibling, thread):
            assert task.status is TaskStatus.RUNNING
            assert await task.kill() is True
        assert pool.limiter.borrowed_tokens == 0


# Forks


FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

async def in_child():
    for kind in (Pool, GreenPool, ThreadPool):
        async with kind(2) as pool:
            await check(pool)

def run_elsewhere():
    done = []
    thread = threading.Thread(target=lambda: done.append(trio.run(in_child)))
    thread.start()
    thread.join()
    return done

def fork(child):
    pid = os.fork()
    if not pid:
        try:
            os._exit(7 if child() else 1)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork_in_an_async_call_leaves_both_sides_usable(run_program: Program) -> None:
    done = run_program(
        HEAD
        + FORK
        + """
async def call(_=None):
    await trio.lowlevel.checkpoint()
    return fork(run_elsewhere)

async def main():
    async with Pool(2) as pool, ThreadPool(2) as threads:
        parked = await pool.spawn(trio.sleep_forever)
        await check(threads)
        assert fork(run_elsewhere) == 7
        assert await pool.apply(call) == 7
        assert await pool.map(call, range(2)) == [7, 7]
        await parked.kill()
        await check(pool)
        await check(threads)

trio.run(main)
print("parent is fine")
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("parent is fine\n", "", 0)


REFUSED = """
def refused(use):
    try:
        use()
    except RuntimeError as error:
        return "os.fork" in str(error)

def awaited(make):
    def use():
        make().send(None)  # as Trio would
    return use

async def main():
    for kind in (Pool, GreenPool, ThreadPool):
        async with kind(2) as pool:
            function = double_sync if kind is ThreadPool else double
            def child():
                uses = [
                    lambda: pool.spawn_nowait(function, 1),
                    lambda: pool.apply_async(function, (1,)),
                    lambda: pool.imap(function, [1]),
                    pool.kill_nowait,
                    pool.close,
                    lambda: setattr(pool, "size" if kind is not ThreadPool else "maxsize", 3),
                    awaited(lambda: pool.spawn(function, 1)),
                    awaited(lambda: pool.apply(function, (1,))),
                    awaited(lambda: pool.map(function, [1])),
                    awaited(lambda: pool.join()),
                ]
                return all(map(refused, uses)) and not refused(lambda: len(pool))
            assert fork(child) == 7, kind
            if kind is ThreadPool:
                assert await pool.apply(fork, (child,)) == 7
            await check(pool)

trio.run(main)
print("parent is fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_pool_of_the_parent_says_so_in_the_child_of_a_fork(run_program: Program) -> None:
    done = run_program(HEAD + FORK + REFUSED)
    assert (done.stdout, done.stderr, done.returncode) == ("parent is fine\n", "", 0)


async def test_pool_of_the_parent_can_be_left_in_the_child() -> None:
    async with Pool(1) as pool:
        task = await pool.spawn(trio.sleep_forever)
        _forks._after_fork_in_child()  # what happens there
        with pytest.raises(RuntimeError, match=r"os\.fork"):
            await pool.spawn(double, 1)
        with pytest.raises(RuntimeError, match=r"os\.fork"):
            pool.size = 2
        task.kill_nowait()
    assert task.status is TaskStatus.KILLED


# Subinterpreters


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
    make = lambda: interpreters.create(MODE)
    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    make = lambda: interpreters.create(isolated=MODE == "isolated")
    run = interpreters.run_string

SOURCE = '''
import sys
sys.path[:] = %r
try:
    import trio
except (ImportError, RuntimeError):  # of Trio itself
    print("no Trio here")
else:
    import triopool

    async def double(x):
        await trio.lowlevel.checkpoint()
        return 2 * x

    async def main():
        async with triopool.Pool(2) as pool:
            assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]
            assert [x async for x in pool.imap(double, range(3))] == [0, 2, 4]
            task = await pool.spawn(trio.sleep_forever)
            await task.kill()
        if THREADS:
            try:
                async with triopool.ThreadPool(2) as pool:
                    await pool.map(abs, range(5))
            except RuntimeError as error:
                assert "daemon threads are disabled" in str(error)

    trio.run(main)
    print("a pool of its own")
''' % (sys.path,)

def enter():
    interpreter = make()
    failure = run(interpreter, SOURCE)
    assert failure is None, failure
    interpreters.destroy(interpreter)

async def call():
    await trio.lowlevel.checkpoint()
    enter()

async def main():
    async with Pool(2) as pool:
        parked = await pool.spawn(trio.sleep_forever)
        await pool.apply(call)
        await parked.kill()
        await check(pool)
    async with ThreadPool(2) as pool:
        await pool.apply(enter)
        await check(pool)

trio.run(main)
print("the first one is fine")
"""


@pytest.mark.parametrize("mode", ["legacy", "isolated"])
def test_interpreter_within_has_pools_of_its_own_as_far_as_trio_runs_there(
    mode: str, run_program: Program
) -> None:
    source = SUBINTERPRETER.replace("MODE", repr(mode))
    # Where threads of Trio's can live on, CPython would not end the interpreter before they do.
    source = source.replace("THREADS", str(mode == "isolated"))
    done = run_program(HEAD + source)
    if "No module named '_xxsubinterpreters'" in done.stderr:
        pytest.skip("this Python has no such module")
    *inside, last = done.stdout.splitlines()
    assert (last, done.stderr, done.returncode) == ("the first one is fine", "", 0)
    assert set(inside) <= {"a pool of its own", "no Trio here"}
    assert len(inside) == 2
