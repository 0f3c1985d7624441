"""Random programs in the words that pools of gevent or eventlet and those of triopool share.

A program is plain data, so that each of them can run it in a way of its own. It has calls, and
steps of whoever uses the pool. Each step is done by somebody who may wait; the next one is done
when nothing moves any more. So what happens in a step does not depend on how long anything takes.
"""

from __future__ import annotations

import random
from typing import Any

Program = dict[str, Any]

# {word: how often}; "c" stands for a new call, "C" for some, "o" for an old one, and "i" for an
# iterator; those of a pile are words for whoever has the pile.
GEVENT = {
    "spawn c": 6,
    "apply c": 3,
    "apply_async c": 3,
    "start c": 2,
    "map C": 3,
    "map_async C": 1,
    "imap C": 3,
    "imap_unordered C": 3,
    "next i": 8,
    "release o": 14,
    "get o": 3,
    "join_task o": 1,
    "kill_task o": 4,
    "killone o": 2,
    "kill": 1,
    "join": 2,
    "join_raising": 1,
    "wait_available": 1,
    # These end by themselves, at once, even if what they ask for has not come.
    "get_now o": 1,
    "join_task_now o": 1,
    "kill_task_now o": 1,
    "killone_now o": 1,
    "kill_now": 1,
    "join_now": 1,
    "start_now c": 1,
    "start_timeout_now c": 1,
    "add_now o": 1,
    "add_timeout_now o": 1,
    "wait_available_now": 1,
    "elsewhere c": 1,
    "add o": 2,
    "discard o": 1,
    "link o": 1,
    "link_value o": 1,
    "link_exception o": 1,
    "unlink o": 1,
    "cancel s": 2,
}
EVENTLET = {
    "spawn c": 6,
    "spawn_n c": 3,
    "imap C": 2,
    "starmap C": 2,
    "next i": 6,
    "release o": 14,
    "get o": 3,
    "kill_task o": 4,
    "cancel_task o": 1,
    "join": 2,
    "resize": 2,
    "link o": 2,
    "unlink o": 1,
    "pile.spawn c": 5,
    "pile.next": 5,
    "cancel s": 1,
}
INSIDE = {"gevent": ["apply", "spawn", "map", "join"], "eventlet": ["spawn", "spawn_n", "join"]}


def generate(rng: random.Random, peer: str) -> Program:
    """One program. Each uses only some of the words, so that those meet more often."""
    words = GEVENT if peer == "gevent" else EVENTLET
    kept = {w: n for w, n in words.items() if w in ("spawn c", "release o") or rng.random() < 0.5}
    kind = "GreenPool" if peer == "eventlet" else rng.choice(["Pool", "Pool", "Pool", "Group"])
    program: Program = {
        "kind": kind,
        "size": None if kind == "Group" else rng.choice([1, 2, 3, 2, 1, 0]),
        "calls": [],
        "steps": [],
    }
    failing = rng.choice([0, 0.2, 0.4])
    nesting = rng.choice([0, 0, 0.2])

    def call(depth: int = 0) -> int:
        inside = []
        while depth < 2 and rng.random() < nesting:
            word = rng.choice(INSIDE[peer])
            # Rows have nothing inside: who asks first, they or their map, would be open.
            rows = [call(2) for _ in range(2)] if word == "map" else []
            inside.append([word, *(rows if rows or word == "join" else [call(depth + 1)])])
        fate = {"fails": rng.random() < failing, "waits": rng.random() < 0.7, "inside": inside}
        program["calls"].append(fate)
        return len(program["calls"]) - 1

    iterators = 0
    for at in range(rng.randint(4, 18)):
        (word,) = rng.choices(list(kept), list(kept.values()))
        name, _, kind = word.partition(" ")
        step: list[Any] = [name]
        if kind == "c":
            step.append(call(2 if name == "elsewhere" else 0))
        elif kind == "C":
            most = 4 if peer == "gevent" or rng.random() < 0.3 else program["size"]
            step.append([call(2) for _ in range(rng.randint(0, most))])
        elif kind == "o":
            if not program["calls"]:
                continue
            step.append(rng.randrange(len(program["calls"])))
        elif kind == "i":
            if not iterators:
                continue
            step.append(rng.randrange(iterators))
        elif kind == "s":
            step.append(rng.randint(0, at))
        if name in ("imap", "imap_unordered", "starmap"):
            step.append(iterators)
            iterators += 1
            step.append(rng.choice([None, None, 1, 2, 3]) if peer == "gevent" else None)
        if name == "resize":
            step.append(rng.randint(0, 4))
        program["steps"].append(step)
    # In the end all may go.
    program["steps"] += [["release", number] for number in range(len(program["calls"]))]
    return program


def shrink(program: Program, fails: Any) -> Program:
    """A smaller program that still fails: without steps, and with simpler calls."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(program):
            if fails(candidate):
                program = candidate
                smaller = True
                break
    return program


def _smaller(program: Program) -> Any:
    steps, calls = program["steps"], program["calls"]
    for size in (8, 4, 2, 1):
        for at in range(0, len(steps), size):
            without = [["nothing"]] * len(steps[at : at + size])
            if steps[at : at + size] != without:
                yield {**program, "steps": [*steps[:at], *without, *steps[at + size :]]}
    for at, step in enumerate(steps):
        if len(step) > 1 and isinstance(step[1], list) and step[1]:
            for row in range(len(step[1])):
                rows = [*step[1][:row], *step[1][row + 1 :]]
                yield {
                    **program,
                    "steps": [*steps[:at], [step[0], rows, *step[2:]], *steps[at + 1 :]],
                }
    plain = {"fails": False, "waits": True, "inside": []}
    for at, fate in enumerate(calls):
        for key, value in plain.items():
            if fate[key] != value:
                yield {**program, "calls": [*calls[:at], {**fate, key: value}, *calls[at + 1 :]]}
