"""Many calls and pools in constant memory: a short run of what `nox -s soak` does for long."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("soak.py")


def soak(*args: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "error", str(PROGRAM), *map(str, args)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_calls_of_mixed_fate_and_many_pools_leave_nothing_behind() -> None:
    done = soak("--calls", 6_000, "--cycles", 320)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count("no object of the package is left") == 2


@pytest.mark.parametrize(
    ("leak", "found"), [("call", "more than .* blocks"), ("pool", "objects that were left")]
)
def test_the_soak_notices_what_stays(leak: str, found: str) -> None:
    # Else the test above would say nothing.
    done = soak("--calls", 2_500, "--cycles", 20, "--leak", leak)
    assert done.returncode == 1
    assert re.search(found, done.stderr)
