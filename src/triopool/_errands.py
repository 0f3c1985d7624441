"""What a thread is sent for: calls in a queue, which a thread claims one after the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from triopool._failures import sift
from triopool._inside import CALLER
from triopool.task import Task

if TYPE_CHECKING:
    from contextvars import Context

    from triopool._block import Block
    from triopool._thread_rows import ThreadRows
    from triopool._threads import ThreadWorker
    from triopool._worker import Worker


class Errand(Protocol):
    """Calls that wait in a queue. Several threads may share it.

    What a thread looks at is changed only under the lock of the crew: a call leaves the queue when
    a thread claims it or when Trio's thread takes it back, and never both.
    """

    queue: deque[ThreadCall]
    idle: list[ThreadWorker]  # whose threads wait for more of it
    halted: bool  # nobody claims a call any more
    halts_on_error: bool  # that is so after a call has failed
    pressed: bool  # others wait for slots, so nobody claims a call for now

    def make(self, call: ThreadCall) -> Any:
        """Make the call. This runs in the thread."""

    def next_call(self) -> ThreadCall | None:
        """Another one, when the queue is empty. This runs in the thread, under the lock."""

    def task_of(self, call: ThreadCall) -> Task[Any]:
        """What stands for the call. This may run in the thread."""
        ...

    def settle(self, call: ThreadCall) -> None:
        """A call is over."""

    def lose(self, call: ThreadCall) -> None:
        """A call was left behind."""

    def review(self) -> None:
        """Calls are over, or threads idle: find out how to go on."""

    def fail_to_start(self, error: Exception) -> None:
        """There is no thread for it."""


@attrs.define(eq=False)
class ThreadCall:
    """One call for a thread. If it is a row of a map, it is also the host of its task."""

    errand: Errand
    row: Any = None
    index: int = 0
    task: Task[Any] | None = None  # of a row only if somebody has looked
    claimer: ThreadWorker | None = attrs.field(init=False, default=None)
    value: Any = attrs.field(init=False, default=None)
    error: BaseException | None = attrs.field(init=False, default=None)

    @property
    def _rows(self) -> ThreadRows:
        return cast("ThreadRows", self.errand)

    def stop(self, reason: str, /) -> None:
        """Cancel the row, or settle it if it was taken back."""
        self._rows.stop_row(self, reason)

    def withdraw(self) -> bool:
        """Take the row back, if no thread has claimed it."""
        return self._rows.take_back(self)

    def holds_slot(self) -> bool:
        """A thread that has a slot will get to it."""
        return True

    def seated(self) -> Worker | None:
        """The worker of the thread that makes the call."""
        claimer = self.claimer
        return claimer if claimer is not None and claimer.claimed is self else None

    def has_begun(self) -> bool:
        """Whether a thread has claimed the row."""
        return self.claimer is not None

    def is_of(self, block: Block, /) -> bool:
        """Whether it is a row of this pool."""
        return self._rows.series.block is block


@attrs.define(eq=False)
class LoneErrand:
    """A single call."""

    worker: ThreadWorker
    task: Task[Any]
    context: Context
    call: ThreadCall = attrs.field(init=False)
    queue: deque[ThreadCall] = attrs.field(init=False)
    idle: list[ThreadWorker] = attrs.field(init=False, factory=list["ThreadWorker"])
    halted: bool = attrs.field(init=False, default=False)
    halts_on_error: bool = attrs.field(init=False, default=False)
    pressed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.call = ThreadCall(self, task=self.task)
        self.queue = deque((self.call,))

    def make(self, _: ThreadCall) -> Any:
        task = self.task
        if self.worker.home.abandons:
            self.context.run(CALLER.set, self.worker)
        return self.context.run(function_of(task), *task._args, **task._kwargs)

    def next_call(self) -> None:
        pass

    def task_of(self, _: ThreadCall) -> Task[Any]:
        return self.task

    def settle(self, call: ThreadCall) -> None:
        task = self.task
        self.worker.over()
        if call.error is None:
            task._succeed(call.value)
            return
        _, rest = sift(call.error)
        if rest is None:
            task._die()
        else:
            task._fail(rest)

    def lose(self, _: ThreadCall) -> None:
        self.task._die()

    def review(self) -> None:
        idle, self.idle = self.idle, []
        for worker in idle:
            worker.rest()

    def fail_to_start(self, error: Exception) -> None:
        self.worker.over()
        self.task._fail(error)


def function_of(task: Task[Any]) -> Any:
    """What the thread calls for a task: its function, or the `run` of its class."""
    return task._func if type(task).run is cast("Any", Task).run else task.run
