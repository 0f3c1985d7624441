"""How the rows of a map run in threads: each takes the next ones from what all of them share."""

from __future__ import annotations

from threading import getprofile, gettrace
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import attrs
from trio.lowlevel import enable_ki_protection

from triopool._functions import sync_value
from triopool._hooks import hooked_if_set
from triopool._inputs import END
from triopool._inside import CALLER
from triopool._remote_rows import FARTHEST, QUICK, RemoteRows
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context

    from triopool._hand import Hand, Item
    from triopool._thread_worker import ThreadWorker
    from triopool._threads import ThreadCrew
    from triopool._worker import Worker


@attrs.define(eq=False)
class ThreadRows(RemoteRows):
    """Rows of sync functions: an `Errand` that several threads share.

    The feeder pulls the first rows, one for each slot that it gets. From then on a thread that has
    a slot pulls its next row itself, if that is of a builtin iterable. Others run code of the
    user's, so the feeder pulls them, a little ahead of the threads, whenever calls have come back.

    While calls are quick, a thread takes several rows at a time into its `Hand`. One that finds
    no other takes half of another's, so none waits behind a slow call while a thread is idle. A
    thread that finds nothing at all comes back, and keeps its slot only if there will be a row at
    once.
    """

    crew: ThreadCrew
    # Under the lock of the crew:
    idle: list[ThreadWorker] = attrs.field(factory=list["ThreadWorker"], init=False)
    coming: int = attrs.field(default=0, init=False)
    pressed: bool = attrs.field(default=False, init=False)  # others wait for slots
    drained: bool = attrs.field(default=False, init=False)  # a thread has seen the end of the input
    input_error: Exception | None = attrs.field(default=None, init=False)  # and how it ended

    makes_do: bool = attrs.field(default=False, init=False)  # no further thread could be started

    # For the threads, and the same all the time
    context: Context = attrs.field(init=False)
    func: Callable[..., Any] | None = attrs.field(init=False)  # unless tasks have a `run`
    starred: bool = attrs.field(init=False)
    pulls: bool = attrs.field(init=False)  # threads do
    bounded: bool = attrs.field(init=False)  # there may be no room
    halts_on_error: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        series = self.series
        self.block = series.block
        self.lock = self.crew.lock
        self.context = series.context
        self.func = None
        if not series.task_class._has_own_run():
            self.func = series.func
        self.starred = series.inputs.starred
        self.pulls = series.inputs.direct
        self.bounded = series.is_bounded()
        self.halts_on_error = series.fails_fast()

    def hands(self) -> Iterable[Hand]:
        return [cast("ThreadWorker", worker).hand for worker in self.workers]

    # In the thread

    def serve(self, worker: ThreadWorker) -> None:
        """Make calls as long as there is one for this thread.

        This is most of what a row costs, so it looks at as little as it can.
        """
        hand = worker.hand
        stock, results, begin = hand.stock, hand.results, hand.begin
        post = self.crew.mailbox.post
        copy = self.context.copy
        func = cast("Callable[..., Any]", self.func)
        plain = self.func is not None and not self.starred and not self.crew.abandons
        value: Any = None
        row: Any = None
        item = self._claim(worker)
        while item is not None:
            index, row = item
            try:
                if plain and getprofile() is None and gettrace() is None:
                    value = copy().run(func, row)
                else:
                    value = self._make(worker, row)
                if type(cast("object", value)) is CoroutineType:
                    sync_value(value)
            except BaseException as error:
                if self.halts_on_error:
                    self._halt()
                worker.fail(index, error)
            else:
                results.append((index, value))
                if not hand.reported:
                    hand.reported = True
                    post(worker)
            value = row = None
            item = begin() if stock and worker.lent is None and not hand.barred else None
            if item is None:
                item = self._claim(worker)
        worker.report_back()
        # The frames of a call that fails lead back to this one.
        del self, worker, hand, stock, results, begin, post, copy, func

    def _make(self, worker: ThreadWorker, row: Any) -> Any:
        """Make a call in one of the less common ways."""
        context = self.context.copy()
        if self.crew.abandons:
            context.run(CALLER.set, worker)
        func: Callable[..., Any]
        if self.func is None:
            func, args = cast("Any", worker.current()).run, cast("Any", ())
        else:
            func, args = self.func, row if self.starred else (row,)
        del self, worker, row
        return context.run(hooked_if_set(func), *args)

    def _halt(self) -> None:
        with self.lock:
            self.halted = True
            self.recall()

    def _claim(self, worker: ThreadWorker) -> Item | None:
        """Claim the next row, and maybe some more, if there is one for this thread."""
        with self.lock:
            worker.come(self)
            if not self._may_claim(worker):
                self.put_back(worker.hand.recall())
                return None
            worker.fresh = False
            item = worker.hand.give(self._take(worker.hand))
            helper = self.idle.pop() if item is not None and self.idle else None
            if helper is not None:
                helper.wake(self)  # and comes back if there is nothing more
        if worker.hand.stock and helper is None and worker.hand.reports():
            self.crew.mailbox.post(worker)  # there may be slots for those in stock
        return item

    def _may_claim(self, worker: ThreadWorker) -> bool:
        if self.halted or not worker.is_fit():
            return False
        return not self.pressed or worker.loan is not None or worker.fresh

    def _may_pull(self) -> bool:
        """Whether threads may pull another row."""
        series = self.series
        more = self.pulls and not self.drained and not series.exhausted
        return more and (not self.bounded or series.room())

    def _take(self, hand: Hand) -> list[Item]:
        """Take the next rows, or half of another thread's."""
        now = perf_counter()
        quick = now - hand.claimed_at < QUICK
        hand.claimed_at = now
        threads = len(self.workers)
        most = 1 if self.pressed else max(1, FARTHEST // threads)
        hand.reach = min(2 * hand.reach, most) if quick else 1
        if self.queue:
            count = min(hand.reach, -(-len(self.queue) // threads))
            return [self.queue.popleft() for _ in range(count)]
        return self._pull(hand.reach) or max(self.hands(), key=_len_of_stock).share()

    def _pull(self, count: int) -> list[Item]:
        """Pull so many rows, if there are."""
        items: list[Item] = []
        if not self._may_pull():
            return items
        series = self.series
        pull = series.inputs.pull
        bounded = self.bounded
        try:
            while len(items) < count and (not bounded or series.room()):
                items.append((series.taken, pull()))
                series.taken += 1
        except StopIteration:
            self.drained = True
        except Exception as error:
            self.drained = True
            self.input_error = error
        return items

    # For the series and its feeder

    @property
    def unserved(self) -> int:
        return self.queued - self.coming

    @property
    def grows(self) -> bool:
        makers = any(cast("ThreadWorker", worker).is_fit() for worker in self.workers)
        return not (self.makes_do and makers)

    def launch(self, row: Any) -> Worker:
        self.enqueue(row)
        if not self.workers:
            self.makes_do = False
        worker = self.crew.take()
        with self.lock:
            self.workers[worker] = None
        worker.fresh = True
        worker.send(self)
        return worker

    def prefetch(self) -> None:
        if self.pulls or self.series.inputs.is_async or not self.workers:
            return
        self.fill()
        self._dispatch(waits=False)

    def pull(self) -> Any:
        if not self.pulls:
            return super().pull()
        self._pull_among_threads()
        return END

    @enable_ki_protection
    def _pull_among_threads(self) -> None:
        with self.lock:
            self.queue.extend(self._pull(1))
        self._look_for_drained()

    @enable_ki_protection
    def withdraw(self) -> None:
        if not self.idle and not self.queued:
            return
        series = self.series  # which this may end
        super().withdraw()
        self._dispatch(waits=False)
        series.feeder.no_more()

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        with self.lock:
            self.halted = True
            self.recall()
            workers = cast("list[ThreadWorker]", list(self.workers))
            hit = [worker for worker in workers if worker.hand.strike()]
        for worker in hit:
            worker.scope.cancel(reason=reason)
        self.withdraw()

    @enable_ki_protection
    def leave(self, worker: Worker, /) -> None:
        worker.series = None
        with self.lock:
            del self.workers[worker]
        self._look_for_drained()
        self.series.feeder.worker_left()
        self.series.feeder.wake()
        self.series.look_for_end()

    def handle(self, worker: Worker) -> Task[Any] | None:
        with self.lock:
            self.recall()
            item = cast("ThreadWorker", worker).hand.making()
        return None if item is None else self.task_of(item)

    def look_around(self) -> None:
        if self.workers and self.series.slots.wanted(self.series.feeder.awaited is not None):
            self._press(True)

    def _is_pressed(self) -> bool:
        return self.series.slots.is_short(self.series.feeder.is_in_line())

    def _press(self, pressed: bool) -> None:
        """Others wait for slots, or do so no more."""
        self.pressed = pressed
        if pressed:
            self.recall()
            self.series.feeder.wake()

    # For the tasks of rows

    @enable_ki_protection
    def strike(self, index: int, reason: str) -> None:
        with self.lock:
            worker = self._maker_of(index)
            if worker is not None:
                worker.hand.strike()
        if worker is not None:
            worker.scope.cancel(reason=reason)
        self.review()

    @enable_ki_protection
    def unseat(self, index: int) -> Worker | None:
        with self.lock:
            worker = self._maker_of(index)
            if worker is not None:
                worker.unseated = True
        self.review()
        return worker

    def _maker_of(self, index: int) -> ThreadWorker | None:
        """The worker whose thread makes a row. To be asked under the lock."""
        self.recall()
        for worker in cast("Iterable[ThreadWorker]", self.workers):
            item = worker.hand.making()
            if item is not None and item[0] == index:
                return worker
        return None

    # When something has arrived

    def fail_to_start(self, error: Exception) -> None:
        """There is one thread less for its rows."""
        self.makes_do = any(cast("ThreadWorker", worker).begun for worker in self.workers)
        if self.queue and not self.makes_do:
            self.series.fail_input(error)
            self.stop("no thread could be started")

    def review(self) -> None:
        """Fill the queue again, wake threads for it, and let those go that have nothing to do.

        Those that are kept here, since rows will come, `prefetch` or `withdraw` lets go.
        """
        if not self.workers:
            return
        series = self.series
        feeder = series.feeder
        self.adapt()
        while (pressed := self._is_pressed()) and (idle := self._pop_idle()):
            idle.rest()
            if series.over:
                return
        self._press(pressed)
        self._look_for_drained()
        waits = False
        by_feeder = not self.pulls and not series.inputs.is_async
        if by_feeder and not (pressed or series.exhausted) and series.room():
            feeder.nudge()
            waits = feeder.worker is not None
        self._dispatch(waits=waits)
        if self.unserved > 0:
            feeder.wake()
        elif series.exhausted and not self.queued:
            feeder.no_more()

    def _look_for_drained(self) -> None:
        """If a thread has come to the end of the input, let the series know."""
        if self.drained:
            self.series.exhausted = True
        if self.input_error is not None:
            error, self.input_error = self.input_error, None
            self.series.fail_input(error)

    def _pop_idle(self) -> ThreadWorker | None:
        with self.lock:
            return self.idle.pop() if self.idle else None

    @enable_ki_protection
    def _dispatch(self, *, waits: bool) -> None:
        """Wake an idle thread if rows wait, which wakes the next; let those go who are too many."""
        if not self.idle:
            return
        with self.lock:
            fit = [worker for worker in self.idle if worker.is_fit()]
            going = fit[: self._use()]
            waiting = fit[len(going) :] if waits else []
            leaving = [worker for worker in self.idle if worker not in going + waiting]
            self.idle = going[1:] + waiting
        if going:
            going[0].wake(self)
        for worker in leaving:
            worker.rest()

    def _use(self) -> int:
        """So many more threads have something to do."""
        if self.halted or self.pressed:
            return 0
        return len(self.idle) if self._may_pull() else self.queued


def _len_of_stock(hand: Hand) -> int:
    return len(hand.stock)
