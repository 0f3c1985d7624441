"""Measure the threads of triopool beside those of others, in one run.

python benchmarks/threads.py           all of it, in about a minute
python benchmarks/threads.py --quick   a first idea, in seconds

As in `pools.py`, each peer runs in a process of its own, they take turns, round after round, and a
figure or a ratio is the median over the rounds. The function that is called returns its argument
and does nothing else, so what is measured is what a call costs beside its own time.

Of `trio.to_thread.run_sync` it takes what one would write by hand: for map, tasks that share an
iterator.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

from peers import measure
from pools import positive, ratio, version_of

SIZE = 4  # threads

CASES = {
    "map": "ThreadPool.map",
    "apply": "ThreadPool.apply",
    "executor_map": "ThreadPoolExecutor.map",
    "submit": "ThreadPoolExecutor.submit, result",
}

# So many times the peer's time, at most.
AIMS = [
    ("map", "concurrent", 0.25),
    ("map", "gevent", 0.1),
    ("map", "trio", 0.04),
    ("apply", "trio", 1.0),
    ("executor_map", "concurrent", 0.6),
    ("submit", "concurrent", 1.15),
]


def call(item):
    return item


def triopool():
    import trio

    import triopool

    async def map(n):
        async with triopool.ThreadPool(SIZE) as pool:
            await pool.map(call, range(n))

    async def apply(n):
        async with triopool.ThreadPool(SIZE) as pool:
            for item in range(n):
                await pool.apply(call, (item,))

    # These need no event loop, and do not mind one.
    async def executor_map(n):
        map_in(triopool.ThreadPoolExecutor, n)

    async def submit(n):
        submit_to(triopool.ThreadPoolExecutor, n)

    return trio.run, [map, apply, executor_map, submit]


def concurrent():
    from concurrent.futures import ThreadPoolExecutor

    def map(n):
        map_in(ThreadPoolExecutor, n)

    def apply(n):
        submit_to(ThreadPoolExecutor, n)

    def executor_map(n):
        map_in(ThreadPoolExecutor, n)

    def submit(n):
        submit_to(ThreadPoolExecutor, n)

    return None, [map, apply, executor_map, submit]


def gevent():
    from gevent.threadpool import ThreadPool

    def map(n):
        ThreadPool(SIZE).map(call, range(n))

    def apply(n):
        pool = ThreadPool(SIZE)
        for item in range(n):
            pool.apply(call, (item,))

    def submit(n):
        pool = ThreadPool(SIZE)
        for item in range(n):
            pool.spawn(call, item).get()

    return None, [map, apply, submit]


def trio():
    import trio

    async def map(n):
        results = [None] * n
        items = iter(range(n))
        limiter = trio.CapacityLimiter(SIZE)

        async def work():
            for item in items:
                results[item] = await trio.to_thread.run_sync(call, item, limiter=limiter)

        async with trio.open_nursery() as nursery:
            for _ in range(SIZE):
                nursery.start_soon(work)

    async def apply(n):
        for item in range(n):
            await trio.to_thread.run_sync(call, item)

    return trio.run, [map, apply]


def map_in(kind, n):
    with kind(SIZE) as executor:
        for _ in executor.map(call, range(n)):
            pass


def submit_to(kind, n):
    with kind(SIZE) as executor:
        for item in range(n):
            executor.submit(call, item).result()


PEERS = {peer.__name__: peer for peer in (triopool, concurrent, gevent, trio)}


def run(peer, items):
    """Microseconds for an item, in each case that the peer can do."""
    program = [sys.executable, "-W", "ignore", __file__, "--peer", peer, "--items", str(items)]
    done = subprocess.run(program, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"{peer} crashed with status {done.returncode}")
    return {case: seconds / items * 1e6 for case, seconds in json.loads(done.stdout).items()}


def run_here(peer, items):
    """Print, as JSON, the seconds that each case of a peer takes."""
    loop, cases = PEERS[peer]()
    json.dump({case.__name__: measure(loop, case, items) for case in cases}, sys.stdout)


def measure_all(peers, items, rounds):
    """{peer: {case: [microseconds in each round]}}."""
    figures = {peer: {} for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            for case, figure in run(peer, items).items():
                figures[peer].setdefault(case, []).append(figure)
    return figures


def show(title, peers, cell):
    """Print a table with a row for each case and a column for each peer."""
    print(f"\n{title:<36}" + "".join(f"{peer:>12}" for peer in peers))
    for case, label in CASES.items():
        cells = [cell(case, peer) for peer in peers]
        print(f"{label:<36}" + "".join(f"{text:>12}" for text in cells))


def report(figures):
    def times(case, peer):
        number = ratio(figures, case, peer)
        return "-" if number is None else f"{number:.2f}"

    def time(case, peer):
        return f"{median(figures[peer][case]):.2f}" if case in figures[peer] else "-"

    show("triopool's time by theirs", [peer for peer in figures if peer != "triopool"], times)
    show("microseconds for an item", list(figures), time)
    print()
    for case, peer, aim in AIMS:
        reached = ratio(figures, case, peer)
        if reached is not None:
            verdict = "met" if reached <= aim else "missed"
            print(f"aim: {case} in {aim} of {peer}'s time; it takes {reached:.3f}: {verdict}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=positive, default=10_000)
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--peers", default=",".join(PEERS), help="by default %(default)s")
    parser.add_argument("--quick", action="store_true", help="1,000 items and 3 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures into it")
    parser.add_argument("--peer", choices=PEERS, help="measure one in this process; print JSON")
    args = parser.parse_args()
    if args.peer:
        run_here(args.peer, args.items)
        return
    if args.quick:
        args.items, args.rounds = 1_000, 3
    wanted = args.peers.split(",")
    if unknown := set(wanted) - set(PEERS):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    versions = {peer: version_of(peer) for peer in wanted}
    peers = [peer for peer in wanted if versions[peer] is not None]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs; {SIZE} threads, "
        f"{args.items} items, {args.rounds} rounds"
    )
    print(", ".join(f"{peer} {versions[peer]}".rstrip() for peer in peers))
    for peer in wanted:
        if peer not in peers:
            print(f"{peer} is not installed, and left out")
    figures = measure_all(peers, args.items, args.rounds)
    report(figures)
    if args.json:
        settings = {"items": args.items, "rounds": args.rounds}
        known = {"settings": settings, "versions": versions, "microseconds": figures}
        args.json.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
