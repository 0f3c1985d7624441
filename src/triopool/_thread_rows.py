"""How the rows of a map run in threads: from one queue that is filled a little ahead of them."""

from __future__ import annotations

from collections import deque
from threading import getprofile, gettrace
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import attrs
from trio.lowlevel import enable_ki_protection

from triopool._errands import ThreadCall
from triopool._failures import Failure, caught
from triopool._functions import sync_value
from triopool._hooks import hooked_if_set
from triopool._inputs import END
from triopool._inside import CALLER
from triopool._rows import Rows
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from triopool._thread_worker import ThreadWorker
    from triopool._threads import ThreadCrew
    from triopool._worker import Worker

# At most so many rows wait in the queue, and more than one only while whole batches of them come
# back within so many seconds. This is a matter of speed alone.
FARTHEST = 64
QUICK = 0.002

ASYNC = (CoroutineType,)  # the types of what only an async function returns


@attrs.define(eq=False)
class ThreadRows(Rows):
    """Rows of sync functions: an `Errand` that several threads share.

    The feeder pulls the first rows, one for each slot that it gets. From then on a thread that has
    a slot pulls its next row itself, if that is of a builtin iterable. Others run code of the
    user's, so the feeder pulls them, a little ahead of the threads, whenever calls have come back.
    A thread that finds no row comes back idle; it keeps its slot only if there will be one at once.
    """

    crew: ThreadCrew
    queue: deque[ThreadCall] = attrs.field(factory=deque[ThreadCall], init=False)
    coming: int = attrs.field(default=0, init=False)
    idle: list[ThreadWorker] = attrs.field(factory=list["ThreadWorker"], init=False)
    discarded: set[ThreadCall] = attrs.field(factory=set["ThreadCall"], init=False)
    settled: int = attrs.field(default=0, init=False)  # so many rows are over

    # For the threads
    context: Context = attrs.field(init=False)
    func: Callable[..., Any] | None = attrs.field(init=False)  # unless tasks have a `run`
    starred: bool = attrs.field(init=False)
    pulls: bool = attrs.field(init=False)  # threads do
    bounded: bool = attrs.field(init=False)  # there may be no room
    halts_on_error: bool = attrs.field(init=False)
    # Under the lock:
    results: list[tuple[int, Any]] = attrs.field(factory=list["tuple[int, Any]"], init=False)
    pressed: bool = attrs.field(default=False, init=False)  # others wait for slots
    halted: bool = attrs.field(default=False, init=False)  # no row is to begin, for one has failed
    drained: bool = attrs.field(default=False, init=False)  # a thread has seen the end of the input
    input_error: Exception | None = attrs.field(default=None, init=False)  # and how it ended

    # For the feeder
    ahead: int = attrs.field(default=1, init=False)  # so many rows are to wait in the queue
    filled_at: float = attrs.field(default=0.0, init=False)

    prefetches = True

    def __attrs_post_init__(self) -> None:
        series = self.series
        self.context = series.context
        self.func = None
        if series.task_class.run is cast("Any", Task).run:
            self.func = series.func
        self.starred = series.inputs.starred
        self.pulls = series.inputs.direct
        self.bounded = series.is_bounded()
        self.halts_on_error = series.fails_fast()

    # In the thread

    def serve(self, worker: ThreadWorker) -> None:
        """Make calls as long as there is one for this thread.

        This is most of what a row costs, so it looks at as little as it can, and a row is no
        `ThreadCall` unless it was queued, somebody looks at it, or it fails.
        """
        crew = self.crew
        lock = crew.lock
        copy = self.context.copy
        func = cast("Callable[..., Any]", self.func)
        plain = self.func is not None and not self.starred and not crew.abandons
        value: Any = None
        with lock:
            worker.come(self)
            goes_on = self._claim(worker)
            announces = not goes_on and crew.arrive(worker)
        while goes_on:
            if announces:
                crew.announce(crew.flush)
            try:
                if plain and getprofile() is None and gettrace() is None:
                    value = copy().run(func, worker.row)
                else:
                    value = self._make(worker)
                if type(value) in ASYNC:
                    sync_value(value)
            except BaseException as error:
                self._fail(worker, error)
            with lock:
                if worker.claimed is None:
                    announces = not self.results and crew.arrive(self)
                    self.results.append((worker.index, value))
                    worker.row = END
                else:
                    worker.claimed.value = value
                    if not worker.deposit():
                        break
                    announces = not crew.announced
                    crew.announced = True
                value = None
                goes_on = self._claim(worker)
                if not goes_on:
                    announces |= crew.arrive(worker)
        if announces:
            crew.announce(crew.flush)
        # The frames of a call that fails lead back to this one.
        del self, worker, crew, lock, copy, func, value

    def _make(self, worker: ThreadWorker) -> Any:
        """Make a call in one of the less common ways."""
        context = self.context.copy()
        if self.crew.abandons:
            context.run(CALLER.set, worker)
        func: Callable[..., Any]
        if self.func is None:
            func, args = cast("Any", worker.current()).run, cast("Any", ())
        else:
            func, args = self.func, worker.row if self.starred else (worker.row,)
        del self, worker
        return context.run(hooked_if_set(func), *args)

    def _fail(self, worker: ThreadWorker, error: BaseException) -> None:
        call = worker.look()
        assert call is not None
        worker.note(call, error)
        if self.halts_on_error:
            self.halted = True

    def _claim(self, worker: ThreadWorker) -> bool:
        """Claim the next row, under the lock; whether there is one for this thread."""
        others = self.pressed and worker.loan is None and not worker.fresh
        worker.fresh = False
        if others or self.halted or worker.is_barred():
            return False
        if self.queue:
            call = worker.claimed = self.queue.popleft()
            call.claimer = worker
            worker.row = call.row
        elif not self._pull(worker):
            return False
        if self.idle:
            self.idle.pop().wake(self)
        return True

    def _pull(self, worker: ThreadWorker) -> bool:
        """Pull a row for the thread, under the lock."""
        series = self.series
        if not self.pulls or self.drained or series.exhausted:
            return False
        if self.bounded and not series.room():
            return False
        try:
            worker.row = series.inputs.pull()
        except StopIteration:
            self.drained = True
        except Exception as error:
            self.drained = True
            self.input_error = error
        else:
            worker.index = series.taken
            series.taken += 1
            return True
        return False

    def task_of(self, call: ThreadCall) -> Task[Any]:
        """The task for a row, made when somebody looks, maybe in its thread."""
        if call.task is None:
            task = self.series.make_task(call.row)
            task._queue(self.series.slots, call)
            with self.crew.lock:
                if call.task is None:
                    call.task = task
        return call.task

    # For the series and its feeder

    @property
    def queued(self) -> int:
        return len(self.queue)

    @property
    def unserved(self) -> int:
        return len(self.queue) - self.coming

    def running(self) -> int:
        return self.series.taken - self.settled if self.workers or self.queue else 0

    def counted(self) -> int:
        """How many of those that run count in the pool's ``len``."""
        return self.running() - len(self.discarded)

    @enable_ki_protection
    def tasks(self) -> list[Task[Any]]:
        workers = cast("dict[ThreadWorker, None]", self.workers)
        with self.crew.lock:
            calls = list(self.queue)
            calls += [each for each in self.crew.arrivals if isinstance(each, ThreadCall)]
            calls += [call for worker in workers if (call := worker.look()) is not None]
        own = [call for call in calls if call.errand is self and call not in self.discarded]
        own.sort(key=lambda call: call.index)
        return [self.task_of(call) for call in own]

    def launch(self, row: Any) -> Worker:
        self._enqueue(row)  # if it is none, one waits in the queue
        worker = self.crew.take()
        self.workers[worker] = None
        worker.fresh = True
        worker.send(self)
        return worker

    @enable_ki_protection
    def _enqueue(self, row: Any) -> None:
        if row is END:
            return
        series = self.series
        with self.crew.lock:
            self.queue.append(ThreadCall(self, row, series.taken))
            series.taken += 1

    def prefetch(self) -> None:
        if self.pulls or self.series.inputs.is_async or not self.workers:
            return
        self._fill()
        self._dispatch(waits=False)

    def pull(self) -> Any:
        """Put the next row into the queue, if there is one."""
        if self.pulls:
            self._pull_into_queue()
        else:
            self._enqueue(super().pull())
        return END

    @enable_ki_protection
    def _pull_into_queue(self) -> None:
        with self.crew.lock:  # and numbered before a thread pulls the next one
            if not self.drained and self.series.room():
                self._enqueue(self.series.pull())
        self._look_for_drained()

    @enable_ki_protection
    def withdraw(self) -> None:
        if not self.queue and not self.idle:
            return
        series = self.series  # which this may end
        withdrawn: list[ThreadCall] = []
        with self.crew.lock:
            while self.queue:
                withdrawn.append(self.queue.popleft())
        self.settled += len(withdrawn)
        for call in withdrawn:
            if call.task is not None and not call.task.ready():
                call.task._die()
        self._dispatch(waits=False)
        if withdrawn and series.exhausted:
            series.feeder.no_more()

    @enable_ki_protection
    def stop(self, reason: str) -> None:
        with self.crew.lock:
            workers = cast("dict[ThreadWorker, None]", self.workers)
            hit = [worker for worker in workers if worker.row is not END]
            for worker in hit:
                worker.hit = True
        for worker in hit:
            worker.scope.cancel(reason=reason)
        self.withdraw()

    @enable_ki_protection
    def leave(self, worker: Worker) -> None:
        del self.workers[worker]
        self.series.feeder.wake()
        self.series.look_for_end()

    def handle(self, worker: Worker) -> Task[Any] | None:
        call = cast("ThreadWorker", worker).look()
        return None if call is None else self.task_of(call)

    def look_around(self) -> None:
        if self.workers and self.series.slots.wanted(self.series.feeder.queued):
            self.pressed = True

    # For the tasks of rows

    def take_back(self, call: ThreadCall) -> bool:
        """Take a row out of the queue; whether it was still there."""
        with self.crew.lock:
            if call not in self.queue:
                return False
            self.queue.remove(call)
        return True

    def stop_row(self, call: ThreadCall, reason: str) -> None:
        """Cancel a row; if it was taken back, it is over."""
        claimer = call.claimer
        task = call.task
        assert task is not None
        if claimer is not None:
            claimer.stop_call(call, reason)
        for dead in [task] if claimer is None and task.ready() else []:
            # It was taken back for this. Otherwise whoever took it back settles it.
            self._settle_failure(call, dead._outcome())
            self.review()

    # When something has arrived

    def settle(self, call: ThreadCall) -> None:
        """Take the result of a row, or its error."""
        if call.task is not None:
            call.task._look()
        if call.error is not None:
            error, call.error = call.error, None  # whose traceback has the call
            self._settle_failure(call, caught(error))
        elif call.killed:
            self._settle_failure(call, self._kill_failure(call))
        else:
            self.settled += 1
            self.discarded.discard(call)
            if call.task is not None:
                call.task._succeed(call.value)
            self.series.put(call.index, call.value)

    def settle_results(self) -> None:
        """Take the results of rows that nobody has looked at."""
        with self.crew.lock:
            results, self.results = self.results, []
        self.settled += len(results)
        self.series.put_all(results)

    def lose(self, call: ThreadCall) -> None:
        """A row was left behind, so it is over."""
        self.task_of(call)  # for its thread may ask later
        self._settle_failure(call, self._kill_failure(call))

    def _kill_failure(self, call: ThreadCall) -> Failure:
        return self.series.kill_failure() if call.task is None else call.task._outcome()

    def _settle_failure(self, call: ThreadCall, failure: Failure) -> None:
        self.settled += 1
        self.discarded.discard(call)
        task = call.task
        self.series.settle(call.index, None if task is None or task.ready() else task, failure)
        if self.halts_on_error:
            self.withdraw()

    def fail_to_start(self, error: Exception) -> None:
        """There is one thread less for its rows."""
        begun = any(cast("ThreadWorker", worker).begun for worker in self.workers)
        if self.queue and not begun:
            for first in [error] if self.series.input_failure is None else []:
                self.series.fail_input(first)
            self.stop("no thread could be started")

    def review(self) -> None:
        """Fill the queue again, wake threads for it, and let those go that have nothing to do."""
        if not self.workers:
            return
        series = self.series
        feeder = series.feeder
        self._adapt()
        while (pressed := series.slots.is_short(feeder.queued)) and (idle := self._pop_idle()):
            idle.rest()
            if series.over:
                return
        self.pressed = pressed
        self._look_for_drained()
        waits = False
        by_feeder = not self.pulls and not series.inputs.is_async
        if by_feeder and not (pressed or series.exhausted) and series.room():
            feeder.nudge()
            waits = feeder.worker is not None
        self._dispatch(waits=waits)
        if series.exhausted and not self.queue:
            feeder.no_more()

    def _look_for_drained(self) -> None:
        """If a thread has come to the end of the input, let the series know."""
        if self.drained and not self.series.exhausted:
            self.series.exhausted = True
            if self.input_error is not None:
                self.series.fail_input(self.input_error)

    def _pop_idle(self) -> ThreadWorker | None:
        with self.crew.lock:
            return self.idle.pop() if self.idle else None

    def _adapt(self) -> None:
        quick = perf_counter() - self.filled_at < QUICK
        if not quick:
            self.ahead = 1
        elif not self.queue:
            self.ahead = min(2 * self.ahead, FARTHEST)

    def _fill(self) -> None:
        """Pull rows until enough of them wait."""
        series = self.series
        if len(self.queue) < self.ahead:
            self.filled_at = perf_counter()
        while len(self.queue) < self.ahead and not series.exhausted and series.room():
            self.pull()

    @enable_ki_protection
    def _dispatch(self, *, waits: bool) -> None:
        """Wake an idle thread if rows wait, which wakes the next; let those go who are too many."""
        if not self.idle:
            return
        with self.crew.lock:
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
        if self.pulls and not (self.drained or self.series.exhausted) and self.series.room():
            return len(self.idle)
        return len(self.queue)
