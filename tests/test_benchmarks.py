"""The benchmarks still run. What they measure is no matter for a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "pools.py"


def bench(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, args)], capture_output=True, text=True, check=False
    )


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


@pytest.mark.parametrize("args", [["--peers", "tokio"], ["--items", "0"], ["--rounds", "x"]])
def test_bad_usage_is_told(args: list[str]) -> None:
    done = bench(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
