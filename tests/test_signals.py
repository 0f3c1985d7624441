"""A storm of Ctrl-C: each ends its run with one KeyboardInterrupt, and leaves nothing behind.

There are some here; with ``TRIOPOOL_STORMS=1000`` there are a thousand of each kind.
"""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from triopool import GreenPool, Group, Pool, TaskStatus, ThreadPool, ThreadPoolExecutor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such signals")

PROGRAM = str(Path(__file__).with_name("storm.py"))
STORMS = int(os.environ.get("TRIOPOOL_STORMS", "0"))
AT_ONCE = 50  # storms in one process
SEEDS = range(max(1, -(-STORMS // AT_ONCE)))
KINDS = ["tasks", "threads", "executors"]
# Python and Trio lose a Ctrl-C, too, once in some hundred storms; so these are for who looks on.
# What Python prints when Trio, at the end of its run, has closed what a signal is written to.
TOO_LATE = "Exception ignored when trying to write to the signal wakeup fd:"
in_storms = pytest.mark.skipif(not STORMS, reason="`nox -s storms` runs these")


def python(*args: object) -> list[str]:
    return [sys.executable, "-W", "error", PROGRAM, *map(str, args)]


@in_storms
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kind", "presses"), [*((kind, 1) for kind in KINDS), ("tasks", 3), ("threads", 3)]
)
def test_ctrl_c_once_or_again_ends_each_run_with_one_keyboardinterrupt_and_leaves_nothing(
    kind: str, presses: int, seed: int
) -> None:
    storms = min(STORMS, AT_ONCE)
    done = subprocess.run(
        python(kind, "--storms", storms, "--seed", seed, "--presses", presses),
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if line != TOO_LATE]
    assert (said, done.stdout) == ([], f"{storms} storms\n")
    assert done.returncode == 0


# A process each: what Python itself says and returns when nobody catches it.
@in_storms
@pytest.mark.parametrize("seed", range(max(1, STORMS // 20)))
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_that_nobody_catches_ends_the_process_as_python_does(kind: str, seed: int) -> None:
    moment = random.Random(seed)
    with subprocess.Popen(
        python(kind, "--once"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        for _ in range(moment.randrange(1, 5)):
            assert program.stdout.readline() == "round\n"
        for _ in range(moment.randrange(100_000)):
            pass  # some way into the next round
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate()
    assert program.returncode == -signal.SIGINT
    first, *_, last = errors.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "KeyboardInterrupt")
    for word in ("Group", "ignored", "destroyed", "never awaited", "Internal", "corrupted"):
        assert word not in errors


async def test_signal_that_a_program_waits_for_can_close_its_pools_in_order() -> None:
    async def close_at_sigterm() -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            async for _ in signals:
                pool.kill_nowait(reason="the program is to end")
                threads.kill_nowait()
                break

    async with Pool(1) as pool, ThreadPool(1) as threads:
        tasks = [pool.apply_async(trio.sleep_forever) for _ in range(3)]
        tasks += [threads.apply_async(trio.from_thread.run, (trio.sleep_forever,)) for _ in "abc"]
        await wait_all_tasks_blocked()
        await close_at_sigterm()
    assert {task.status for task in tasks} == {TaskStatus.KILLED}


@pytest.mark.parametrize("kind", [Group, Pool, GreenPool, ThreadPool])
def test_ctrl_c_pressed_twice_leaves_as_one_keyboardinterrupt(kind: Any) -> None:
    async def end() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            signal.raise_signal(signal.SIGINT)  # again, while the first one ends it all

    async def main() -> None:
        async with kind() as pool:
            if kind is ThreadPool:
                await pool.spawn(trio.from_thread.run, end)
            else:
                await pool.spawn(end)
            await begun.wait()
            signal.raise_signal(signal.SIGINT)

    begun = trio.Event()
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


def test_ctrl_c_in_the_cancel_of_a_future_leaves_no_lock_locked() -> None:
    is_free: list[bool] = []

    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            gate = threading.Event()
            executor.submit(gate.wait)
            future = executor.submit(int)
            before = sys.gettrace()
            sys.settrace(press)
            try:
                future.cancel()
            finally:
                sys.settrace(before)
                gate.set()
                looker = threading.Thread(target=look, args=(future._condition,))
                looker.start()
                looker.join()
        await trio.lowlevel.checkpoint()

    def press(frame: Any, event: str, arg: object) -> Any:
        if event == "return" and frame.f_code.co_name == "__enter__":
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)
        return press

    def look(condition: threading.Condition) -> None:
        if condition.acquire(timeout=10):
            is_free.append(True)
            condition.release()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert is_free == [True]
