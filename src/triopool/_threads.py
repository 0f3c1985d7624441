"""The crew of a thread pool: its threads, and how what happens in them comes back to Trio."""

from __future__ import annotations

import math
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from triopool._crew import Crew
from triopool._errands import LoneErrand, ThreadCall
from triopool._functions import check_sync
from triopool._thread_rows import ThreadRows
from triopool._thread_worker import ThreadWorker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from triopool._errands import Errand
    from triopool._rows import Rows
    from triopool._series import Series
    from triopool._worker import Worker
    from triopool.task import Task

Arrival: TypeAlias = "ThreadCall | ThreadRows | ThreadWorker"


@attrs.define(eq=False)
class ThreadCrew(Crew):
    """The threads of one pool.

    A thread claims a call, makes it and deposits it, with what became of it. The first deposit
    after a look wakes Trio's loop, which then settles everything that has arrived by that time.
    """

    abandons: bool
    threads: dict[ThreadWorker, None] = attrs.field(factory=dict["ThreadWorker", None], init=False)
    idle: dict[ThreadWorker, None] = attrs.field(factory=dict["ThreadWorker", None], init=False)
    wanted: float = attrs.field(default=math.inf, init=False)  # so many are not too many
    outgoing: list[ThreadWorker] = attrs.field(factory=list["ThreadWorker"], init=False)
    hired: int = attrs.field(default=0, init=False)  # for their names
    token: trio.lowlevel.TrioToken = attrs.field(
        factory=trio.lowlevel.current_trio_token, init=False
    )
    # The pool has a limiter already.
    unlimited: trio.CapacityLimiter = attrs.field(
        factory=partial(trio.CapacityLimiter, math.inf), init=False
    )

    # Reentrant, for `ThreadWorker.look` takes it, too, and the garbage collector may run user code.
    lock: RLock = attrs.field(factory=RLock, init=False)
    # Under the lock: what has happened in threads, and whether the loop was told so.
    arrivals: list[Arrival] = attrs.field(factory=list[Arrival], init=False)
    announced: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.block._slots.queue.listeners[self.look_around] = None

    def check(self, func: object) -> None:
        check_sync(func)

    def prepare(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],  # noqa: ARG002
        kwargs: dict[str, Any],  # noqa: ARG002
    ) -> None:
        check_sync(func)

    # Handing out work

    @enable_ki_protection
    def begin(self, task: Task[Any], seat: object, context: Context | None = None) -> Worker:
        worker = self.take()
        worker.task = task
        worker.seat = seat
        worker.errand = LoneErrand(worker, task, copy_context() if context is None else context)
        # Whoever asked is to have the task before the call's first line runs.
        if not self.outgoing:
            self.token.run_sync_soon(self.hurry)
        self.outgoing.append(worker)
        return worker

    @enable_ki_protection
    def hurry(self) -> None:
        outgoing, self.outgoing = self.outgoing, []
        for worker, errand in [(worker, worker.errand) for worker in outgoing if worker.errand]:
            worker.send(errand)

    def rows_of(self, series: Series[Any]) -> Rows:
        return ThreadRows(series, self)

    def take(self) -> ThreadWorker:
        """An idle worker, or a new one."""
        return self.idle.popitem()[0] if self.idle else self.hire_thread()

    def hire_thread(self) -> ThreadWorker:
        """A new worker, which can be sent on its first errand before its thread has started."""
        self.hired += 1
        name = f"{self.block._label} #{self.hired}"
        worker = ThreadWorker(self.block._clerks, None, name, home=self)
        self.threads[worker] = None
        self.wanted = max(self.wanted, len(self.threads))
        self.hire(worker, self.context.copy())
        return worker

    @enable_ki_protection
    def look_around(self) -> None:
        """Somebody waits for a slot, or there are fewer: let go of what is too much."""
        for series in self.block._series:
            series.rows.look_around()
        self.trim()

    # Getting it back

    def arrive(self, what: Arrival) -> bool:
        """Something has happened in a thread; whether to `announce` it. Under the lock."""
        self.arrivals.append(what)
        announces = not self.announced
        self.announced = True
        return announces

    def announce(self, what: Callable[..., object], *args: Any) -> None:
        """Have Trio's loop do something. This runs in a thread."""
        with suppress(trio.RunFinishedError):  # which leaves nobody behind to hear of it
            self.token.run_sync_soon(what, *args)

    @enable_ki_protection
    def flush(self) -> None:
        """Settle what has arrived, and find out how to go on."""
        with self.lock:
            arrivals, self.arrivals = self.arrivals, []
            self.announced = False
        errands: dict[Errand, None] = {}
        last: Errand | None = None
        for arrival in arrivals:
            if isinstance(arrival, ThreadCall):
                errand = arrival.errand
                self.guard(errand.settle, arrival)
            elif isinstance(arrival, ThreadRows):
                errand = arrival
                self.guard(errand.settle_results)
            elif arrival.ends:
                self.threads.pop(arrival, None)
                continue
            elif arrival.errand is None or arrival.left:
                continue
            else:
                errand = arrival.errand
                with self.lock:
                    errand.idle.append(arrival)
            if errand is not last:
                errands[errand] = None
                last = errand
        for errand in errands:
            self.guard(errand.review)

    def guard(self, func: Callable[..., None], *args: Any) -> None:
        """Call what may call back to the user; what cannot be collected takes the pool down."""
        try:
            func(*args)
        except BaseException as error:
            self.nursery.start_soon(_raise, error)

    @enable_ki_protection
    def free(self, worker: ThreadWorker) -> None:
        """A thread that was left behind has come to its end."""
        self.threads.pop(worker, None)
        if worker.seat is not None:
            self.block._pass_on(worker.seat, worker)

    # Growing and shrinking

    def has_too_many(self) -> bool:
        """Whether an idle thread is to go home."""
        limit = min(self.wanted, self.block._slots.limiter.total_tokens)
        return self.dismissed or len(self.threads) > limit

    @enable_ki_protection
    def trim(self) -> None:
        """Send idle threads home that are too many."""
        while self.idle and self.has_too_many():
            self.take().go_home()

    @enable_ki_protection
    def resize(self, size: int) -> None:
        """Have so many threads, as soon as those that are too many have nothing to do."""
        self.wanted = size
        self.trim()
        while len(self.threads) < size:
            self.hire_thread().park()

    @enable_ki_protection
    def dismiss(self) -> None:
        self.dismissed = True
        self.block._slots.queue.listeners.pop(self.look_around, None)
        self.trim()


async def _raise(error: BaseException) -> NoReturn:
    """Take the pool down with an error, as it would do that left a call in a Trio task."""
    try:
        raise error
    finally:
        del error
