"""The names of the package: all are there, and none is loaded before it is asked for."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import triopool


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(triopool.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", triopool.__all__)
def test_every_public_name_is_there_and_the_same_each_time(name):
    value = getattr(triopool, name)
    assert getattr(triopool, name) is value
    assert name in dir(triopool)


@pytest.mark.parametrize("name", triopool.__all__)
def test_what_a_public_class_is_made_of_is_in_no_pattern(name):
    assert not hasattr(getattr(triopool, name), "__match_args__")


@pytest.mark.parametrize("name", ["greenpool", "pool", "task", "threadpool"])
def test_every_public_module_is_there_without_being_imported(name):
    assert run(f"import triopool; print(triopool.{name}.__name__)") == [f"triopool.{name}"]
    assert triopool.__getattr__(name) is sys.modules[f"triopool.{name}"]
    assert name in dir(triopool)


def test_what_a_star_imports_is_what_is_public():
    assert run("from triopool import *; print(*sorted(dir()))") == sorted(
        [*triopool.__all__, *(name for name in run("print(*dir())"))]
    )


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'triopool' has no attribute 'Puddle'"):
        _ = triopool.Puddle
    with pytest.raises(ImportError):
        from triopool import Puddle  # noqa: F401


def test_a_program_loads_only_what_it_uses():
    program = (
        "import sys, triopool; {}; print(*(name for name in sys.modules if 'triopool' in name))"
    )
    assert run(program.format("triopool")) == ["triopool"]
    loaded = run(program.format("triopool.Pool"))
    assert "triopool.pool" in loaded
    assert not {"triopool.threadpool", "triopool._threads", "triopool.greenpool"} & {*loaded}


def test_several_threads_may_ask_for_their_first_names_at_once():
    program = """
import threading
import triopool

names = ["Pool", "GreenPool", "ThreadPool", "wait", "imap"]
barrier = threading.Barrier(len(names))
found = []


def ask(name):
    barrier.wait()
    found.append(getattr(triopool, name).__name__)


threads = [threading.Thread(target=ask, args=[name]) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*found)
"""
    for _ in range(5):
        assert sorted(run(program)) == sorted(["Pool", "GreenPool", "ThreadPool", "wait", "imap"])


@pytest.mark.parametrize(
    "cls",
    [getattr(triopool, name) for name in ("Group", "Pool", "GreenPool", "ThreadPool", "Task")],
)
def test_python_calls_each_method_by_the_name_of_a_public_class(cls):
    methods = [getattr(cls, name) for name in dir(cls) if not name.startswith("_")]
    names = [each.__qualname__ for each in methods if inspect.isfunction(each)]
    assert len(names) > 5
    for name in names:
        assert name.partition(".")[0] in triopool.__all__
