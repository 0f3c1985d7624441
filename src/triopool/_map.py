"""What `map` waits for: the results of all rows, in order, or the first error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
from trio.lowlevel import (
    Abort,
    checkpoint_if_cancelled,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._failures import shown
from triopool._series import Series

if TYPE_CHECKING:
    import trio
    from trio.lowlevel import RaiseCancelT

    from triopool._failures import Failure

T = TypeVar("T")

# So many other errors are named on the one that `map` raises.
MAX_NOTES = 20


@attrs.define(eq=False)
class Map(Series[T]):
    """A series whose results become one list.

    The first error makes it begin no more rows, and wakes the waiter, which cancels those that run.
    Rows that fail before it does so failed on their own: of those, the first in the order of the
    input is raised.
    """

    results: dict[int, Any] = attrs.field(factory=dict[int, Any])
    failures: dict[int, Failure] = attrs.field(factory=dict[int, "Failure"])
    waiter: trio.lowlevel.Task | None = None
    unjoined: bool = False  # nobody will ask for the list
    raises_kill: bool = False  # what it raises says that it was killed, or a row of it
    raise_cancel: RaiseCancelT | None = None  # raises the cancellation of whoever waits

    def fails_fast(self) -> bool:
        return not self.return_exceptions

    def put(self, index: int, value: T) -> None:
        self.results[index] = value

    def put_all(self, results: list[tuple[int, Any]]) -> None:
        self.results.update(results)

    def put_failure(self, index: int, failure: Failure) -> None:
        if self.return_exceptions and isinstance(failure.error, Exception):
            self.put(index, cast("Any", failure.error))
            return
        self.failures[index] = failure
        if not self.exhausted:
            self.exhausted = True
            self.feeder.no_more()
        self._wake()

    def fail_input(self, error: Exception) -> None:
        super().fail_input(error)
        self._wake()

    def finish(self) -> None:
        del self.block._series[self]
        self._wake()
        if self.unjoined:
            self._report()

    def kill_unjoined(self, verdict: Exception | None, reason: str | None) -> None:
        """Like `kill`, where nobody will ask for the list: errors of rows are reported."""
        self.unjoined = True
        self.kill(verdict, reason)
        if self.over:
            self._report()

    def _report(self) -> None:
        failures = [failure for failure in iter(self._next_failure, None) if not failure.killed]
        for failure in [each for each in failures if isinstance(each.error, Exception)]:
            self.block._ledger.add_failure(self.name, failure)

    def _wake(self) -> None:
        if self.waiter is not None:
            reschedule(self.waiter)
            self.waiter = None

    def _abort(self, raise_cancel: RaiseCancelT) -> Abort:
        self.raise_cancel = raise_cancel
        self.close("whoever waited for the map was cancelled")
        return Abort.FAILED

    @enable_ki_protection
    async def result(self) -> list[T]:
        """Run it and wait for the list."""
        await checkpoint_if_cancelled()
        self.begin()
        return await self.join()

    @enable_ki_protection
    async def join(self) -> list[T]:
        """Wait for the list."""
        first: Failure | None = None
        try:
            with self.slots.ticket(self.in_vain):
                while not self.over:
                    # Before it waits, too: of what fails before that, nobody tells it.
                    if not self.stopped and (first := self._next_failure()) is not None:
                        self.close(f"another error in the map: {shown(first.error)}")
                    else:
                        self.waiter = current_trio_task()
                        await wait_task_rescheduled(self._abort)
                if first is None or first.killed:  # a real error counts for more
                    first = self._next_failure() or first
                if first is None and self.raise_cancel is not None:
                    self.raise_cancel()
            self.raises_kill = first.killed if first is not None else self.killed
            if self.raises_kill:
                # If its waiter is cancelled as well, that is what it wants to hear of.
                await checkpoint_if_cancelled()
            if first is not None:
                self._add_notes(first.error)
                first.throw()
            if self.killed:
                self.kill_failure().throw()
            return list(map(self.results.__getitem__, range(self.taken)))
        finally:
            del self, first  # the error's traceback holds this frame

    def _next_failure(self) -> Failure | None:
        """The first error, in the order of the input, of those that are not raised or named yet.

        What takes the pool down goes first, and what was killed, perhaps thereby, goes last.
        """
        if self.failures:
            return self.failures.pop(min(self.failures, key=self._rank))
        failure, self.input_failure = self.input_failure, None
        return failure

    def _rank(self, index: int) -> tuple[bool, bool, int]:
        failure = self.failures[index]
        return isinstance(failure.error, Exception), failure.killed, index

    def _add_notes(self, error: BaseException) -> None:
        """Name the other errors on the one that is raised."""
        others: list[BaseException] = []
        while (failure := self._next_failure()) is not None:
            if failure.error is not error:
                others.append(failure.error)
        for other in others[:MAX_NOTES]:
            error.add_note(f"The map had another error, too: {shown(other)}")
        if len(others) > MAX_NOTES:
            error.add_note(f"... and {len(others) - MAX_NOTES} more")
