"""Errors that nobody has seen yet: kept until somebody asks, or until the block is left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from triopool._call import Call
    from triopool._failures import Failure

logger = logging.getLogger("triopool")

LIMIT = 1_000


@attrs.define(eq=False)
class Ledger:
    """The unobserved errors of one pool, at most 1,000; what comes on top is logged at once."""

    _owner: str
    # failed, and nobody looked
    _tasks: dict[Call[Any], None] = attrs.field(factory=dict["Call[Any]", None], init=False)
    _failures: list[Failure] = attrs.field(
        factory=list["Failure"], init=False
    )  # of rows that nobody read
    closed: bool = attrs.field(default=False, init=False)  # nobody will ask any more
    _overflow: int = attrs.field(default=0, init=False)  # how many were logged for want of room

    def add_task(self, task: Call[Any]) -> None:
        """Keep a failed task until somebody observes its error."""
        assert task._failure is not None
        if self.closed:
            report_outside(task)
        elif self._has_room(task.name, task._failure):
            self._tasks[task] = None
            task._ledger = self

    def add_failure(self, name: str, failure: Failure) -> None:
        """Keep an error that no task stands for."""
        if self._has_room(name, failure):
            self._failures.append(failure)

    def discard(self, task: Call[Any]) -> None:
        """Somebody has observed the error of ``task``."""
        self._tasks.pop(task, None)

    def _has_room(self, name: str, failure: Failure) -> bool:
        if len(self._tasks) + len(self._failures) < LIMIT:
            return True
        self._overflow += 1
        log_failure(name, failure)
        return False

    def drain(self) -> list[Exception]:
        """Hand over all errors, oldest first within each kind, as now observed."""
        errors: list[Any] = []
        for task in self._tasks:
            task._ledger = None
            errors.append(task._failure)
        errors += self._failures
        self._tasks.clear()
        self._failures.clear()
        for failure in errors:
            failure.error.__traceback__ = failure.traceback
        return [failure.error for failure in errors]

    def message(self, count: int) -> str:
        """What the group of ``count`` errors says about itself."""
        text = f"{count} unobserved error{'s' * (count != 1)} in {self._owner}"
        if self._overflow:
            text += f" ({self._overflow} more were logged)"
            self._overflow = 0
        return text


def log_failure(name: str, failure: Failure) -> None:
    """Write an error into the log, with its traceback."""
    error = failure.error
    logger.error("%s failed", name, exc_info=(type(error), error, failure.traceback))


def report_outside(task: Call[Any]) -> None:
    """Report a failure for which no pool is open any more."""
    assert task._failure is not None
    log_failure(task.name, task._failure)
