"""The worker of a thread pool: a Trio task that hosts a thread, and what runs in that thread."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from triopool._errands import ThreadCall, call_of
from triopool._failures import sift
from triopool._functions import sync_value
from triopool._hooks import hooked_if_set
from triopool._inputs import END
from triopool._inside import HERE
from triopool._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool._errands import Errand
    from triopool._threads import ThreadCrew
    from triopool.task import Task


@attrs.define(eq=False)
class ThreadWorker(Worker):
    """A Trio task that hosts a thread, which goes on one errand after the other.

    A kill of the call that the thread makes cancels the scope of the Trio task, for the thread to
    ask about. Both end with that call, for they would still be cancelled in the next one.
    """

    home: ThreadCrew = attrs.field(kw_only=True)
    inbox: SimpleQueue[Errand | None] = attrs.field(
        factory=SimpleQueue["Errand | None"], init=False
    )
    errand: Errand | None = None  # what the thread was sent for
    # Under the lock of the crew; and `hit` is set under it.
    claimed: ThreadCall | None = None  # what the thread makes now
    ends: bool = False  # the thread goes home after this call
    unseated: bool = False  # it has no slot any more, so it claims no more calls of this errand
    begun: bool = False  # there is a thread
    sent: bool = False  # and it is to look at its errand
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
            self.sent = True
            errand.coming += 1
            self.inbox.put(errand)

    def come(self, errand: Errand) -> None:
        """The thread looks at its errand, or will never do so. To be called under the lock."""
        if self.sent:
            self.sent = False
            errand.coming -= 1

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
        if self.claimed is not None:  # left behind: its slot is free now
            self.claimed = None
            self.home.announce(self.home.free, self)
        elif self.fatal is not None:
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
        call, self.row = self.claimed, END
        if call is None:
            return True
        if self.left:
            self.ends = True
            return False
        self.claimed = None
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
                self.come(errand)
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
