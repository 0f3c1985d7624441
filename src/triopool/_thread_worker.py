"""The worker of a thread pool: a Trio task that hosts a thread, and what runs in that thread."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from triopool._errands import call_of
from triopool._failures import sift
from triopool._functions import sync_value
from triopool._hand import Hand
from triopool._hooks import hooked_if_set
from triopool._inside import HERE
from triopool._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool._errands import Errand
    from triopool._hand import Item
    from triopool._threads import ThreadCrew
    from triopool.task import Task


@attrs.define(eq=False)
class ThreadWorker(Worker):
    """A Trio task that hosts a thread, which goes on one errand after the other.

    A kill of the call that the thread makes cancels the scope of the Trio task, for the thread to
    ask about. Both end with that call, for they would still be cancelled in the next one.
    """

    home: ThreadCrew = attrs.field(kw_only=True)  # while `crew` are the clerks
    name: str = attrs.field(kw_only=True)
    inbox: SimpleQueue[Errand | None] = attrs.field(
        factory=SimpleQueue["Errand | None"], init=False
    )
    hand: Hand = attrs.field(factory=Hand, init=False)
    errand: Errand | None = None  # what the thread was sent for
    lost: tuple[Errand, Item] | None = None  # what it was in the middle of when it was left behind
    # Under the lock of the crew:
    sent: bool = False  # the thread is to look at its errand
    fresh: bool = False  # it was just given a slot, so it makes one call even if others wait
    unseated: bool = False  # it has no slot any more, so it claims no more calls of this errand
    # Set by the thread:
    begun: bool = False  # there is one
    serving: Errand | None = None  # what it is busy with
    fatal: BaseException | None = None  # what it takes the pool down with

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
        self.hand.start()
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

    @enable_ki_protection
    def over(self) -> None:
        """The call is over: it has no slot from now on."""
        self.crew.block._vacate(self)
        self.task = None

    def _done(self) -> None:
        if self.series is not None:
            self.series.rows.leave(self)
        super()._done()

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
        unfit = self.hand.barred or self.unseated or self.home.dismissed
        return not unfit and self.lent is None

    # In the thread

    def live(self) -> None:
        """Go on errands until there are no more."""
        HERE.current = self.current
        try:
            while not self.hand.barred and (errand := self.inbox.get()) is not None:
                self.begun = True
                self.serving = errand
                errand.serve(self)
                self.serving = None
                del errand  # keep nothing alive while it waits
        finally:
            HERE.current = None
        if self.lost is not None:  # its slot is free now
            self.home.mailbox.announce(self.free)
        elif self.fatal is not None:
            raise self.fatal

    def current(self) -> Task[Any] | None:
        """The task of the call that the thread makes."""
        item, errand = self.hand.current, self.serving
        return None if item is None or errand is None else errand.task_of(item)

    def fail(self, index: int, error: BaseException) -> None:
        """A call raised: what becomes of it, and of the thread."""
        cancelled, rest = sift(error)
        if rest is not None and not isinstance(rest, Exception):
            self.fatal = rest
        if cancelled or self.fatal is not None:
            self.hand.barred = True
        self.hand.failures.append((index, rest))
        if self.hand.reports():
            self.home.mailbox.post(self)

    def report_back(self) -> None:
        """There is nothing more to do."""
        with self.home.lock:
            self.hand.rest()
        if self.hand.reports():
            self.home.mailbox.post(self)

    # In Trio's thread

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        """Cancel the only call of its errand; if that was taken back, its slot is free."""
        with self.home.lock:
            struck = self.hand.strike()
        if struck:
            self.scope.cancel(reason=reason)
        elif self.task is not None and self.task.ready():
            self.over()

    def withdraw(self) -> bool:
        """Take the only call of its errand back, if the thread has not begun it."""
        with self.home.lock:
            return len(self.hand.recall()) > 0

    def handle(self) -> Task[Any] | None:
        return self.task if self.series is None else self.series.rows.handle(self)

    def runs(self, task: object) -> bool:
        item, errand = self.hand.current, self.errand
        made = None if item is None or errand is None else errand.known(item)
        return made is task or task in self.inner

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
            errand, self.errand = self.errand, None  # so what it tells later is not heard
            self.hand.barred = True
            if errand is not None:
                errand.put_back(self.hand.recall())
                self.come(errand)
                if self in errand.idle:
                    errand.idle.remove(self)
            results, failures, _ = self.hand.report()
            item = self.hand.making()
            if item is not None and errand is not None:
                self.lost = errand, item
        self.inbox.put(None)
        home.idle.pop(self, None)
        home.outgoing.pop(self, None)
        if errand is not None:
            home.settle(errand, results, failures)
        seat = None
        if self.lost is None:
            home.threads.pop(self, None)
        else:
            home.block._members.pop(self, None)
            self.lost[0].lose(self.lost[1])
            seat, self.seat = self.seat, None  # which comes back with the thread
        self._done()
        super()._leave()
        self.seat = seat
        if errand is not None:
            errand.review()

    @enable_ki_protection
    def free(self) -> None:
        """The thread that was left behind has come to its end."""
        lost, self.lost = self.lost, None  # for its context has this
        assert lost is not None
        errand, item = lost
        errand.forget(item)
        self.home.threads.pop(self, None)
        if self.seat is not None:
            self.home.block._pass_on(self.seat, self)
