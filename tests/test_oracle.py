"""Random programs come to the same on gevent, on eventlet and here, but for listed differences.

`oracle` has the programs, what runs them, and what compares. `docs/design.md` has the list, and
`docs/threads.md` that of threads. TRIOPOOL_ORACLE_PROGRAMS is how many programs there are for each
of the three tests.
"""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from oracle import here, thread_programs, threads_here
from oracle.differences import Comparison, Unlisted, listed
from oracle.programs import generate, shrink
from oracle.thread_programs import ThreadComparison

PROGRAMS = int(os.environ.get("TRIOPOOL_ORACLE_PROGRAMS", "0"))
SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=not PROGRAMS,
    database=None,
    phases=[hypothesis.Phase.generate],  # programs are made smaller in a way of their own
    suppress_health_check=list(hypothesis.HealthCheck),
)

TOLERATED = set(listed())


class Peer:
    """A process with gevent or eventlet in it, which runs one program after the other."""

    def __init__(self, name):
        self.name = name
        command = [sys.executable, "-m", "oracle.peers", name]
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True)

    def run(self, program):
        self.process.stdin.write(json.dumps(program) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def compare(self, program, tolerated):
        """Returns the comparison, if there is no difference but tolerated ones."""
        if program["kind"] == "ThreadPool":
            comparison = ThreadComparison(program, tolerated)
            trace = threads_here.run(program)
        else:
            comparison = Comparison(program, tolerated)
            trace = here.run(program, tolerated)
        trace = json.loads(json.dumps(trace))
        comparison.run(self.run(program), trace)
        return comparison

    def differs(self, program):
        try:
            self.compare(program, TOLERATED)
        except Unlisted:
            return True
        return False

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def peer(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return Peer(name)


@pytest.fixture(scope="module")
def gevent():
    process = peer("gevent")
    yield process
    process.close()


@pytest.fixture(scope="module")
def eventlet():
    process = peer("eventlet")
    yield process
    process.close()


def compare_many(peer, generate, programs=120):
    """Compare many programs; the schedules here are random, too, and depend on the seeds."""
    compared = steps = 0

    @hypothesis.settings(SETTINGS, max_examples=PROGRAMS or programs)
    @hypothesis.given(seed=st.integers(0, 1 << 32), schedule=st.random_module())
    def compare(seed, schedule):
        nonlocal compared, steps
        program = generate(random.Random(seed))
        steps += len(program["steps"])
        try:
            compared += peer.compare(program, TOLERATED).compared
        except Unlisted:
            peer.compare(shrink(program, peer.differs), TOLERATED)
            raise

    compare()
    # What comes after a difference that changes the state is not compared.
    assert compared > steps / 2


def test_random_programs_come_to_the_same_as_on_gevent(gevent):
    compare_many(gevent, lambda rng: generate(rng, "gevent"))


def test_random_programs_come_to_the_same_as_on_eventlet(eventlet):
    compare_many(eventlet, lambda rng: generate(rng, "eventlet"))


def test_random_programs_of_threads_come_to_the_same_as_on_gevent(gevent):
    compare_many(gevent, thread_programs.generate, 40)


# {difference: (size, steps, what is said of calls that are not plain)}
NOW = {"waits": False}
FAILS = {"fails": True, "waits": False}
ON_GEVENT = {
    "add": (1, "elsewhere 0, release 0, spawn 1, add 0", {}),
    "discard-stranger": (1, "spawn 0, elsewhere 1, discard 1, spawn 2", {}),
    "apply-cancelled": (1, "apply 0, cancel 0", {}),
    "apply-async-full": (1, "spawn 0, apply_async 1, kill", {}),
    "map-fails": (2, "map [0;1], release 0", {0: {"fails": True}}),
    "map-cancelled": (1, "map [0], cancel 0", {}),
    "imap-kill": (1, "imap [0;1] 0 null, kill", {}),
    "imap-maxsize": (2, "imap [0;1] 0 1, next 0", {}),
    "imap-refill": (4, "imap [0;1;2;3] 0 3, next 0", {0: NOW, 1: NOW, 2: NOW}),
    "imap-place": (1, "imap [1;2;0] 0 2, spawn 3, next 0, release 2", {1: NOW}),
    "imap-readers": (2, "imap [0;1] 0 null, next 0, next 0, release 1, release 0", {}),
    "imap-end": (1, "imap [] 0 null, next 0, next 0", {}),
    "join-over": (0, "spawn 0, join", {}),
    "join-inside": (2, "spawn 0", {0: {"inside": [["join"]]}}),
    "join-raises": (1, "spawn 0, join_raising", {0: FAILS}),
    "killone-stranger": (1, "elsewhere 0, killone 0", {}),
    "deadlock": (1, "spawn 0", {0: {"inside": [["spawn", 1]]}}),
    "kill-returns": (1, "spawn 0, kill", {}),
    "group-available": (None, "wait_available_now", {}),
    "get-timeout": (1, "spawn 0, get_now 0", {}),
    "task-join-returns": (1, "spawn 0, join_task_now 0", {}),
    "task-kill-returns": (1, "spawn 0, kill_task_now 0", {}),
    "killed-value": (1, "spawn 0, kill_task 0", {}),
    "killed-get": (1, "spawn 0, kill_task 0, get 0", {}),
    "killed-link-value": (1, "spawn 0, link_value 0, kill_task 0", {}),
}
ON_EVENTLET = {
    "resize-more": (0, "spawn 0, resize 1", {}),
    "waiting-shrunk": (1, "spawn 0, resize 0", {}),
    "spawn-inside": (1, "spawn 0", {0: {"inside": [["spawn", 1]]}, 1: FAILS}),
    "spawn-n-inside": (1, "spawn 0", {0: {"inside": [["spawn_n", 1]]}}),
    "waitall-waiting": (0, "spawn 0, join", {}),
    "waitall-inside": (1, "spawn 0", {0: {"inside": [["join"]]}}),
    "imap-pool": (1, "spawn 0, imap [1] 0 null", {}),
    "imap-ahead": (1, "imap [0;1] 0 null", {0: NOW, 1: NOW}),
    "greenmap-readers": (2, "imap [0] 0 null, next 0, next 0", {}),
    "greenmap-end": (1, "imap [] 0 null, next 0, next 0", {}),
    "green-kill-returns": (1, "spawn 0, kill_task 0", {}),
    "killed-wait": (1, "spawn 0, kill_task 0, get 0", {}),
}

ON_THREADS = {
    "thread-spawn-full": (1, "spawn 0, spawn 1", {}),
    "thread-map-fails": (1, "map [0;1;2]", {0: FAILS}),
    "thread-join-returns": (1, "join", {}),
}


def written(kind, example):
    """A program that was written in short."""
    size, steps, fates = example
    plain = {"fails": False, "waits": True, "inside": []}
    return {
        "kind": kind,
        "size": size,
        "calls": [{**plain, **fates.get(number, {})} for number in range(4)],
        "steps": [
            [word if word[0].isalpha() and word != "null" else json.loads(word) for word in words]
            for words in (step.replace(";", ",").split() for step in steps.split(", "))
        ],
    }


@pytest.mark.parametrize("name", ON_GEVENT)
def test_a_listed_difference_to_gevent_is_met(gevent, name):
    kind = "Pool" if ON_GEVENT[name][0] is not None else "Group"
    check_difference(gevent, name, written(kind, ON_GEVENT[name]))


@pytest.mark.parametrize("name", ON_EVENTLET)
def test_a_listed_difference_to_eventlet_is_met(eventlet, name):
    check_difference(eventlet, name, written("GreenPool", ON_EVENTLET[name]))


@pytest.mark.parametrize("name", ON_THREADS)
def test_a_listed_difference_to_threads_of_gevent_is_met(gevent, name):
    check_difference(gevent, name, written("ThreadPool", ON_THREADS[name]))


def check_difference(peer, name, program):
    peer.compare(program, TOLERATED)
    with pytest.raises(Unlisted):
        peer.compare(program, TOLERATED - {name})


def test_each_difference_is_listed_once_and_has_an_example():
    assert sorted(listed()) == sorted([*ON_GEVENT, *ON_EVENTLET, *ON_THREADS])
