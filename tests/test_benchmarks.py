"""The benchmarks still run. What they measure is no matter for a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "benchmarks"


def bench(*args: object, name: str = "pools.py") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(PROGRAMS / name), *map(str, args)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_a_short_run_shows_every_case(tmp_path: Path, checkpoints: int) -> None:
    path = tmp_path / "figures.json"
    options = ["--items", 250, "--rounds", 2, "--checkpoints", checkpoints, "--json", path]
    done = bench("--peers", "triopool,trio,asyncio", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "microseconds for an item" in done.stdout
    assert "triopool's time by theirs" in done.stdout
    figures = json.loads(path.read_text())["microseconds"]
    assert list(figures) == ["triopool", "trio", "asyncio"]
    assert list(figures["triopool"]) == [
        "map",
        "imap",
        "imap_unordered",
        "green_imap",
        "spawn",
        "spawn_nowait",
    ]
    assert all(len(rounds) == 2 for cases in figures.values() for rounds in cases.values())
    assert all(figure > 0 for figure in figures["triopool"]["map"])


def test_a_short_run_of_threads_shows_every_case(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    options = ["--items", 250, "--rounds", 2, "--json", path]
    done = bench("--peers", "triopool,concurrent,trio", *options, name="threads.py")
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(path.read_text())["microseconds"]
    assert list(figures) == ["triopool", "concurrent", "trio"]
    assert list(figures["triopool"]) == ["map", "apply", "executor_map", "submit"]
    assert all(len(rounds) == 2 for cases in figures.values() for rounds in cases.values())


@pytest.mark.parametrize("name", ["pools.py", "threads.py"])
@pytest.mark.parametrize("args", [["--peers", "tokio"], ["--items", "0"], ["--rounds", "x"]])
def test_bad_usage_is_told(name: str, args: list[str]) -> None:
    done = bench(*args, name=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
