"""What one thread of a pool has in hand: the call that it makes, and a stock of further ones.

A thread goes on with its stock without asking anybody, and without a lock, which would cost a
quarter of a quick map. That rests on deques, whose appends and pops are atomic, and on an order.
After a call the thread

1. adds the result to `results`,
2. notes the first row of the stock as `current`,
3. takes it out of the stock. If it is gone by then, the thread has to ask for more.

Whoever wants to know what it makes, or wants a row back, or wants it to stop, holds the lock of the
crew, so that it can be given nothing more, and *recalls* its stock. From then on there is at most
one row that it makes or is about to make: `current`, unless that very row was recalled between 2
and 3, or has its result already.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

# A row of a map, and its number. A single call is a row with the number 0.
Item: TypeAlias = tuple[int, Any]

# The number of a row, and its error; None if it ended with a cancellation and no other error.
Fault: TypeAlias = tuple[int, BaseException | None]


@attrs.define(eq=False)
class Hand:
    """The calls that a thread has claimed, and what became of those that it has made."""

    stock: deque[Item] = attrs.field(factory=deque[Item], init=False)
    current: Item | None = attrs.field(default=None, init=False)
    recalled: set[int] = attrs.field(factory=set[int], init=False)  # since the stock was filled
    barred: bool = attrs.field(default=False, init=False)  # it makes no call after this one

    # What Trio has not heard of yet:
    results: deque[Item] = attrs.field(factory=deque[Item], init=False)
    failures: deque[Fault] = attrs.field(factory=deque[Fault], init=False)
    resting: bool = attrs.field(default=False, init=False)  # the thread wants to be told what to do
    reported: bool = attrs.field(default=False, init=False)  # Trio will look
    heard: tuple[int, int] = attrs.field(default=(-1, -1), init=False)  # newest rows it heard of

    # How many rows the thread may claim at a time, and when it did so
    reach: int = attrs.field(default=1, init=False)
    claimed_at: float = attrs.field(default=0.0, init=False)

    # In the thread

    def begin(self) -> Item | None:
        """Begin the next call of the stock, if there is one."""
        try:
            self.current = self.stock[0]
            return self.stock.popleft()
        except IndexError:
            return None

    def reports(self) -> bool:
        """Whether Trio is to be told that there is something to hear."""
        first = not self.reported
        self.reported = True
        return first

    # Whoever does one of these holds the lock of the crew.

    def give(self, items: list[Item]) -> Item | None:
        """Fill the stock, and begin the first of these rows, if there is one."""
        self.recalled.clear()
        self.stock.extend(items)
        return self.begin()

    def rest(self) -> None:
        """The thread has nothing to do."""
        self.current = None
        self.recalled.clear()
        self.resting = True

    def recall(self) -> list[Item]:
        """Take its stock away."""
        return list(iter(self._take_last, None))

    def share(self) -> list[Item]:
        """Take away the latter half of its stock."""
        half = (len(self.stock) + 1) // 2
        return list(islice(iter(self._take_last, None), half))[::-1]

    def _take_last(self) -> Item | None:
        try:
            item = self.stock.pop()
        except IndexError:
            return None
        self.recalled.add(item[0])
        return item

    def making(self) -> Item | None:
        """The row that it makes or is about to make. To be asked after `recall`."""
        item = self.current
        if item is None or item[0] in self.recalled:
            return None
        return None if item[0] in self._newest(self.results, self.failures) else item

    def _newest(self, results: Sequence[Item], failures: Sequence[Fault]) -> tuple[int, int]:
        """The newest rows that returned and that failed, of these and those heard of before."""
        returned, failed = self.heard
        return results[-1][0] if results else returned, failures[-1][0] if failures else failed

    def strike(self) -> bool:
        """Let the call be its last; whether it makes one. To be asked after `recall`."""
        if self.making() is None:
            return False
        self.barred = True
        return True

    def report(self) -> tuple[list[Item], list[Fault], bool]:
        """Take what became of the calls, and whether the thread rests now."""
        self.reported = False  # before looking, or what comes in between would not be announced
        resting, self.resting = self.resting, False
        results = drained(self.results)
        failures = drained(self.failures)
        self.heard = self._newest(results, failures)
        return results, failures, resting

    def start(self) -> None:
        """The thread gets something else to do, of which nothing is known."""
        self.heard = -1, -1
        self.claimed_at = 0.0


def drained(items: deque[T]) -> list[T]:
    """Take out all that there is, while somebody else may add more."""
    taken: list[T] = []
    try:
        while True:
            taken.append(items.popleft())
    except IndexError:
        return taken
