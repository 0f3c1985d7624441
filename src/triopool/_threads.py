"""The crew of a thread pool: workers whose Trio tasks each host a thread that makes the calls."""

from __future__ import annotations

import math
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import attrs
import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from triopool._crew import Crew
from triopool._errands import LoneErrand, ThreadCall, call_of
from triopool._failures import sift
from triopool._functions import check_sync, sync_value
from triopool._hooks import hooked_if_set
from triopool._inputs import END
from triopool._inside import HERE
from triopool._thread_rows import ThreadRows
from triopool._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from triopool._errands import Errand
    from triopool._rows import Rows
    from triopool._series import Series
    from triopool.task import Task

Arrival: TypeAlias = "ThreadCall | ThreadRows | ThreadWorker"


@attrs.define(eq=False)
class Threads(Crew):
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

    # Reentrant, for the garbage collector may run user code that kills something.
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
        for worker in outgoing:
            if worker.errand is not None:
                worker.send(worker.errand)

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


@attrs.define(eq=False)
class ThreadWorker(Worker):
    """A Trio task that hosts a thread, which goes on one errand after the other.

    A kill of the call that the thread makes cancels the scope of the Trio task, for the thread to
    ask about. Both end with that call, for they would still be cancelled in the next one.
    """

    home: Threads = attrs.field(kw_only=True)
    inbox: SimpleQueue[Errand | None] = attrs.field(
        factory=SimpleQueue["Errand | None"], init=False
    )
    errand: Errand | None = None  # what the thread was sent for
    # Under the lock of the crew; and `hit` is set under it.
    claimed: ThreadCall | None = None  # what the thread makes now
    ends: bool = False  # the thread goes home after this call
    unseated: bool = False  # it has no slot any more, so it claims no more calls of this errand
    begun: bool = False  # there is a thread
    fresh: bool = False  # it was just given a slot, so it makes one call even if others wait
    left: bool = False  # the Trio task has ended, maybe without the thread
    fatal: BaseException | None = None  # what the thread takes the pool down with

    def __attrs_post_init__(self) -> None:
        self.row = END

    async def _work(self) -> None:
        try:
            await self.host(self.live)
        except Exception as error:
            if self.errand is None:
                raise
            self.errand.fail_to_start(error)
        await checkpoint_if_cancelled()  # of which the thread may not have said anything

    async def host(self, func: Callable[[], Any]) -> Any:
        """Call a function in a thread of Trio's."""
        return await trio.to_thread.run_sync(
            func,
            thread_name=self.name,
            abandon_on_cancel=self.home.abandons,
            limiter=self.home.unlimited,
        )

    def send(self, errand: Errand) -> None:
        """Send the thread on an errand."""
        self.errand = errand
        if self.scope.shield:
            self.scope.shield = False
        self.wake(errand)

    def wake(self, errand: Errand) -> None:
        """Have the thread look at its errand."""
        with self.home.lock:
            errand.coming += 1
        self.inbox.put(errand)

    def rest(self) -> None:
        """The thread is back from its errand, and idle."""
        home = self.home
        self.errand = None
        self.unseated = False
        self._done()
        if home.has_too_many():
            self.go_home()
        else:
            self.park()

    def park(self) -> None:
        """Be idle. If threads are left behind, then not one that would go home at once."""
        if self.home.abandons:
            self.scope.shield = True
        self.home.idle[self] = None

    def go_home(self) -> None:
        """End, thread and all."""
        self.home.threads.pop(self, None)
        self.inbox.put(None)

    def is_fit(self) -> bool:
        """Whether it may go on with rows."""
        return not self.unseated and self.lent is None and not self.home.dismissed

    # In the thread

    def live(self) -> None:
        """Go on errands until there are no more."""
        HERE.current = self.current
        try:
            while not self.ends and (errand := self.inbox.get()) is not None:
                self.begun = True
                errand.serve(self)
                del errand  # keep nothing alive while it waits
        finally:
            HERE.current = None
        if self.fatal is not None:
            raise self.fatal

    def note(self, call: ThreadCall, error: BaseException) -> None:
        """A call raised: what becomes of it, and of the thread."""
        try:
            cancelled, rest = sift(error)
        except Exception as of_a_group:  # whose class is the user's
            cancelled, rest = False, of_a_group
        call.error = rest
        call.killed = rest is None
        if rest is not None and not isinstance(rest, Exception):
            self.fatal = rest
        if cancelled or self.fatal is not None:
            self.ends = True

    def deposit(self) -> bool:
        """The claimed call is done; whether anybody cares. To be called under the lock."""
        call, self.claimed, self.row = self.claimed, None, END
        if call is None:
            return True
        if self.left:
            self.ends = True
            self.home.announce(self.home.free, self)
            return False
        self.home.arrivals.append(call)
        return True

    def is_barred(self) -> bool:
        """Whether it may claim no call, nor another one. To be asked under the lock."""
        if self.hit or self.left:
            self.ends = True
        return self.ends or self.unseated or self.lent is not None

    def look(self) -> ThreadCall | None:
        """The call that the thread makes. That of a row is made when somebody looks."""
        with self.home.lock:
            if self.claimed is None and self.row is not END:
                assert self.errand is not None
                self.claimed = ThreadCall(self.errand, self.row, self.index)
                self.claimed.claimer = self
            return self.claimed

    def current(self) -> Task[Any] | None:
        """The task of the call that the thread makes."""
        call = self.look()
        return None if call is None else call.errand.task_of(call)

    # In Trio's thread

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        """Cancel the only call of its errand; if that was taken back, its slot is free."""
        call = self.claimed
        if call is not None:
            self.stop_call(call, reason)
        elif self.task is not None and self.task.ready():
            self.over()

    def stop_call(self, call: ThreadCall, reason: str) -> None:
        """Cancel a call, unless the thread is done with it."""
        with self.home.lock:
            if self.claimed is not call:
                return
            self.hit = True
        self.scope.cancel(reason=reason)

    def withdraw(self) -> bool:
        """Take the only call of its errand back, if the thread has not claimed it."""
        errand = self.errand
        with self.home.lock:
            if errand is None or not errand.queue:
                return False
            errand.queue.clear()
        return True

    def unseat_from(self, call: ThreadCall) -> Worker | None:
        """Have the thread claim no row after ``call``, if it makes that."""
        with self.home.lock:
            if self.claimed is not call:
                return None
            self.unseated = True
        return self

    def handle(self) -> Task[Any] | None:
        return self.task if self.series is None else self.series.rows.handle(self)

    def runs(self, task: object) -> bool:
        call = self.claimed
        return (call is not None and call.task is task) or task in self.inner

    async def invoke(self, task: Task[Any]) -> Any:
        def make() -> Any:
            HERE.current = lambda: task
            try:
                func, args, kwargs = call_of(task)
                return sync_value(hooked_if_set(func)(*args, **kwargs))
            finally:
                HERE.current = None

        return await self.host(make)

    def _leave(self) -> None:
        home = self.home
        with home.lock:
            self.left = True
            call = self.look()
        home.flush()  # what it has deposited until now
        self.inbox.put(None)
        home.idle.pop(self, None)
        errand, self.errand = self.errand, None
        if errand is not None:
            with home.lock:
                if self in errand.idle:
                    errand.idle.remove(self)
        if call is None:
            home.threads.pop(self, None)
        else:
            home.block._members.pop(self, None)
            call.errand.lose(call)
        seat = None
        if call is not None:  # left behind: the slot comes back with the thread
            seat, self.seat = self.seat, None
        super()._leave()
        self.seat = seat
        if errand is not None:
            errand.review()
