"""The crew of a thread pool: its threads, and how what happens in them comes back to Trio."""

from __future__ import annotations

import math
from contextvars import copy_context
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from triopool._crew import Crew
from triopool._errands import LoneErrand
from triopool._functions import check_sync
from triopool._mailbox import Mailbox
from triopool._thread_rows import ThreadRows
from triopool._thread_worker import ThreadWorker

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from triopool._errands import Errand
    from triopool._hand import Fault, Item
    from triopool._rows import Rows
    from triopool._series import Series
    from triopool._worker import Worker
    from triopool.task import Task


@attrs.define(eq=False)
class ThreadCrew(Crew):
    """The threads of one pool.

    A thread takes calls into its `Hand`, makes them, and keeps there what became of them until
    Trio's loop asks for it. The mailbox has those who want to be asked.
    """

    abandons: bool
    threads: dict[ThreadWorker, None] = attrs.field(factory=dict["ThreadWorker", None], init=False)
    idle: dict[ThreadWorker, None] = attrs.field(factory=dict["ThreadWorker", None], init=False)
    wanted: float = attrs.field(default=math.inf, init=False)  # so many are not too many
    # those whose call is to begin in the next pass of the loop
    outgoing: dict[ThreadWorker, Errand] = attrs.field(
        factory=dict["ThreadWorker", "Errand"], init=False
    )
    hired: int = attrs.field(default=0, init=False)  # for their names
    # The pool has a limiter already.
    unlimited: trio.CapacityLimiter = attrs.field(
        factory=partial(trio.CapacityLimiter, math.inf), init=False
    )
    # Around what several threads share. Reentrant, for those who hold it call others who take it.
    lock: RLock = attrs.field(factory=RLock, init=False)
    mailbox: Mailbox[ThreadWorker] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.mailbox = Mailbox(self.block._token, self.flush)
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
        errand = LoneErrand(worker, task, copy_context() if context is None else context)
        worker.errand = errand
        worker.hand.stock.append((0, None))
        # Whoever asked is to have the task before the call's first line runs.
        if not self.outgoing:
            self.block._token.run_sync_soon(self.hurry)
        self.outgoing[worker] = errand
        return worker

    @enable_ki_protection
    def hurry(self) -> None:
        outgoing, self.outgoing = self.outgoing, {}
        for worker, errand in outgoing.items():
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
        worker = ThreadWorker(self.block._clerks, None, home=self, name=name)
        self.hire(worker, name, self.context.copy())  # which may fail, for want of memory or stack
        self.threads[worker] = None
        self.wanted = max(self.wanted, len(self.threads))
        return worker

    @enable_ki_protection
    def look_around(self) -> None:
        """Somebody waits for a slot, or there are fewer: let go of what is too much."""
        for series in self.block._series:
            series.rows.look_around()
        self.trim()

    # Getting it back

    @enable_ki_protection
    def flush(self) -> None:
        """Settle what has happened in threads, and find out how to go on."""
        errands: dict[Errand, None] = {}
        for worker in self.mailbox.take():
            with self.lock:
                errand = worker.errand
                results, failures, resting = worker.hand.report()
            if errand is None:  # it was left behind
                continue
            self.settle(errand, results, failures)
            errands[errand] = None
            if resting and worker.hand.barred:
                self.threads.pop(worker, None)
            elif resting:
                # Not before: what is settled may end the errand of those who are idle.
                with self.lock:
                    errand.idle.append(worker)
        for errand in errands:
            errand.review()

    def settle(self, errand: Errand, results: list[Item], failures: list[Fault]) -> None:
        """Let an errand take what became of its calls."""
        if results:
            errand.settle(results)
        for index, error in failures:
            errand.settle_failure(index, error)

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
