"""The state machine of one call: where it stands, who runs it, who waits for it, who is told."""

from __future__ import annotations

import enum
import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs
import trio
from trio.lowlevel import (
    Abort,
    disable_ki_protection,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._exceptions import TaskKilled
from triopool._failures import Failure, caught, shown
from triopool._functions import is_sync, known_as, name_of
from triopool._inside import enclosing_workers
from triopool._ledger import report_outside
from triopool._refusals import elsewhere
from triopool._slots import NO_TICKET
from triopool._timeouts import check_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from trio.lowlevel import RaiseCancelT

    from triopool._block import Block
    from triopool._host import Host
    from triopool._ledger import Ledger
    from triopool._map import Map
    from triopool.task import Task

T_co = TypeVar("T_co", covariant=True)


class TaskStatus(enum.Enum):
    """Where a call stands. See `Task` for the transitions."""

    UNSTARTED = "unstarted"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"


UNSTARTED, WAITING, RUNNING = TaskStatus.UNSTARTED, TaskStatus.WAITING, TaskStatus.RUNNING
SUCCEEDED, FAILED, KILLED = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.KILLED
NO_KWARGS: dict[str, Any] = {}  # one for all calls; nobody may change it
OVER = (SUCCEEDED, FAILED, KILLED)  # to hash one of these would take longer


@known_as("Task")
@attrs.define(eq=False, repr=False, init=False, match_args=False, getstate_setstate=False)
class Call(Generic[T_co]):
    """One call, as the pools see it; `Task` adds what its user sees.

    Each transition of `Task` is one synchronous method here, called by whoever runs the call.
    """

    # The call, until it is over.
    _func: Callable[..., Awaitable[T_co]] | None
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    # what func returned, where it had to be called to see whether it is async
    _coro: Awaitable[T_co] | None
    _name: str | None

    _status: TaskStatus
    _started: bool  # a worker has it
    _begun: bool  # its first line may have run
    _value: T_co | None
    _failure: Failure | None
    _observed: bool  # somebody has seen the failure
    # Somebody has killed it: what whoever waits for it gets if it ends KILLED, and why.
    _doom: tuple[Exception | None, str | None] | None
    _ledger: Ledger | None  # where its error is kept until somebody looks
    _host: Host | None  # whatever runs it, or waits for its slot
    _report: Callable[[Any], None]  # takes a failure that nobody waits for
    _block: Block | None  # its pool, until it is over
    _series: Map[Any] | None  # what it waits for, if it stands for a whole map
    _waiters: dict[trio.lowlevel.Task, bool] | None  # {who waits: whether it takes the error}
    # (callback, only for this)
    _links: list[tuple[Callable[[Any], object], TaskStatus | None]] | None

    def _set_up(
        self,
        func: Callable[..., Awaitable[T_co]] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """UNSTARTED. A method of its own is quicker than an ``__init__`` to be found by super()."""
        self._func = func
        self._args = args
        self._kwargs = kwargs or NO_KWARGS
        self._coro = None
        self._name = None
        self._status = UNSTARTED
        self._started = self._begun = False
        self._value = None
        self._failure = None
        self._observed = False
        self._doom = None
        self._ledger = None
        self._host = None
        self._report = report_outside
        self._block = None
        self._series = None
        self._waiters = None
        self._links = None

    @property
    def name(self) -> str:
        """The name of its function; the Trio task that runs it bears it meanwhile."""
        if self._name is None:
            self._name = name_of(type(self) if self._func is None else self._func)
        return self._name

    def ready(self) -> bool:
        """Whether it is over, one way or another."""
        return self._status in OVER

    # Transitions

    def _prepare(self, prepare: Callable[..., Awaitable[Any] | None]) -> None:
        """Check that it can be started, and that the crew can run its function."""
        if self._status is not UNSTARTED:
            raise RuntimeError(f"{self!r} cannot be started: a task runs once; make a new one")
        if self._func is not None:
            self._coro = prepare(self._func, self._args, self._kwargs)

    def _queue(self, block: Block, host: Host) -> None:
        """UNSTARTED → WAITING."""
        self._status = WAITING
        self._block = block
        self._host = host

    def _unqueue(self) -> None:
        """WAITING → UNSTARTED: whoever asked for it stopped waiting for a slot."""
        self._status = UNSTARTED
        self._block = self._host = None
        self._close_coro()

    def _launch(self, host: Host) -> None:
        """UNSTARTED or WAITING → RUNNING: it has a slot, and a worker which will begin it."""
        self._status = RUNNING
        self._started = True
        self._host = host

    def _look(self) -> TaskStatus:
        """Its status, where a thread may have begun it and Trio has not heard of it yet."""
        host = self._host
        if self._status is WAITING and host is not None and host.has_begun():
            # It may be over by now, if this is another thread than Trio's.
            return RUNNING if self._status is WAITING else self._status
        return self._status

    def _succeed(self, value: Any) -> None:
        """RUNNING → SUCCEEDED."""
        self._value = value
        self._finish(SUCCEEDED)

    def _fail(self, error: BaseException) -> None:
        """RUNNING → FAILED."""
        self._failure = caught(error)
        self._finish(FAILED)

    def _die(self) -> None:
        """Any state before the end → KILLED."""
        self._finish(KILLED)

    def _die_with(self, verdict: BaseException) -> None:
        """RUNNING → KILLED, where it stands for a map that was killed."""
        self._doom = cast("Exception", verdict), None
        self._die()

    @enable_ki_protection
    def _finish(self, status: TaskStatus) -> None:
        """Tell everyone. Nothing that they do is raised here, if there is a pool to raise it."""
        if self._name is None:
            self._name = self.name
        block = self._block
        self._status = status
        self._func = self._host = self._block = self._series = None
        self._args = ()
        self._kwargs = NO_KWARGS
        if self._coro is not None:
            self._close_coro()
        try:
            while self._links:
                callback, only = self._links.pop(0)
                if only is None or only is status:
                    _tell(block, self._call_link, callback)
            if self._failure is not None and not self._observed:
                # Not before the links have run: one may have cancelled a waiter.
                awaited = self._waiters is not None and True in self._waiters.values()
                if not awaited and isinstance(self._failure.error, Exception):
                    _tell(block, self._report, self)
        finally:
            if self._waiters:
                waiters, self._waiters = self._waiters, None
                for waiter in waiters:
                    reschedule(waiter)

    def _close_coro(self) -> None:
        """Close what its function returned, or Python would warn that nobody awaited it."""
        coro, self._coro = self._coro, None
        if inspect.iscoroutine(coro):
            coro.close()

    def _observe(self) -> None:
        """Somebody has seen the error."""
        self._observed = True
        if self._ledger is not None:
            self._ledger.discard(self)
            self._ledger = None

    @enable_ki_protection
    def _result(self) -> T_co:
        """The value of a task that is over, or its error raised."""
        if self._status is SUCCEEDED:
            return cast("T_co", self._value)
        try:
            self._outcome().throw()
        finally:
            del self

    def _outcome(self) -> Failure:
        """What `get` raises for a task that is over and did not succeed."""
        if self._failure is not None:
            self._observe()
            return self._failure
        error, reason = self._doom or (None, None)
        if error is None:
            why = f": {reason}" if reason else ""
            error = TaskKilled(f"{self.name} was killed{why}")
        return Failure(error, None, killed=True)

    def _check_thread(self, method: str, args: str = ", ...") -> None:
        """Raise if a pool has it, and this is another thread than Trio's."""
        if self._host is not None and not trio.lowlevel.in_trio_run():
            raise elsewhere(f"{method} was called", f"run_sync(task.{method}{args})")

    # Killing it

    def _kill(self, verdict: Exception | None, reason: str | None) -> None:
        self._check_thread("kill_nowait", "")
        if self._doom is None:
            self._doom = verdict, reason
        host = self._host
        series = self._series
        try:
            if not self._begun and (host is None or host.withdraw()):
                self._die()
                if series is not None:
                    series.kill_unjoined(verdict, reason)
            elif series is not None:
                series.kill(verdict, reason)
        finally:
            if host is not None:
                host.stop(reason or shown(verdict))

    # Waiting for its end

    @enable_ki_protection
    async def _wait(self, timeout: float | None, *, takes_error: bool) -> bool:
        check_timeout(timeout)
        if self._status in OVER:
            await trio.lowlevel.checkpoint()
        elif timeout is None:
            await self._park(takes_error)
        else:
            with trio.move_on_after(timeout):
                await self._park(takes_error)
        return self._status in OVER

    @enable_ki_protection
    async def _park(self, takes_error: bool) -> None:
        if any(worker.runs(self) for worker in enclosing_workers()):
            raise RuntimeError(
                f"{self!r} cannot wait for itself: it would never end; let its caller wait for it"
            )
        waiter = current_trio_task()
        if self._waiters is None:
            self._waiters = {}
        waiters = self._waiters

        def abort(_: RaiseCancelT) -> Abort:
            del waiters[waiter]
            return Abort.SUCCEEDED

        with self._ticket():
            waiters[waiter] = takes_error
            await wait_task_rescheduled(abort)

    def _ticket(self) -> AbstractContextManager[None]:
        """What to wait for it in."""
        return NO_TICKET if self._block is None else self._block._slots.ticket(self._in_vain)

    def _in_vain(self) -> bool:
        """Whether it cannot advance, unless its slot's holder does, or a slot comes free."""
        if self._series is not None:
            return self._series.in_vain()
        status = self._look()
        return status is WAITING or (
            status is RUNNING and self._host is not None and self._host.holds_slot()
        )

    # Telling others

    def _unlink(self, callback: Callable[[Any], object]) -> bool:
        self._check_thread("unlink")
        links = self._links or []
        for index, (linked, _) in enumerate(links):
            if linked == callback:
                del links[index]
                return True
        return False

    def _link(self, callback: Callable[[Any], object], only: TaskStatus | None) -> None:
        if not is_sync(callback):
            raise TypeError(
                f"a link is a sync function of one argument, the task, not {callback!r}"
            )
        self._check_thread("link")
        if self._status in OVER:
            if only is None or only is self._status:
                self._call_link(callback)
            return
        if self._links is None:
            self._links = []
        self._links.append((callback, only))

    @disable_ki_protection
    def _call_link(self, callback: Callable[[Any], object]) -> None:
        # An error is carried by a task of its own, so that it can be reported like that of any
        # call.

        try:
            callback(self)
        except Exception as error:
            from triopool.task import Task

            bearer: Task[None] = Task(_no_call)
            bearer._name = name_of(callback)
            bearer._report = self._report
            bearer._fail(error)


def _tell(block: Block | None, tell: Callable[[Any], object], what: object) -> None:
    """Call what may call the user's code. What cannot be collected of it takes the pool down."""
    try:
        tell(what)
    except BaseException as error:
        if block is None:
            raise
        block._take_down(error)


async def _no_call() -> None:
    """What a task that only bears an error would run."""
