"""The jobs of a worker: what it awaits, and what becomes of the outcome."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from triopool._failures import bare_cancelled, sift
from triopool._remains import nursery_left_open

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    from triopool._worker import Worker

# What a worker does next: end the job, await what it starts, or begin it anew: at once, when the
# loop has passed, or when a new context is in force. These are numbers, with LEAVE the false one,
# and no enum, since this is asked once or twice for each call.
LEAVE, GO, AGAIN, BREATHE, RENEW = range(5)


class Job:
    """What a worker is busy with: it awaits ``start(worker.arg)``, until it is told to leave."""

    __slots__ = ()

    start: Callable[[Any], Awaitable[Any]]  # may be the user's code

    @enable_ki_protection
    def begin(self, worker: Worker, /) -> int:
        """Begin, or begin anew. Returns what the worker does next."""
        worker.arg = worker
        return GO

    @enable_ki_protection
    def returned(self, _: Worker, __: Any, /) -> int:
        """What it awaited has returned. Returns what it does next."""
        return LEAVE

    @enable_ki_protection
    def failed(self, _: Worker, error: BaseException, /) -> int:
        """What it awaited has raised. Raises what the worker must let go on, or as `returned`."""
        try:
            raise error
        finally:
            del error

    def leave(self, worker: Worker, /) -> None:
        """The worker has nothing more to do with it. It may be in the middle of anything."""


class SingleCall(Job):
    """The call that the worker's task stands for."""

    __slots__ = ()

    start = staticmethod(methodcaller("run"))

    @enable_ki_protection
    def begin(self, worker: Worker, /) -> int:
        task = worker.task
        assert task is not None
        if worker.hit:  # it was killed before its first line
            return LEAVE
        worker.arg = task
        task._begun = True
        return GO

    @enable_ki_protection
    def returned(self, worker: Worker, value: Any, /) -> int:
        task = worker.task
        assert task is not None
        block = worker.crew.block
        block._end(worker)
        try:
            if worker.trio_task not in worker.in_scope and worker.trio_task.child_nurseries:
                task._fail(nursery_left_open(task.name))
            else:
                task._succeed(value)
        finally:
            block._told(worker)
        return LEAVE

    @enable_ki_protection
    def failed(self, worker: Worker, error: BaseException, /) -> int:
        task = worker.task
        assert task is not None
        block = worker.crew.block
        cancelled, rest = sift(error)  # this asks the user's group, if it is one
        block._end(worker)
        try:
            if rest is None:
                task._die()
            elif task._series is not None and task._series.raises_kill:
                task._die_with(rest)
            else:
                task._fail(rest)
            let_go_on(worker, error, cancelled, rest)
        finally:
            block._told(worker)
            del error, rest
        return LEAVE


class QueuedCall(Job):
    """A call that waits for its slot first. One that has waited longer may get it."""

    __slots__ = ()

    @staticmethod
    @enable_ki_protection
    async def start(worker: Worker, /) -> Context | None:
        """Wait for a slot. Returns the context of the call that is to run here on it, if any."""
        block = worker.crew.block
        slots = block._slots
        await block._line.up(worker)
        seat = object()
        await slots.take(seat)
        if worker.hit or worker.crew.dismissed:
            slots.release(seat)
            return None
        context = block._line.next(worker)
        if block._crew is worker.crew:
            worker.seat = seat
            block._members[worker] = None
            return context
        # Calls run elsewhere. A context is entered once at a time, and this task is still in it.
        task, worker.task = worker.task, None
        assert task is not None
        block._begin(task, seat, context.copy())
        return None

    @enable_ki_protection
    def returned(self, worker: Worker, value: Context | None, /) -> int:
        if value is None:
            return LEAVE
        worker.job = SINGLE_CALL
        if worker.trio_task.context is value:
            return AGAIN
        worker.trio_task.context = value
        return RENEW


SINGLE_CALL = SingleCall()
QUEUED_CALL = QueuedCall()


def let_go_on(
    worker: Worker, error: BaseException, cancelled: bool, rest: BaseException | None
) -> None:
    """After a call has raised ``error``, which was sifted, raise what its worker must let go on."""
    further: BaseException | None = None
    try:
        if rest is not None and not isinstance(rest, Exception):
            further = rest
        elif cancelled and not worker.hit:
            # From outside; or by something stale, of which nobody else must hear.
            worker.hit = True
            worker.scope.cancel()
            further = bare_cancelled(error)
        else:
            return
        if further is error:
            raise further
        raise further from None
    finally:
        del error, rest, further
