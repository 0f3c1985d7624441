"""Peers in turn: each round starts a process for each peer, and asks them for one point at a time.

A figure is taken by one process while all others wait for input, and what is compared is measured
next to each other in time, so that whatever else the machine does hits all alike.
"""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from peers import PEERS
from points import CASES, UNITS

HERE = Path(__file__).parent


class Worker:
    """The process of one peer."""

    def __init__(self, peer):
        self.peer = peer
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", HERE / "worker.py", peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._cases = None

    @property
    def cases(self):
        if self._cases is None:  # read late: the processes of all peers start up side by side
            self._cases = self._read("its start")
        return self._cases

    def measure(self, point, port):
        """One figure, in the unit of its case."""
        if point.case not in self.cases:
            return None
        case = CASES[point.case]
        print(json.dumps({**vars(point), "port": port}), file=self.process.stdin, flush=True)
        figure = self._read(point) * UNITS[case.unit]
        return figure / point.items if case.per_item else figure

    def _read(self, what):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.peer} failed in {what}, with status {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.kill()
        self.process.communicate()


@contextmanager
def server(sections):
    """The port of an echo server, if one is needed."""
    if not any(point.call == "socket" for section in sections for point in section.points):
        yield None
        return
    with subprocess.Popen([sys.executable, HERE / "echo.py"], stdout=subprocess.PIPE) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def measure(sections, peers, budget=None):
    """{(peer, point): [the figure of each round]}, in about so many seconds.

    On a machine that is too slow or too busy, there are fewer rounds, but two at least.
    """
    figures = {}
    started = monotonic()
    rounds = max(section.rounds for section in sections)
    with server(sections) as port:
        for number in range(rounds):
            if budget and number >= 2 and monotonic() - started > budget:
                print(f"There was time for {number} of {rounds} rounds only.\n")
                break
            first = number % len(peers)  # no peer always comes after the same
            order = peers[first:] + peers[:first]
            due = [section for section in sections if number < section.rounds]
            take_round(due, order, port, figures, f"round {number + 1} of {rounds}")
    return figures


def take_round(sections, peers, port, figures, title):
    workers = {peer: Worker(peer) for peer in peers}
    try:
        for section in sections:
            for point in section.points:
                for peer in peers:
                    if section.peers is None or peer in section.peers:
                        show_progress(f"{title}: {point}: {peer}")
                        figure = ask(workers, peer, point, port)
                        if figure is not None:
                            figures.setdefault((peer, point), []).append(figure)
    finally:
        show_progress("")
        for worker in workers.values():
            worker.close()


def ask(workers, peer, point, port):
    if CASES[point.case].fresh and point.case in workers[peer].cases:
        workers[peer].close()
        workers[peer] = Worker(peer)
    return workers[peer].measure(point, port)


def show_progress(text):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def installed(peers):
    return [peer for peer in peers if peer in PEERS and PEERS[peer].installed()]
