"""What a thread is sent for: calls that it claims and makes one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from triopool._functions import sync_value
from triopool._hooks import hooked_if_set
from triopool._inside import CALLER
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from triopool._hand import Item
    from triopool._thread_worker import ThreadWorker


class Errand(Protocol):
    """Calls that wait. Several threads may share it.

    A call that waits leaves the queue, or the stock of a thread, when a thread begins it or when
    Trio's thread takes it back, and never both.
    """

    # Under the lock of the crew:
    idle: list[ThreadWorker]  # whose threads wait for more of it
    coming: int  # threads that were sent and have not looked at it yet

    def serve(self, worker: ThreadWorker) -> None:
        """Make calls as long as there is one that nobody has begun. This runs in the thread."""

    def task_of(self, item: Item) -> Task[Any] | None:
        """What stands for a call that a thread makes. This may run in the thread."""

    def known(self, item: Item) -> Task[Any] | None:
        """The same, if somebody has looked."""

    def put_back(self, items: list[Item]) -> None:
        """These were in the stock of a thread. To be called under the lock of the crew."""

    def settle(self, results: list[Item]) -> None:
        """Calls have returned."""

    def settle_failure(self, index: int, error: BaseException | None) -> None:
        """A call has failed; with None, it was killed."""

    def lose(self, item: Item) -> None:
        """A call was left behind."""

    def forget(self, item: Item) -> None:
        """What was left behind is over."""

    def review(self) -> None:
        """Calls are over, or threads idle: find out how to go on."""

    def fail_to_start(self, error: Exception) -> None:
        """There is no thread for it."""


@attrs.define(eq=False)
class LoneErrand:
    """A single call, in the stock of its thread."""

    worker: ThreadWorker
    task: Task[Any] | None  # until it is over
    context: Context
    idle: list[ThreadWorker] = attrs.field(init=False, factory=list["ThreadWorker"])
    coming: int = attrs.field(init=False, default=0)

    def serve(self, worker: ThreadWorker) -> None:
        """Make the call, if it was not taken back."""
        with worker.home.lock:
            worker.come(self)
        item = worker.hand.begin()
        if item is not None:
            self._make(worker)
        worker.report_back()
        del self, worker  # the frames of a call that fails lead back to this one

    def _make(self, worker: ThreadWorker) -> None:
        task, context = self.task, self.context
        assert task is not None
        try:
            if worker.home.abandons:
                context.run(CALLER.set, worker)
            func, args, kwargs = call_of(task)
            value = sync_value(context.run(hooked_if_set(func), *args, **kwargs))
        except BaseException as error:
            worker.fail(0, error)
        else:
            worker.hand.results.append((0, value))
            del value
        finally:
            del self, worker, task

    def task_of(self, item: Item) -> Task[Any] | None:  # noqa: ARG002
        """What stands for the call."""
        return self.task

    known = task_of

    def put_back(self, items: list[Item]) -> None:
        """The call has not begun, and never will; its task goes with its worker."""

    def settle(self, results: list[Item]) -> None:
        """The call has returned."""
        [(_, value)] = results
        results.clear()
        self._end()._succeed(value)

    def settle_failure(self, index: int, error: BaseException | None) -> None:  # noqa: ARG002
        """The call has failed, or was killed."""
        if error is None:
            self._end()._die()
        else:
            self._end()._fail(error)

    def _end(self) -> Task[Any]:
        # The thread may still have this for a moment, and must not keep anything alive thereby.
        task, self.task = self.task, None
        assert task is not None
        self.worker.over()
        return task

    def lose(self, item: Item) -> None:  # noqa: ARG002
        """The call was left behind."""
        assert self.task is not None
        self.task._die()

    def forget(self, item: Item) -> None:
        """What was left behind is over, and nothing of it is kept."""

    def review(self) -> None:
        """The thread is idle."""
        idle, self.idle = self.idle, []
        for worker in idle:
            worker.rest()

    def fail_to_start(self, error: Exception) -> None:
        """There is no thread for it."""
        self._end()._fail(error)


def call_of(task: Task[Any]) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """What the thread calls for a task, its function or the `run` of its class, and with what."""
    if not task._has_own_run():
        assert task._func is not None
        return task._func, task._args, task._kwargs
    return cast("Any", task.run), (), {}
