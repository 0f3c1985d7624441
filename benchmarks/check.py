"""The guard against getting slower: the ratios that are kept, and what has become of them.

`ratios.json` has those of each version of Python, since they differ from one to the next. A ratio
is taken within one run, so that it means the same on a machine that is slow or busy; one that
seems lost is measured again.
"""

import json
import sys
from dataclasses import asdict
from statistics import median

from aims import Ratio
from peers import OURS
from points import Point, Section
from report import machine, number, table
from turns import measure

LOSS = 1.25  # so many times the kept ratio is a loss
PYTHON = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"


def medians(ratios, rounds):
    """The ratios now, each from figures that were taken in turn."""
    points = dict.fromkeys(p for ratio in ratios for p in (ratio.point, ratio.beside))
    sections = []
    for point in points:
        peers = {OURS, *(ratio.peer for ratio in ratios if point in (ratio.point, ratio.beside))}
        sections.append(Section("", [point], rounds, tuple(peers)))
    figures = measure(sections, peers_of(ratios))
    return {ratio: median(ratio.of(figures)) for ratio in ratios}


def peers_of(ratios):
    return list(dict.fromkeys([OURS, *(ratio.peer for ratio in ratios)]))


def record(path, ratios, rounds):
    """Measure these ratios, and keep them in place of others of the same cases."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before = (load(path) or {}) if path.exists() else {}
    now = medians(ratios, rounds)
    cases = {ratio.point.case for ratio in ratios}
    rows = {ratio: value for ratio, value in before.items() if ratio.point.case not in cases} | now
    kept[PYTHON] = {
        "about": machine(peers_of(rows)),
        "ratios": [{**asdict(ratio), "ratio": round(value, 4)} for ratio, value in rows.items()],
    }
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(["ratio", "kept"], [[str(ratio), number(value)] for ratio, value in now.items()]))


def load(path):
    """{ratio: value} of this version of Python, or None if there are none."""
    rows = json.loads(path.read_text(encoding="utf-8")).get(PYTHON, {}).get("ratios")
    return rows and {
        Ratio(Point(**row["point"]), row["peer"], Point(**row["beside"])): row["ratio"]
        for row in rows
    }


def check(kept, rounds):
    """Print what has become of the ratios, and return those that are lost."""
    now = medians(kept, rounds)

    def is_lost(ratio):
        return now[ratio] > LOSS * kept[ratio]

    if doubtful := [ratio for ratio in kept if is_lost(ratio)]:
        again = medians(doubtful, rounds)
        now.update((ratio, min(now[ratio], again[ratio])) for ratio in doubtful)
    lost = [ratio for ratio in kept if is_lost(ratio)]
    rows = []
    for ratio, value in kept.items():
        better = "better: record it" if now[ratio] * LOSS < value else ""
        said = "LOST" if ratio in lost else better
        rows.append([str(ratio), number(value), number(now[ratio]), said])
    print(table(["ratio", "kept", "now", ""], rows))
    return lost
