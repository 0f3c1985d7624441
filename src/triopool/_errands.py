"""What a thread is sent for: calls in a queue, which a thread claims one after the other."""

from __future__ import annotations

from collections import deque
from threading import getprofile, gettrace
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from triopool._hooks import hooked
from triopool._inside import CALLER
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
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
    coming: int  # threads that were sent and have not looked at it yet
    idle: list[ThreadWorker]  # whose threads wait for more of it
    halted: bool  # nobody claims a call any more
    halts_on_error: bool  # that is so after a call has failed
    pressed: bool  # others wait for slots, so nobody claims a call for now

    def make(self, call: ThreadCall) -> Any:
        """Make the call. This runs in the thread."""

    def next_call(self) -> ThreadCall | None:
        """Another one, when the queue is empty. This runs in the thread, under the lock."""

    def task_of(self, call: ThreadCall) -> Task[Any] | None:
        """What stands for the call. This may run in the thread."""

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
    # What became of it. Killed is what ended with a cancellation and no other error.
    value: Any = attrs.field(init=False, default=None)
    error: BaseException | None = attrs.field(init=False, default=None)
    killed: bool = attrs.field(init=False, default=False)
    discarded: bool = attrs.field(init=False, default=False)  # its pool counts it no more

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

    def unseat(self) -> Worker | None:
        """Have the thread that makes the call claim no other."""
        worker = None if self.claimer is None else self.claimer.unseat_from(self)
        if worker is not None:
            self.discarded = True
            self._rows.discarded += 1
        return worker

    def has_begun(self) -> bool:
        """Whether a thread has claimed the row."""
        return self.claimer is not None

    def is_of(self, block: Block, /) -> bool:
        """Whether it is a row of this pool."""
        return not self.discarded and self._rows.series.block is block


@attrs.define(eq=False)
class LoneErrand:
    """A single call."""

    worker: ThreadWorker
    task: Task[Any] | None  # until it is over
    context: Context
    queue: deque[ThreadCall] = attrs.field(init=False)
    coming: int = attrs.field(init=False, default=0)
    idle: list[ThreadWorker] = attrs.field(init=False, factory=list["ThreadWorker"])
    halted: bool = attrs.field(init=False, default=False)
    halts_on_error: bool = attrs.field(init=False, default=False)
    pressed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.queue = deque((ThreadCall(self, task=self.task),))

    def make(self, call: ThreadCall) -> Any:
        """Make the call."""
        task = self.task
        assert task is not None
        context = self.context
        if self.worker.home.abandons:
            context.run(CALLER.set, cast("ThreadWorker", call.claimer))
        func, args, kwargs = call_of(task)
        del self, call, task  # the frames of a call that fails lead back to this one
        if getprofile() is None and gettrace() is None:
            return context.run(func, *args, **kwargs)
        return context.run(hooked, func, *args, **kwargs)

    def next_call(self) -> None:
        """There is no other."""

    def task_of(self, call: ThreadCall) -> Task[Any] | None:
        """What stands for the call."""
        return call.task

    def settle(self, call: ThreadCall) -> None:
        """The call is over."""
        # The thread may still have this for a moment, and must not keep anything alive thereby.
        task, self.task = self.task, None
        error, call.error = call.error, None
        call.task = None
        assert task is not None
        self.worker.over()
        if error is not None:
            task._fail(error)
        elif call.killed:
            task._die()
        else:
            task._succeed(call.value)

    def lose(self, call: ThreadCall) -> None:  # noqa: ARG002
        """The call was left behind."""
        assert self.task is not None
        self.task._die()

    def review(self) -> None:
        """The thread is idle."""
        idle, self.idle = self.idle, []
        for worker in idle:
            worker.rest()

    def fail_to_start(self, error: Exception) -> None:
        """There is no thread for it."""
        assert self.task is not None
        self.worker.over()
        self.task._fail(error)


def call_of(task: Task[Any]) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """What the thread calls for a task, its function or the `run` of its class, and with what."""
    if type(task).run is cast("Any", Task).run:
        assert task._func is not None
        return task._func, task._args, task._kwargs
    return cast("Any", task.run), (), {}
