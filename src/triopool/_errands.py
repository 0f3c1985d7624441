"""What a thread is sent for: calls in a queue, which a thread claims one after the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from triopool._functions import sync_value
from triopool._hooks import hooked_if_set
from triopool._inside import CALLER
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from triopool._block import Block
    from triopool._thread_rows import ThreadRows
    from triopool._thread_worker import ThreadWorker
    from triopool._worker import Worker


class Errand(Protocol):
    """Calls that wait in a queue. Several threads may share it.

    What a thread looks at is changed only under the lock of the crew: a call leaves the queue when
    a thread claims it or when Trio's thread takes it back, and never both.
    """

    queue: deque[ThreadCall]
    idle: list[ThreadWorker]  # whose threads wait for more of it
    coming: int  # threads that were sent and have not looked at it yet

    def serve(self, worker: ThreadWorker) -> None:
        """Make calls as long as there is one that nobody has claimed. This runs in the thread."""

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
        """A thread that has a slot makes it or will get to it, unless it was discarded."""
        return self not in self._rows.discarded

    def unseat(self) -> Worker | None:
        """Have the thread that makes the call claim no other."""
        worker = None if self.claimer is None else self.claimer.unseat_from(self)
        if worker is not None:
            self._rows.discarded.add(self)
        return worker

    def has_begun(self) -> bool:
        """Whether a thread has claimed the row."""
        return self.claimer is not None

    def is_of(self, block: Block, /) -> bool:
        """Whether it is a row of this pool."""
        rows = self._rows
        return self not in rows.discarded and rows.series.block is block


@attrs.define(eq=False)
class LoneErrand:
    """A single call."""

    worker: ThreadWorker
    task: Task[Any] | None  # until it is over
    context: Context
    queue: deque[ThreadCall] = attrs.field(init=False)
    idle: list[ThreadWorker] = attrs.field(init=False, factory=list["ThreadWorker"])
    coming: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.queue = deque((ThreadCall(self, task=self.task),))

    def serve(self, worker: ThreadWorker) -> None:
        """Make the call, if it was not taken back."""
        home = worker.home
        with home.lock:
            worker.come(self)
            begins = len(self.queue) > 0 and not worker.is_barred()
            if begins:
                worker.claimed = self.queue.popleft()
                worker.claimed.claimer = worker
        if begins:
            self._make(worker)
        with home.lock:
            worker.is_barred()  # if it was hit, it ends
            announces = worker.deposit() and home.arrive(worker)
        if announces:
            home.announce(home.flush)
        del self, worker, home  # the frames of a call that fails lead back to this one

    def _make(self, worker: ThreadWorker) -> None:
        call, task, context = worker.claimed, self.task, self.context
        assert call is not None
        assert task is not None
        try:
            if worker.home.abandons:
                context.run(CALLER.set, worker)
            func, args, kwargs = call_of(task)
            call.value = sync_value(context.run(hooked_if_set(func), *args, **kwargs))
        except BaseException as error:
            worker.note(call, error)
        finally:
            del self, worker, call, task

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
