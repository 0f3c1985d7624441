"""The benchmark still runs, and tells what it should. What it measures is no matter for a test."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).parents[1] / "benchmarks"
MAPS = {"map", "map_generator"}
ITERATORS = {"imap", "imap_unordered", "green_imap", "pile"}
APPLIES = {"apply", "apply_async"}
SPAWNS = {"spawn", "spawn_full", "spawn_nowait"}
THREADS = {"thread_map", "thread_apply"}
EXECUTORS = {"executor_map", "executor_submit"}
PEAKS = {"imap_peak", "imap_unordered_peak", "green_imap_peak"}
PARKED = {"kill", "memory"}
ALL = MAPS | ITERATORS | APPLIES | SPAWNS | THREADS | EXECUTORS | PEAKS | PARKED | {"import"}

EVENTLET_ONLY = {"green_imap", "pile", "green_imap_peak"}
IN_ORDER = {"imap", "imap_peak"}
ANYIO_LACKS = EXECUTORS | EVENTLET_ONLY | IN_ORDER | APPLIES | {"map_generator", "spawn_full"}
ASYNCIO_LACKS = EXECUTORS | EVENTLET_ONLY | {"map_generator", "spawn_full"}

# {peer: (what it needs, cases that it cannot do)}
PEERS = {
    "triopool": ({"triopool"}, set()),
    "trio": ({"trio"}, EXECUTORS | EVENTLET_ONLY | IN_ORDER | {"apply_async"}),
    "gevent": ({"gevent"}, EXECUTORS | EVENTLET_ONLY),
    "eventlet": (
        {"eventlet"},
        EXECUTORS
        | MAPS
        | IN_ORDER
        | {"imap_unordered", "imap_unordered_peak", "apply", "thread_map"},
    ),
    "aiometer": ({"aiometer"}, ALL - {"map", "imap_unordered", "imap_unordered_peak", "import"}),
    "anyio-trio": ({"anyio", "trio"}, ANYIO_LACKS),
    "anyio-asyncio": ({"anyio"}, ANYIO_LACKS),
    "asyncio": (set(), ASYNCIO_LACKS),
    "uvloop": ({"uvloop"}, ASYNCIO_LACKS),
    "concurrent": (set(), ALL - THREADS - EXECUTORS - {"import"}),
}


def bench(*args: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(HOME), *map(str, args)]
    return subprocess.run(program, capture_output=True, text=True, check=False, encoding="utf-8")


def measured(output: Path) -> Any:
    return json.loads((output / "figures.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("peer", PEERS)
def test_every_case_of_a_peer_is_measured(peer: str, tmp_path: Path) -> None:
    needs, lacks = PEERS[peer]
    if not all(map(find_spec, needs)):
        pytest.skip(f"{peer} is not installed")
    done = bench("--peer", peer, "--items", 40, "--rounds", 1, "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    figures = measured(tmp_path)["figures"]
    assert [row["case"] for row in figures if row["case"] in lacks] == []
    assert {row["case"] for row in figures} == ALL - lacks
    assert {row["peer"] for row in figures} == {peer}
    assert all(len(row["values"]) == 1 for row in figures)
    assert all(row["values"][0] > 0 for row in figures if row["unit"] in {"µs", "ms"})


@pytest.mark.parametrize("call", ["none", "socket"])
def test_pools_and_threads_are_measured_with_each_kind_of_call(call: str, tmp_path: Path) -> None:
    cases = "map,imap,imap_unordered,green_imap,spawn,thread_map"
    peers = "triopool,gevent,eventlet,trio,anyio-asyncio,asyncio,concurrent"
    options = ["--size", "1,3", "--items", "20,40", "--rounds", 1, "--output", tmp_path]
    done = bench("--case", cases, "--peer", peers, "--call", call, *options)
    assert (done.returncode, done.stderr) == (0, "")
    figures = measured(tmp_path)["figures"]
    ours = [row for row in figures if row["peer"] == "triopool"]
    assert {(row["call"], row["size"], row["items"]) for row in ours} == {
        (call, size, items) for size in (1, 3) for items in (20, 40)
    }
    assert len(ours) == 6 * 4
    assert {"trio", "anyio-asyncio", "asyncio", "concurrent"} < {row["peer"] for row in figures}


def test_a_run_shows_aims_and_ratios_before_the_figures(tmp_path: Path) -> None:
    # With the settings of the case, which are those of an aim.
    asked = ["--case", "executor_map,executor_submit", "--peer", "triopool,concurrent"]
    done = bench(*asked, "--rounds", 2, "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "figures.md").read_text(encoding="utf-8")
    assert text.partition("\n\n")[2] in done.stdout
    places = [text.index(part) for part in ("at most", "triopool's figure by that of", "±")]
    assert places == sorted(places)
    assert text.count(" met |") + text.count(" missed |") == 2
    data = measured(tmp_path)
    assert [aim["at_most"] for aim in data["aims"]] == [0.6, 1.15]
    assert data["about"]["python"].endswith(sys.version.split()[0])


def kept(**ratios: float) -> dict[str, Any]:
    """What `record` writes, with few items."""
    rows = []
    for case, ratio in ratios.items():
        point = {"case": case, "call": "checkpoint", "size": 10, "items": 100}
        rows.append({"point": point, "peer": "trio", "beside": point, "ratio": ratio})
    python = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
    return {python: {"about": {}, "ratios": rows}}


def test_the_check_fails_on_a_loss_and_says_which(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    path.write_text(json.dumps(kept(map=1e9, spawn=1e-9)), encoding="utf-8")
    done = bench("check", "--ratios", path, "--rounds", 1)
    assert done.returncode == 1
    rows = {line.split(",")[0].strip("| "): line for line in done.stdout.splitlines()}
    assert "LOST" in rows["spawn"]
    assert "better" in rows["map"]
    assert "LOST" not in rows["map"]
    assert "More than a quarter is lost" in done.stderr
    assert "spawn, join" in done.stderr
    assert "map" not in done.stderr


def test_the_check_passes_where_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    path.write_text(json.dumps(kept(map=1e9, spawn=1e-9)), encoding="utf-8")
    done = bench("check", "--ratios", path, "--rounds", 1, "--case", "map")
    assert (done.returncode, done.stderr) == (0, "")
    assert "spawn" not in done.stdout


def test_what_is_recorded_can_be_checked_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    other = {"python 1.0": {"about": {}, "ratios": []}}
    path.write_text(json.dumps(kept(map=1e9) | other), encoding="utf-8")
    done = bench("record", "--ratios", path, "--rounds", 1, "--case", "executor_submit")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["python 1.0"] == other["python 1.0"]
    (ours,) = (entry for name, entry in data.items() if name != "python 1.0")
    assert [row["point"]["case"] for row in ours["ratios"]] == ["map", "executor_submit"]
    # Whatever was measured here, a thousand times as much is no loss.
    ours["ratios"][1]["ratio"] *= 1000
    path.write_text(json.dumps(data), encoding="utf-8")
    assert bench("check", "--ratios", path, "--rounds", 1).returncode == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--peer", "tokio"], "no such peer: tokio; there are triopool, trio, gevent"),
        (["--case", "map,mop"], "no such case: mop; there are map, map_generator"),
        (["--call", "http"], "no such call: http; there are checkpoint, none, socket"),
        (["--items", "0"], "a number from 1 on, and not '0'"),
        (["--size", "ten"], "a number from 1 on, and not 'ten'"),
        (["--rounds", "x"], "a number from 1 on, and not 'x'"),
        (["--case", "thread_map", "--call", "checkpoint"], "thread_map has calls of none, socket"),
        (["--call", "socket", "--size", "10000"], "pools of at most 500"),
        (["fast"], "invalid choice: 'fast'"),
        (["check", "--size", "3"], "check takes no --size"),
        (["check", "--ratios", "no such file"], "there is no no such file"),
        (["run", "--from", "file.json"], "run takes no --from"),
    ],
)
def test_bad_usage_is_told(args: list[str], said: str) -> None:
    done = bench(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_check_says_when_nothing_is_kept_for_this_python(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    path.write_text("{}", encoding="utf-8")
    done = bench("check", "--ratios", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "`record` adds it" in done.stderr


def test_the_check_says_which_peer_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    data = kept(map=1.0)
    for entry in data.values():
        entry["ratios"][0]["peer"] = "tokio"
    path.write_text(json.dumps(data), encoding="utf-8")
    done = bench("check", "--ratios", path)
    assert done.returncode == 2
    assert "not installed: tokio" in done.stderr


def test_a_peer_that_fails_ends_the_run_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    data = kept(map=1.0)
    for entry in data.values():
        row = entry["ratios"][0]
        # In threads there are no checkpoints.
        row["point"] = row["beside"] = row["point"] | {"case": "thread_map"}
    path.write_text(json.dumps(data), encoding="utf-8")
    done = bench("check", "--ratios", path, "--rounds", 1)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("triopool failed in ThreadPool.map")


PUBLISH = """
import sys
sys.path.insert(0, sys.argv[1])
import publish
page = publish.PAGE.read_text(encoding="utf-8")
print(publish.fill(page, dict.fromkeys(["about", "aims", "tables", "profile"], "NEW")))
print(publish.fill_row(publish.README.read_text(encoding="utf-8"), {}))
"""


def test_the_docs_have_a_place_for_all_that_publish_fills_in() -> None:
    program = [sys.executable, "-X", "utf8", "-c", PUBLISH, str(HOME)]
    done = subprocess.run(program, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text.count("\nNEW\n") == 4
    assert "| Time for a call: `map` · iterator · `spawn` and `join` | 1 · 1 · 1 |" in text
