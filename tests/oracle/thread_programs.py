"""Random programs for the threads of gevent and of triopool, and what they have to agree on.

A program has calls and steps as those of `programs` have, and a step is done when the one before
has come to rest. Which of two threads is faster nobody knows, though. So each side is held against
its own books after each step, and only what each step has come to is compared with the other side.

Of gevent's threads some things are not asked, for they hang or depend on the moment: to resize
the pool to less, but when it is idle; and when `join` is over, which polls, and may see no call
between two that wait.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from oracle.differences import Unlisted

Program = dict[str, Any]

# {word: how often}, with the letters of `programs`, and "a" for a call of `apply_async`.
WORDS = {
    "spawn c": 5,
    "apply c": 3,
    "apply_async c": 3,
    "map C": 3,
    "imap C": 3,
    "imap_unordered C": 3,
    "next i": 6,
    "release o": 8,
    "get o": 4,
    "get_now a": 1,
    "join": 1,
    "maxsize": 1,
}


def generate(rng: random.Random) -> Program:
    """One program, of phases; between them the pool is idle, and can be made smaller."""
    return _Writer(rng).write()


class _Writer:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.words = {w: n for w, n in WORDS.items() if w == "spawn c" or rng.random() < 0.6}
        self.failing = rng.choice([0, 0.2, 0.4])
        self.maxsize = rng.choice([1, 2, 3, 2, 1, 0])
        self.calls: list[dict[str, Any]] = []
        self.steps: list[list[Any]] = []
        self.single: list[int] = []  # calls that have a handle
        self.queued: list[int] = []  # those of them that do not wait for it
        self.shut: set[int] = set()  # calls that wait at their gates
        self.iterators: dict[int, int] = {}  # {iterator: how many reads are to come}
        self.count = 0  # of iterators

    def write(self) -> Program:
        size = self.maxsize
        for _ in range(self.rng.randint(1, 3)):
            for _ in range(self.rng.randint(2, 7)):
                (word,) = self.rng.choices(list(self.words), list(self.words.values()))
                self.add(*word.partition(" ")[::2])
            self.end_phase()
        return {"kind": "ThreadPool", "size": size, "calls": self.calls, "steps": self.steps}

    def call(self) -> int:
        fails, waits = self.rng.random() < self.failing, self.rng.random() < 0.6
        self.calls.append({"fails": fails, "waits": waits, "inside": []})
        number = len(self.calls) - 1
        self.shut |= {number} if waits else set()
        return number

    def add(self, word: str, kind: str) -> None:
        step: list[Any] = [word]
        if kind == "c":
            step.append(self.call())
            if word != "apply":
                self.single.append(step[1])
            if word == "apply_async":
                self.queued.append(step[1])
        elif kind == "C":
            step.append([self.call() for _ in range(self.rng.randint(0, 5))])
        elif word == "maxsize":
            self.maxsize += self.rng.randint(0, 2)
            step.append(self.maxsize)
        elif kind:
            some: Any = {
                "i": [each for each, left in self.iterators.items() if left],
                "o": self.single if word == "get" else range(len(self.calls)),
                "a": [number for number in self.queued if number in self.shut],
            }[kind]
            if not some:
                return
            step.append(self.rng.choice(some))
        if word in ("imap", "imap_unordered"):
            self.iterators[self.count] = len(step[1]) + 1
            step += [self.count, self.rng.choice([None, None, 1, 2, 3])]
            self.count += 1
        elif word == "next":
            self.iterators[step[1]] -= 1
        elif word == "release":
            self.shut.discard(step[1])
        self.steps.append(step)

    def end_phase(self) -> None:
        if not self.maxsize:
            self.maxsize = 1
            self.steps.append(["maxsize", 1])
        self.steps.append(["open"])
        self.shut.clear()
        for iterator, left in self.iterators.items():
            self.steps += [["next", iterator]] * left
        self.iterators.clear()
        if self.rng.random() < 0.5:
            self.maxsize = self.rng.randint(0, 3)
            self.steps.append(["maxsize", self.maxsize])
        if self.rng.random() < 0.5:
            self.steps.append(["size", self.rng.randint(-1, 4)])


class ThreadComparison:
    """Of one program; `met` are the names of the differences that were met."""

    def __init__(self, program: Program, tolerated: set[str]) -> None:
        self.program = program
        self.steps = program["steps"]
        self.calls = program["calls"]
        self.tolerated = tolerated
        self.met: list[str] = []
        self.compared = 0  # steps

    def run(self, there: dict[str, Any], here: dict[str, Any]) -> None:
        """Compare; raises Unlisted."""
        self.there, self.here = there, here
        for number, step in enumerate(self.steps):
            ours, theirs = here["outcomes"][number], there["outcomes"][number]
            self.ask(self.is_same(step, theirs, ours), f"step {number}, {step}", theirs, ours)
            self.look(number, there["looks"][number], here["looks"][number])
            self.compared += 1
        self.compare_series()
        self.compare_calls()

    def look(self, number: int, there: dict[str, Any], here: dict[str, Any]) -> None:
        """What is before its time, or after it."""
        self.ask(not here["ahead"], f"iterators begin too much in step {number}", here)
        self.ask(not here["early"], f"steps are over too early in step {number}", here)
        self.ask(not there["behind"], f"iterators wait there after step {number}", there)
        if here["behind"]:
            self.ask(self.allow("imap-refill"), f"iterators wait after step {number}", here)
        if there["ahead"]:
            self.ask(self.allow("imap-maxsize"), f"too much begins there in step {number}", there)
        for early in there["early"]:
            self.ask(self.may_be_early(early), f"{early} is over there in step {number}", there)

    def ask(self, fits: bool, *what: Any) -> None:
        if not fits:
            raise Unlisted(f"{what}\nthere {self.there}\nhere  {self.here}\n{self.program}")

    def allow(self, name: str) -> bool:
        if name not in self.tolerated:
            return False
        self.met.append(name)
        return True

    def is_same(self, step: list[Any], there: Any, here: Any) -> bool:
        word = step[0]
        if word == "next":
            return True  # see compare_series
        if there == here:
            return True
        if word == "join":
            returns = there == ["value", None] and here == ["value", True]
            return returns and self.allow("thread-join-returns")
        if word == "get_now":
            late = there == ["error", "Timeout"] and here == ["error", "TooSlowError"]
            return late and self.allow("get-timeout")
        if word == "map":
            failed = [["error", "Boom", row] for row in step[1] if self.calls[row]["fails"]]
            return here in failed and there in failed and self.allow("thread-map-fails")
        return False

    def may_be_early(self, number: int) -> bool:
        word, *args = self.steps[number]
        if word == "spawn":
            return self.allow("thread-spawn-full")
        if word == "map" and any(self.calls[row]["fails"] for row in args[0]):
            return self.allow("thread-map-fails")
        return word == "join"  # this nobody knows

    def compare_series(self) -> None:
        """Results come in order, or in any, and then the end."""
        for step in self.steps:
            if step[0] not in ("imap", "imap_unordered"):
                continue
            _, rows, iterator, _ = step
            reads = [n for n, step in enumerate(self.steps) if step == ["next", iterator]]
            results = [
                ["error", "Boom", row] if self.calls[row]["fails"] else ["value", row]
                for row in rows
            ]
            for side in self.there, self.here:
                got = [side["outcomes"][number] for number in reads]
                wanted = [*results, ["error", "StopIteration"]]
                if step[0] == "imap_unordered":
                    got[: len(rows)] = sorted(got[: len(rows)])
                    wanted[: len(rows)] = sorted(results)
                self.ask(got == wanted[: len(got)], step, got)

    def compare_calls(self) -> None:
        """Each call has run once, and never too many at once."""
        for side in self.there, self.here:
            self.ask(not side["beyond"], "too many at once", side["beyond"])
        asked: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for number, (word, *args) in enumerate(self.steps):
            if word in ("spawn", "apply", "apply_async"):
                asked[str(args[0])] += 1
            elif word in ("map", "imap", "imap_unordered"):
                asked.update(map(str, args[0]))
            if word == "map" and self.here["outcomes"][number][0] == "error":
                dropped.update(map(str, args[0]))
        self.ask(Counter(self.there["begun"]) == asked, "calls there", self.there["begun"])
        missing = asked - Counter(self.here["begun"])
        self.ask(Counter(self.here["begun"]) + missing == asked, "calls", self.here["begun"])
        if missing:
            fits = missing <= dropped and self.allow("thread-map-fails")
            self.ask(fits, "calls that never ran", missing)
