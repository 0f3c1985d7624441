"""What the tests share. The clock is pytest-trio's `autojump_clock`, wherever time matters."""

import gc
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from triopool import Group

# A mock clock says nothing about how long a slow machine takes.
hypothesis.settings.register_profile("triopool", deadline=None)
hypothesis.settings.load_profile("triopool")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C arrives, also where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def balanced() -> Callable[[Group], None]:
    """`balanced(pool)`: nothing runs, nobody waits for a slot, and every slot is back."""

    def check(pool: Group) -> None:
        books = pool.limiter.statistics()
        assert (books.borrowed_tokens, books.tasks_waiting, len(pool)) == (0, 0, 0)

    return check


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Without the cyclic garbage collector: what goes away in here is in no cycle."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def run_program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_program(source, *args)` runs it in a Python of its own."""

    def run(source: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", source, *args],
            capture_output=True,
            text=True,
            check=False,
        )

    return run
