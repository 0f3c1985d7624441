"""Compares what has happened there with what has happened here, but for the listed differences.

The list is in `docs/design.md` and, for threads, in `docs/threads.md`, where each difference that a
program can meet has a name. Here are, under these names, what a difference looks like. There are
two kinds. Some are only told in other words, or at another time, and can be put right. After others
the two pools are in different states, and the rest of the program is not compared.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"

# A row of the table that has a name in its last column.
NAMED = re.compile(r"^\|(?:[^|\n]*\|){3} `([a-z-]+)` \|$", re.MULTILINE)

# {a word: the name of what it tells here, and does not there}
RETURNS = {
    "join_task": "task-join-returns",
    "join_task_now": "task-join-returns",
    "kill_task": "task-kill-returns",
    "kill_task_now": "task-kill-returns",
    "kill": "kill-returns",
    "kill_now": "kill-returns",
    "killone": "kill-returns",
    "killone_now": "kill-returns",
    "wait_available": "group-available",
    "wait_available_now": "group-available",
}


def listed() -> list[str]:
    """The names of the differences that the pages list."""
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("design.md", "threads.md")]
    return [name for page in pages for name in NAMED.findall(page)]


class Unlisted(AssertionError):
    """A difference that is not in the list."""


class Comparison:
    """Of one program; `met` are the names of the differences that were met."""

    def __init__(self, program: dict[str, Any], tolerated: set[str]) -> None:
        self.program = program
        self.steps = program["steps"]
        self.tolerated = tolerated
        self.met: list[str] = []
        self.compared = 0  # steps
        self.waiting: dict[int, str] = {}  # {step: its word}, for what is not over here
        self.outcomes: dict[int, Any] = {}  # {step: what came of it here}
        self.loose: set[int] = set()  # steps whose ends come at another time there
        self.rows: dict[int, dict[str, Any]] = {}  # {call: the iterator that it is a row of}
        self.iterators = 0
        self.begun: set[int] = set()
        self.ended: dict[int, str] = {}
        self.size = size = program["size"]
        self.look: dict[str, Any] = {"full": size == 0, "free": size}
        self.ahead = False  # an iterator may have begun a row more there
        self.behind = False  # an iterator may have more room there
        self.ended_in: dict[int, int] = {}  # {call: the step}
        self.swaps: dict[int, int] = {}  # results that came at the same time
        self.full_async: set[int] = set()  # calls of apply_async that met a full pool

    def allow(self, name: str) -> bool:
        if name not in self.tolerated:
            return False
        self.met.append(name)
        return True

    def run(self, there: list[Any], here: list[Any]) -> None:
        """Compare step by step; raises Unlisted."""
        for number, step in enumerate(self.steps):
            if self.parts_before(step):
                return
            self.note(number, step, here[number])
            events = [list(each[0]) for each in (there[number], here[number])]
            looks = there[number][1], here[number][1]
            events, looks = self.put_right(number, events, looks)
            if sorted(events[0], key=str) != sorted(events[1], key=str) or looks[0] != looks[1]:
                if self.parts_after(number, step, *events):
                    return
                raise Unlisted(
                    f"step {number}, {step}:\nthere {events[0]}\n      {looks[0]}\n"
                    f"here  {events[1]}\n      {looks[1]}\nsteps {self.steps[:number]}\n"
                    f"{self.program}"
                )
            calls = looks[1].get("len", looks[1].get("running"))
            joins = {"join", "join_raising"} & set(self.waiting.values())
            if joins and not calls and not self.somebody_waits():
                raise Unlisted(f"join is not over after step {number}: {self.program}")
            limited = any(row["maxsize"] for row in self.rows.values())
            self.ahead |= limited and "next" in self.waiting.values()
            self.behind |= step[0] == "next" and self.is_large(step[1])
            self.compared += 1
            self.look = here[number][1]

    def note(self, number: int, step: list[Any], here: Any) -> None:
        """Keep in mind what happens here."""
        self.was_waiting = dict(self.waiting)
        self.was_begun = set(self.begun)
        word, *args = step
        self.waiting[number] = word
        if word in ("imap", "imap_unordered", "starmap"):
            for row in args[0]:
                ordered = word != "imap_unordered"
                self.rows[row] = {"maxsize": args[2], "series": args[1], "ordered": ordered}
            self.iterators += 1
        if word == "apply_async" and self.look.get("full"):
            self.full_async.add(args[0])
        if word == "cancel":
            self.waiting.pop(args[0], None)
        for event in here[0]:
            if event[0] == "done":
                self.outcomes[event[1]] = event[2]
                self.waiting.pop(event[1], None)
            elif event[0] == "begin":
                self.begun.add(event[1])
            elif event[0] == "end":
                self.ended[event[1]] = event[2]
                self.ended_in[event[1]] = number

    # What is known of this moment

    def somebody_waits(self) -> bool:
        """Whether calls may be about to come."""
        words = {"spawn", "spawn_n", "apply", "start", "add", "map", "map_async", "pile.spawn"}
        return bool(
            words & {*self.waiting.values(), *self.was_waiting.values()}
            or any(row not in self.was_begun for row in self.rows)
            or self.full_async - set(self.ended)
            or any(self.program["calls"][call]["inside"] for call in self.begun)
            or {"pile.spawn", "map_async"} & {step[0] for step in self.steps}
        )

    def word_of(self, event: list[Any]) -> str:
        return self.steps[event[1]][0] if event[0] == "done" else ""

    def is_large(self, series: int) -> bool:
        """Whether an iterator may have so many results that it makes a difference."""
        return any(
            row["series"] == series and (row["maxsize"] or 0) > 2 for row in self.rows.values()
        )

    # Differences that can be put right

    def put_right(self, number: int, events: Any, looks: Any) -> Any:
        there, here = events
        there = [self.with_value(self.reworded(event), looks[1]) for event in there]
        theirs, ours = {str(e): e for e in there}, {str(e): e for e in here}
        only_there = [e for key, e in theirs.items() if key not in ours]
        only_here = [e for key, e in ours.items() if key not in theirs]
        for event in only_there:
            if self.is_loose(event) or self.is_early_there(event) or self.is_moot_there(event):
                there.remove(event)
            else:
                self.match(event, there, only_here)
        for event in only_here:
            if self.is_loose(event) or (event in here and self.is_early_here(event)):
                here.remove(event)
        return [there, here], (self.looked(looks[0], looks[1]), looks[1])

    def reworded(self, event: list[Any]) -> list[Any]:
        """A killed call returns an object there, or raises what is no `Exception`."""
        if self.word_of(event) == "next" and event[2][-1] in self.swaps:
            number = self.swaps.pop(event[2][-1])
            kind = ["error", "Boom"] if self.ended[number] == "failed" else ["value"]
            return [*event[:2], [*kind, number]]
        if event[-1] == ["value", "GreenletExit"] and self.allow("killed-get"):
            return [*event[:-1], ["error", "TaskKilled"]]
        if event[-1] == ["error", "Timeout"] and self.allow("get-timeout"):
            return [*event[:-1], ["error", "TooSlowError"]]
        if event[-1] == ["error", "GreenletExit"] and self.allow("killed-wait"):
            return [*event[:-1], ["error", "TaskKilled"]]
        if event[-1] == ["error", "AssertionError"] and self.allow("waitall-inside"):
            return [*event[:-1], ["error", "RuntimeError"]]
        return event

    def with_value(self, event: list[Any], look: dict[str, Any]) -> list[Any]:
        """What returns nothing there tells something here, which has to be true."""
        ours = self.outcomes.get(event[1]) if event[0] == "done" else None
        word, *args = self.steps[event[1]] if ours else [""]
        if word not in RETURNS or event[2] != ["value", None] or ours == event[2]:
            return event
        over = look.get("tasks", {}).get(str(args[0]) if args else None, [True])[0]
        fits = ours == ["value", over]
        if word in ("kill_now", "kill_task_now", "killone_now"):  # it may be over by then, or not
            fits = ours in [["value", False], ["value", over]]
        name = RETURNS[word] if self.program["kind"] != "GreenPool" else "green-kill-returns"
        return [*event[:2], ours] if fits and self.allow(name) else event

    def is_loose(self, event: list[Any]) -> bool:
        """Whether this is the later end of something that is over in the other place."""
        if event[0] != "done" or event[1] not in self.loose:
            return False
        self.loose.remove(event[1])
        return True

    def is_early_there(self, event: list[Any]) -> bool:
        """Something is over there, and not here."""
        word = self.word_of(event)
        early = word in ("join", "join_raising") and event[1] in self.waiting
        name = "waitall-waiting" if self.program["kind"] == "GreenPool" else "join-over"
        if early and self.somebody_waits() and self.allow(name):
            self.loose.add(event[1])
            return True
        return False

    def is_moot_there(self, event: list[Any]) -> bool:
        """A link there hears of a killed call as of one that has succeeded."""
        killed = event[0] == "linked" and self.ended.get(event[1], "killed") == "killed"
        return killed and self.allow("killed-link-value")

    def is_early_here(self, event: list[Any]) -> bool:
        """Something is over here, and not there."""
        word = self.word_of(event)
        if word == "next" and event[2] == ["error", "StopIteration"]:
            name = "imap-end" if self.program["kind"] != "GreenPool" else "greenmap-end"
            return self.allow(name)
        if word == "join" and self.program["kind"] == "GreenPool":
            return self.allow("waitall-waiting")
        if word == "add" and self.allow("add"):
            self.loose.add(event[1])
            return True
        return False

    def match(self, event: list[Any], there: list[Any], only_here: list[Any]) -> None:
        """The same event with another outcome."""
        ours = next((each for each in only_here if each[:2] == event[:2]), None)
        if ours is None or event[0] != "done":
            return
        word = self.word_of(event)
        if word == "join_raising":
            told = [*event[2][2:], *(ours[2][2] if ours[2][0] == "error" else [])]
            failed = {call for call, how in self.ended.items() if how == "failed"}
            fits = failed.issuperset(told) and self.allow("join-raises")
        elif word == "join_now":
            over = event[2] == ["value", True] and ours[2] == ["value", False]
            fits = over and self.somebody_waits() and self.allow("join-over")
        elif word in ("add_now", "add_timeout_now"):
            over = ours[2] == ["value", None] and event[2] == ["error", "PoolFull"]
            fits = over and self.allow("add")
        elif word in ("killone", "killone_now") and ours[2] == ["error", "ValueError"]:
            fits = self.allow("killone-stranger")
        elif word in ("map", "map_async") and ours[2] == ["error", "TaskKilled"]:
            fits = "GreenletExit" in str(event[2]) and self.allow("killed-get")
        elif word == "next" and self.is_tie(event[2][-1], ours[2][-1]):
            # No difference: what is done at the same time is in no order.
            self.swaps[ours[2][-1]] = event[2][-1]
            fits = True
        else:
            fits = False
        if fits:
            there[there.index(event)] = ours

    def is_tie(self, one: Any, other: Any) -> bool:
        """Whether these are results of one unordered iterator that ended in the same step."""
        rows = [self.rows.get(call) for call in (one, other)]
        return (
            None not in rows
            and rows[0]["series"] == rows[1]["series"]
            and not rows[0]["ordered"]
            and self.ended_in.get(one) == self.ended_in.get(other)
        )

    def looked(self, there: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
        shrunk = "waiting" in there and there["free"] < 0
        if shrunk and there != here and self.allow("waiting-shrunk"):
            return {**there, "waiting": there["waiting"] + there["free"]}
        tasks = {}
        for number, task in there.get("tasks", {}).items():
            ours = here["tasks"].get(number)
            if task[1:3] == [True, "GreenletExit"] and self.allow("killed-value"):
                task = [task[0], False, None, task[3]]
            unlike = ours is not None and task != ours and task[:3] == ours[:3]
            if unlike and int(number) in self.full_async and self.allow("apply-async-full"):
                task = ours
            tasks[number] = task
        return {**there, "tasks": tasks} if "tasks" in there else there

    # Differences after which the states differ

    def parts_before(self, step: list[Any]) -> bool:
        """What this step does is another thing there."""
        word, *args = step
        tasks = self.look.get("tasks", {})
        task = tasks.get(str(args[0])) if args and isinstance(args[0], int) else None
        if word == "cancel":
            target = self.waiting.get(args[0])
            if target == "apply" and self.allow("apply-cancelled"):
                return True
            return target == "map" and self.allow("map-cancelled")
        if word == "next" and "next" in self.waiting.values():
            at = [number for number, each in self.waiting.items() if each == "next"]
            if any(self.steps[number] == step for number in at):
                green = self.program["kind"] == "GreenPool"
                return self.allow("greenmap-readers" if green else "imap-readers")
        if word in ("add_now", "add_timeout_now"):
            word = "add"
        elif word in ("kill_now", "kill_task_now", "killone_now"):
            word = word[: -len("_now")]
        if word == "discard" and task is not None and not task[3]:
            return self.program["kind"] == "Pool" and self.allow("discard-stranger")
        if word == "add" and task is not None and task[3]:
            return self.allow("add")
        untracked = self.full_async - set(self.ended)
        if word in ("kill", "join", "join_raising") and untracked:
            return self.allow("apply-async-full")
        concerns = word in ("killone", "kill_task", "add", "discard") and args[0] in untracked
        if concerns and args[0] in self.full_async:
            return self.allow("apply-async-full")
        maps = {"map", "map_async"} & set(self.waiting.values())
        if word == "kill" and (maps or any(row not in self.ended for row in self.rows)):
            return self.allow("imap-kill")
        if word == "resize":
            grows, self.size = args[0] > self.size, args[0]
            return grows and self.look.get("waiting", 0) > 0 and self.allow("resize-more")
        return False

    def parts_after(self, number: int, step: list[Any], there: list[Any], here: list[Any]) -> bool:
        """What has happened in this step was another thing there."""
        green = self.program["kind"] == "GreenPool"
        for event in here:
            word = self.word_of(event) or event[0]
            outcome = event[-1]
            failed = isinstance(outcome, list) and outcome[:2] == ["error", "Boom"]
            if failed and (word in ("map", "map_async") or event[2:3] == ["map"]):
                return self.allow("map-fails")
            if outcome == ["error", "PoolDeadlock"]:
                return self.allow("deadlock")
            if green:
                pass
            elif event[0] == "inside" and outcome == ["error", "RuntimeError"]:
                return self.allow("join-inside")
            if event[0] == "inside" and event[2] == "spawn_n":
                return self.allow("spawn-n-inside")
        killed = [e[1] for e in here if e[0] == "end" and e[2] == "killed"]
        inside = {call: self.program["calls"][call]["inside"] for call in self.begun}
        if any(word == "map" for call in killed for word, *_ in inside[call]):
            return self.allow("map-cancelled")
        running = [call for call in self.begun if self.ended_in.get(call, number) == number]
        if any(word == "map" for call in running for word, *_ in inside[call]):
            return self.allow("deadlock")
        begun_there = [e[1] for e in there if e[0] == "begin" and e not in here]
        rows = [self.rows[call] for call in begun_there if call in self.rows]
        begun = {self.rows[call]["series"] for call in self.begun if call in self.rows}
        if green and any(row["series"] in begun for row in rows):
            return self.allow("imap-ahead")
        if (self.behind or step[0] == "next") and any(self.is_large(r["series"]) for r in rows):
            return self.allow("imap-refill")
        begun_here = [self.rows.get(e[1]) for e in here if e[0] == "begin" and e not in there]
        if not rows and self.somebody_waits() and any(row and row["maxsize"] for row in begun_here):
            return self.allow("imap-place")
        if any(row["maxsize"] for row in rows):
            return self.allow("imap-maxsize")
        if self.ahead and begun_there:
            return self.allow("imap-maxsize")
        raised = [e for e in there if e[0] == "inside" and e[2] == "spawn" and e[3][0] == "error"]
        return bool(raised) and self.allow("spawn-inside")
