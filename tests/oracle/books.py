"""Keeps the books of a program of threads, so that one sees when nothing moves any more.

Threads are real, so whoever runs a program cannot tell from the loop whether something is still on
its way. But the books say what has to come: which calls were asked for, which of them hold out at
a gate, and which steps are due. It is calm when all that has come. Both sides use this module.
"""

import threading
from collections import Counter

from oracle.plain import Boom


class Books:
    """Of one program.

    Args:
      program: what is run.
      ours: whether it runs on triopool, where the rows of a map that failed never begin if they
        have not yet, and those of an iterator wait until half of the results are read.
    """

    def __init__(self, program, ours):
        self.calls = program["calls"]
        self.steps = program["steps"]
        self.limit = program["size"]
        self.ours = ours
        self.gates = [threading.Event() for _ in self.calls]
        self.lock = threading.Lock()
        self.begun = []
        self.at_gate = set()
        self.ended = set()
        self.beyond = []  # calls that began when as many ran as may
        self.called_back = []
        self.asked = []  # steps
        self.done = {}  # {step: its outcome}
        self.seen = set()  # steps
        self.series = {}  # {iterator: (rows, maxsize, whether they are in order)}
        self.reads = {}  # {iterator: the steps that read it}
        self.size = None  # how many threads there are to be

    def call(self, number):
        """What the pool is to run, in a thread."""
        fate = self.calls[number]
        with self.lock:
            if len(self.begun) - len(self.ended) >= self.limit:
                self.beyond.append(number)
            self.begun.append(number)
        if fate["waits"]:
            with self.lock:
                self.at_gate.add(number)
            self.gates[number].wait()
        with self.lock:
            self.at_gate.discard(number)
            self.ended.add(number)
        if fate["fails"]:
            raise Boom(number)
        return number

    def note(self, number):
        """A step is about to be done."""
        word, *args = self.steps[number]
        self.asked.append(number)
        self.size = None
        if word in ("imap", "imap_unordered"):
            rows, iterator, maxsize = args
            self.series[iterator] = rows, maxsize, word == "imap"
            self.reads[iterator] = []
        elif word == "next" and args[0] in self.reads:
            self.reads[args[0]].append(number)
        elif word == "release":
            self.gates[args[0]].set()
        elif word == "open":
            self.open()
        elif word == "maxsize":
            self.limit = args[0]
        elif word == "size" and 0 <= args[0] <= self.limit:
            self.size = args[0]

    def open(self):
        for gate in self.gates:
            gate.set()

    # What has to come

    def is_over(self, calls):
        return self.ended.issuperset(calls)

    def has_failed(self, rows):
        return self.ours and any(row in self.ended and self.calls[row]["fails"] for row in rows)

    def wanted(self):
        """The calls that have to run, and are not over."""
        calls = []
        for number in self.asked:
            word, *args = self.steps[number]
            if word in ("spawn", "apply", "apply_async"):
                calls.append(args[0])
            elif word == "map":
                failed = self.has_failed(args[0])
                calls += [row for row in args[0] if not failed or row in self.begun]
        for iterator, (rows, maxsize, _) in self.series.items():
            may_begin = self.may_begin(iterator)
            unread = len(self.ended.intersection(rows)) - self.results_read(iterator)
            if self.ours and maxsize is not None and 2 * unread > maxsize:
                may_begin = [row for row in rows if row in self.begun]
            calls += may_begin
        return [call for call in calls if call not in self.ended]

    def may_begin(self, iterator):
        rows, maxsize, _ = self.series[iterator]
        return rows if maxsize is None else rows[: maxsize + self.results_read(iterator)]

    def are_free(self):
        """Whether all iterators may begin what they have."""
        return all(maxsize is None for _, maxsize, _ in self.series.values())

    def results_read(self, iterator):
        return sum(number in self.done for number in self.reads[iterator])

    def is_due(self, number, wanted):
        """Whether a step has to be over by now."""
        word, *args = self.steps[number]
        if word == "spawn":
            return args[0] in self.begun
        if word in ("apply", "get"):
            return args[0] in self.ended
        if word == "map":
            rows = args[0]
            return self.is_over([r for r in rows if r in self.begun or not self.has_failed(rows)])
        if word == "next" and args[0] in self.series:
            rows, _, ordered = self.series[args[0]]
            at = self.reads[args[0]].index(number)
            over = rows[: at + 1] if ordered else [row for row in rows if row in self.ended]
            return self.is_over(rows if at >= len(over) else over)
        return not (word == "join" and wanted)

    # What one sees

    def is_calm(self, length, size):
        """Whether all has come that had to; told the pool's `len` and `size`."""
        if self.beyond:
            return True  # for this has gone wrong, and may never be
        with self.lock:
            wanted = self.wanted()
            held = [number for number in self.at_gate if not self.gates[number].is_set()]
            running = len(self.begun) - len(self.ended)
            due = [number for number in self.asked if self.is_due(number, wanted)]
            back = self.to_call_back()
        # What waits there may be in the queue of the pool, or not.
        queued = len(wanted) > self.limit or not (self.ours or self.are_free())
        return (
            running == len(held) >= min(self.limit, len(wanted))
            and all(number in self.done for number in due)
            and sorted(self.called_back) == back
            and (length == running or queued)
            and (size <= self.limit or bool(wanted))
            and (self.size is None or size == self.size)
        )

    def to_call_back(self):
        return sorted(
            self.steps[number][1]
            for number in self.asked
            if self.steps[number][0] == "apply_async"
            and self.steps[number][1] in self.ended
            and not self.calls[self.steps[number][1]]["fails"]
        )

    def look(self):
        """What is worth comparing after a step."""
        with self.lock:
            wanted = self.wanted()
            begun = set(self.begun)
            free = len(self.begun) - len(self.ended) < self.limit
            news = [number for number in self.done if number not in self.seen]
            self.seen.update(news)
            may_begin = {each: set(self.may_begin(each)) for each in self.series}
            return {
                "early": [number for number in news if not self.is_due(number, wanted)],
                "ahead": [
                    each
                    for each, (rows, *_) in self.series.items()
                    if begun.intersection(rows) - may_begin[each]
                ],
                "behind": [each for each, rows in may_begin.items() if free and rows - begun],
            }

    def sum_up(self, trace):
        """All that there is to compare, when the program is over."""
        return {
            "looks": trace,
            "outcomes": [self.done.get(number) for number in range(len(self.steps))],
            "beyond": self.beyond,
            "begun": dict(Counter(map(str, self.begun))),
        }
