"""What the model is made of: a call, a place in the line for a slot, and a series of calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE, WAITING, RUNNING = "unstarted", "waiting", "running"
SUCCEEDED, FAILED, KILLED = "succeeded", "failed", "killed"


@attrs.define(eq=False)
class Call:
    """One call. ``fate`` is how it ends: it may ``return``, ``fail``, or ``obey`` a kill."""

    number: Any  # what it returns, or fails with
    fate: str = "return"
    instant: bool = False  # it ends as soon as it begins, otherwise when it is released
    stubborn: bool = False  # a kill does not end it before it is released
    leaves: bool = False  # when a kill ends it, its slot comes back only when it is released
    state: str = IDLE
    seated: bool = False  # it has a slot
    discarded: bool = False  # it had a slot, and goes on without
    released: bool = False
    doomed: bool = False  # it was killed, and may not know yet
    verdict: str = "TaskKilled"  # what whoever waits for it gets then
    awaited: Callable[[], bool] = attrs.field(
        default=bool, repr=False
    )  # whether somebody waits for its error
    keeps_error: bool = False  # it goes to the block, whatever `on_error` is
    series: Series | None = attrs.field(default=None, repr=False)
    whole: Series | None = attrs.field(default=None, repr=False)  # the map that it stands for
    void: bool = False  # a row that was killed with all of its series: no reader hears of it
    ended_in: int = 0  # the step in which it ended
    handle: Any = attrs.field(default=None, repr=False)

    @property
    def over(self) -> bool:
        return self.state in (SUCCEEDED, FAILED, KILLED)

    @property
    def due(self) -> bool:
        """Whether it ends now."""
        return self.instant or self.released or (self.doomed and not self.stubborn)

    def final_state(self) -> str:
        if not (self.instant or self.released):
            return KILLED
        if self.fate == "fail":
            return FAILED
        return KILLED if self.fate == "obey" and self.doomed else SUCCEEDED


@attrs.define(eq=False)
class Wait:
    """A place in the line for a slot."""

    call: Any  # None for whoever only wants to know that there is a slot
    parked: bool = True  # somebody waits in it; otherwise the call waits by itself
    guest: bool = False  # the call runs in another pool
    given: bool = False  # it got one
    overtaken: dict[Series, int] = attrs.field(factory=dict)  # by how many rows of each

    @property
    def instant(self) -> bool:
        """Whether it gives its slot back at once."""
        return self.call is None

    @property
    def who(self) -> Call | Wait:
        """Who is said to have begun when it has got its slot."""
        return self if self.call is None or self.guest else self.call


@attrs.define(eq=False)
class Series:
    """A map, or an iterator."""

    rows: list[Call]
    maxsize: float = math.inf
    ordered: bool = True
    is_map: bool = False
    return_exceptions: bool = False
    stopped: bool = False
    killed: bool | None = False  # None: who knows
    verdict: str = "TaskKilled"
    closed: bool | None = False  # None: who knows
    touched: bool | None = False  # somebody wanted to read it; None: who knows
    read: bool = False  # somebody waits for a result, or has just got it
    got: int = 0  # results that a reader has
    cursor: int = 0  # of an ordered one: the row that is read next
    unread: list[Call] = attrs.field(factory=list)  # of an unordered one
    failures: list[Call] = attrs.field(factory=list)  # of a map; the first is what stopped it
    failing: bool = False  # a row has failed in this very step
    flaw: Call | None = None  # stands for the error that its input ends with
    broken: bool = False  # that was raised
    told: bool = False  # and somebody has it
    noticed: Callable[[], bool] = attrs.field(default=bool, repr=False)  # that it is over

    @property
    def begun(self) -> list[Call]:
        return [row for row in self.rows if row.state != IDLE]

    @property
    def limit(self) -> float:
        """The index of the first row that may not begin."""
        read = self.got + (self.read and len(self.results()) > 0)
        return self.maxsize + read

    @property
    def wants_slot(self) -> bool:
        pulls = len(self.rows) + (self.flaw is not None and not self.broken)
        more = len(self.begun) < min(pulls, self.limit)
        return more and not self.stopped and not self.failures

    @property
    def rests(self) -> bool:
        """Whether it need not begin a row yet, since more than half of its results are unread."""
        over = sum(row.over for row in self.rows)
        return 2 * (self.maxsize + self.got - over) < self.maxsize

    @property
    def over(self) -> bool:
        if self.flaw and not (self.broken or self.stopped):
            return False
        return all(row.over or (row.state == IDLE and self.stopped) for row in self.rows)

    def stop(self) -> None:
        self.stopped = True
        for row in self.begun:
            row.doomed = True

    def failure(self) -> Call | None:
        """Whose error a map raises. An error counts for more than a kill."""
        failed = [row for row in self.failures if row.state == FAILED]
        first = self.failures[0] if self.failures else None
        return min(failed, key=lambda row: row.number) if failed and first not in failed else first

    def results(self) -> list[Call]:
        """The rows of which one is the next result; none if there is none yet."""
        if self.unread:
            oldest = min(row.ended_in for row in self.unread)
            return [row for row in self.unread if row.ended_in == oldest]
        while self.ordered and self.cursor < len(self.rows):
            row = self.rows[self.cursor]
            if row.over and not row.void:
                return [row]
            if not self.over:
                break
            self.cursor += 1
        return self.last_words()

    def last_words(self) -> list[Call]:
        """The error of the input, if that is to be read after all results."""
        due = self.flaw and self.broken and self.over and not self.told
        return [self.flaw] if due and self.flaw else []

    def take(self, row: Call) -> None:
        """A reader has got it."""
        self.got += 1
        if row is self.flaw:
            self.told = True
        elif self.ordered:
            self.cursor += 1
        else:
            self.unread.remove(row)

    def leftovers(self) -> list[Call]:
        """The results that nobody has read."""
        if not self.ordered:
            return self.unread + self.last_words()
        over = [row for row in self.rows[self.cursor :] if row.over and not row.void]
        return over + self.last_words()
