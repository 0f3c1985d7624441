"""CPython's own tests of thread pools, where the running Python has them, on ThreadPoolExecutor.

In a Python of its own, the class takes the place of the standard library's before those tests are
imported. The programs that they run in further Pythons get it, too.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import triopool

# Those that name what is private to the standard library's class, each with its reason. There are
# none by now: the few private names that these tests read, the class has as well.
EXCLUDED: dict[str, str] = {}

# In Python 3.11 it is one module, and from 3.12 on a package.
NAME = "test.test_concurrent_futures"
PARTS = "as_completed", "init", "shutdown", "thread_pool", "wait"

PROGRAM = """
import concurrent.futures.thread, importlib, sys, unittest
from triopool import ThreadPoolExecutor

name, *excluded = sys.argv[1:]
concurrent.futures.ThreadPoolExecutor = ThreadPoolExecutor
concurrent.futures.thread.ThreadPoolExecutor = ThreadPoolExecutor

def replaced(source):
    line = "from concurrent.futures import ThreadPoolExecutor"
    path = f"import sys; sys.path[:] = {sys.path!r}; "
    return source.replace(line, path + line.replace("concurrent.futures", "triopool"))

def tests_in(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from tests_in(each)
        elif getattr(each, "executor_type", None) is ThreadPoolExecutor:
            if each.id() not in excluded:
                yield each

module = importlib.import_module(name)
if hasattr(module, "assert_python_ok"):
    in_python = module.assert_python_ok
    module.assert_python_ok = lambda *args: in_python(*map(replaced, args))
tests = list(tests_in(unittest.defaultTestLoader.loadTestsFromModule(module)))
done = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(tests))
sys.exit(not (tests and done.wasSuccessful()))
"""


def modules() -> list[str]:
    try:
        spec = find_spec(NAME)
    except ImportError:  # there is no package "test" at all
        spec = None
    if spec is None:
        return []
    if not spec.submodule_search_locations:
        return [NAME]
    return [f"{NAME}.test_{part}" for part in PARTS]


@pytest.mark.skipif(not modules(), reason=f"this Python comes without {NAME}")
@pytest.mark.parametrize("name", modules() or ["none"])
def test_cpythons_tests_of_thread_pools_pass(name: str) -> None:
    source = str(Path(triopool.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, *EXCLUDED],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([source, *sys.path[1:]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
