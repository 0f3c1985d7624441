"""Measure the pools of triopool beside those of gevent, eventlet and others, in one run.

python benchmarks/pools.py           all of it, in about a minute
python benchmarks/pools.py --quick   a first idea, in seconds

Each peer runs in a process of its own. They take turns, round after round, so that whatever else
the machine does hits them alike. A figure is the median over the rounds, and so is a ratio, which
is taken in each round.

Of bare Trio it takes what one would write by hand: for map, workers that share an iterator; for
imap_unordered, these with a memory channel; for spawn, a task for each call and a limiter.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from peers import PEERS, SIZE

CASES = {
    "map": "map",
    "imap": f"imap, maxsize={SIZE}",
    "imap_unordered": f"imap_unordered, maxsize={SIZE}",
    "green_imap": "GreenPool.imap",
    "spawn": "spawn, then join",
    "spawn_nowait": f"spawn_nowait, {SIZE} by {SIZE}",
}

# So many times the peer's time, at most, with one checkpoint in each call.
AIMS = [("map", "gevent", 0.3), ("imap", "gevent", 0.75), ("spawn", "gevent", 1.0)]


def version_of(peer):
    """The version of a peer, or None if it is not installed."""
    if find_spec(peer) is None:
        return None
    try:
        return version(peer)
    except PackageNotFoundError:  # asyncio, or a triopool that is only on the path
        return ""


def run(peer, items, checkpoints):
    """Microseconds for an item, in each case that the peer can do."""
    program = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("peers.py"))]
    done = subprocess.run(
        [*program, peer, str(items), str(checkpoints)], stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        sys.exit(f"{peer} crashed with status {done.returncode}")
    return {case: seconds / items * 1e6 for case, seconds in json.loads(done.stdout).items()}


def measure(peers, items, checkpoints, rounds):
    """{peer: {case: [microseconds in each round]}}."""
    figures = {peer: {} for peer in peers}
    for number in range(1, rounds + 1):
        for peer in peers:
            if sys.stderr.isatty():
                line = f"round {number} of {rounds}: {peer}"
                print(line, end="\x1b[K\r", file=sys.stderr, flush=True)
            for case, figure in run(peer, items, checkpoints).items():
                figures[peer].setdefault(case, []).append(figure)
    return figures


def ratio(figures, case, peer):
    """How triopool's time compares with a peer's, or None if one of them has no such case."""
    ours, theirs = (figures.get(name, {}).get(case) for name in ("triopool", peer))
    return median(a / b for a, b in zip(ours, theirs, strict=True)) if ours and theirs else None


def show(title, peers, cell):
    """Print a table with a row for each case and a column for each peer."""
    print(f"\n{title:<28}" + "".join(f"{peer:>10}" for peer in peers))
    for case, label in CASES.items():
        cells = [cell(case, peer) for peer in peers]
        print(f"{label:<28}" + "".join(f"{text or '-':>10}" for text in cells))


def report(figures):
    def time(case, peer):
        return case in figures[peer] and f"{median(figures[peer][case]):.2f}"

    def times(case, peer):
        number = ratio(figures, case, peer)
        return number is not None and f"{number:.2f}"

    show("microseconds for an item", list(figures), time)
    others = [peer for peer in figures if peer != "triopool"]
    if "triopool" in figures and others:
        show("triopool's time by theirs", others, times)


def judge(figures):
    """Print which aims are met."""
    print()
    for case, peer, aim in AIMS:
        reached = ratio(figures, case, peer)
        if reached is not None:
            verdict = "met" if reached <= aim else "missed"
            print(f"aim: {case} in {aim} of {peer}'s time; it takes {reached:.2f}: {verdict}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=positive, default=20_000)
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--checkpoints", type=int, default=1, help="in each call")
    parser.add_argument("--peers", default=",".join(PEERS), help="by default %(default)s")
    parser.add_argument("--quick", action="store_true", help="2,000 items and 3 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures into it")
    args = parser.parse_args()
    if args.quick:
        args.items, args.rounds = 2_000, 3
    wanted = args.peers.split(",")
    if unknown := set(wanted) - set(PEERS):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    versions = {peer: version_of(peer) for peer in wanted}
    peers = [peer for peer in wanted if versions[peer] is not None]

    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs; pools of {SIZE}, "
        f"{args.items} items, checkpoints in each call: {args.checkpoints}, {args.rounds} rounds"
    )
    print(", ".join(f"{peer} {versions[peer]}".rstrip() for peer in peers))
    for peer in wanted:
        if peer not in peers:
            print(f"{peer} is not installed, and left out")
    figures = measure(peers, args.items, args.checkpoints, args.rounds)
    report(figures)
    if args.checkpoints == 1:
        judge(figures)
    if args.json:
        settings = {"items": args.items, "rounds": args.rounds, "checkpoints": args.checkpoints}
        known = {"settings": settings, "versions": versions, "microseconds": figures}
        args.json.write_text(json.dumps(known, indent=2) + "\n")


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    main()
