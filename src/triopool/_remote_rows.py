"""Rows of a map that run elsewhere, out of a queue that is filled a little ahead of the slots."""

from __future__ import annotations

import abc
from collections import deque
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

import attrs
from trio.lowlevel import enable_ki_protection

from triopool._failures import caught
from triopool._inputs import END
from triopool._rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from threading import RLock

    from triopool._block import Block
    from triopool._failures import Failure
    from triopool._hand import Hand, Item
    from triopool._worker import Worker
    from triopool.task import Task

# At most so many rows wait, and more than one only while whole batches of them come back within so
# many seconds. This is a matter of speed alone.
FARTHEST = 64
QUICK = 0.002


@attrs.define(eq=False)
class RemoteRows(Rows, abc.ABC):
    """Rows that are in the queue, in a `Hand`, or over.

    A row moves from the queue to a hand and back only under the lock of the crew. It leaves these
    for good when it begins, or when it is taken back, and is counted as `settled` once. A row has
    no task unless somebody looks at it.
    """

    block: Block = attrs.field(init=False)
    lock: RLock = attrs.field(init=False)  # that of the crew
    # Under it:
    queue: deque[Item] = attrs.field(factory=deque["Item"], init=False)
    looked: dict[int, RowCall] = attrs.field(factory=dict[int, "RowCall"], init=False)
    halted: bool = attrs.field(default=False, init=False)  # no row is to begin any more

    discarded: set[int] = attrs.field(factory=set[int], init=False)
    settled: int = attrs.field(default=0, init=False)  # so many rows are over

    # For the feeder
    ahead: int = attrs.field(default=1, init=False)  # so many rows are to wait
    filled_at: float = attrs.field(default=0.0, init=False)

    prefetches = True

    @abc.abstractmethod
    def hands(self) -> Iterable[Hand]:
        """Where rows are that left the queue. To be asked under the lock."""

    @abc.abstractmethod
    def strike(self, index: int, reason: str) -> None:
        """Cancel a row, if it runs."""

    @abc.abstractmethod
    def unseat(self, index: int) -> Worker | None:
        """Have the worker that makes a row make no other, if there is one."""

    @abc.abstractmethod
    def review(self) -> None:
        """Rows are over: find out how to go on."""

    # What there is

    @property
    def queued(self) -> int:
        with self.lock:
            return len(self.queue) + sum(len(hand.stock) for hand in self.hands())

    def running(self) -> int:
        return self.series.taken - self.settled if self.workers or self.queue else 0

    def counted(self, taken: int) -> int:
        """How many of so many that were pulled count in the pool's ``len``, from any thread."""
        return max(0, taken - self.settled - len(self.discarded))

    @enable_ki_protection
    def tasks(self) -> list[Task[Any]]:
        with self.lock:
            self.recall()
            items = list(self.queue)
            items += [item for hand in self.hands() if (item := hand.making()) is not None]
            done = self.looked.keys() - {index for index, _ in items}
            tasks = {index: self.looked[index].task for index in done}
        tasks.update({item[0]: self.task_of(item) for item in items})
        return [tasks[i] for i in sorted(tasks) if not (i in self.discarded or tasks[i].ready())]

    def task_of(self, item: Item) -> Task[Any]:
        """The task for a row, made when somebody looks, maybe in the thread that runs it."""
        task = self.known(item)
        if task is None:
            index, row = item
            task = self.series.make_task(row)
            call = RowCall(self, index, task)
            task._queue(self.series.block, call)
            with self.lock:
                task = self.looked.setdefault(index, call).task
        return task

    def known(self, item: Item) -> Task[Any] | None:
        """The same, if somebody has looked."""
        call = self.looked.get(item[0])
        return None if call is None else call.task

    # The queue

    @enable_ki_protection
    def enqueue(self, row: Any) -> None:
        """Put a row into the queue, if it is one."""
        if row is END:
            return
        series = self.series
        with self.lock:
            self.queue.append((series.taken, row))
            series.taken += 1

    def pull(self) -> Any:
        """Put the next row into the queue, if there is one."""
        self.enqueue(super().pull())
        return END

    def fill(self) -> None:
        """Pull rows until enough of them wait."""
        series = self.series
        if (waiting := self.queued) < self.ahead:
            self.filled_at = perf_counter()
        while waiting < self.ahead and not series.exhausted and series.room():
            self.pull()
            waiting += 1

    def adapt(self) -> None:
        """Find out how many rows are to wait."""
        quick = perf_counter() - self.filled_at < QUICK
        if not quick:
            self.ahead = 1
        elif not self.queue:
            self.ahead = min(2 * self.ahead, FARTHEST)

    def put_back(self, items: list[Item]) -> None:
        """Put rows back into the queue, under the lock."""
        if items:
            rows = sorted([*items, *self.queue], key=itemgetter(0))
            self.queue.clear()
            self.queue.extend(rows)

    @enable_ki_protection
    def recall(self) -> None:
        """Put all back into the queue that no one has begun; they are claimed again."""
        with self.lock:
            for hand in self.hands():
                self.put_back(hand.recall())

    @enable_ki_protection
    def withdraw(self) -> None:
        with self.lock:
            self.recall()
            items = list(self.queue)
            self.queue.clear()
            looked = [call for index, _ in items if (call := self.looked.pop(index, None))]
            for call in looked:
                call.gone = True
        self.settled += len(items)
        for call in looked:
            call.task._die()

    # For the tasks of rows

    @enable_ki_protection
    def take_back(self, index: int) -> bool:
        """Take a row out of the queue; whether it had not begun."""
        with self.lock:
            self.recall()
            for place, item in enumerate(self.queue):
                if item[0] == index:
                    del self.queue[place]
                    return True
        return False

    def has_begun(self, index: int) -> bool:
        """Whether a row waits no more."""
        with self.lock:
            self.recall()
            return all(item[0] != index for item in self.queue)

    # When something has arrived

    def settle(self, results: list[Item]) -> None:
        """Take the results of rows."""
        self.settled += len(results)
        self.series.put_all(results)
        if self.looked or self.discarded:
            for index, value in results:
                self.discarded.discard(index)
                if (call := self.looked.pop(index, None)) is not None:
                    call.task._launch(call)
                    call.task._succeed(value)

    def settle_failure(self, index: int, error: BaseException | None) -> None:
        """Take the error of a row; None if it ended with a cancellation and no other error."""
        call = self.looked.pop(index, None)
        if call is not None:
            call.task._launch(call)
        self.end(index, call, None if error is None else caught(error))

    def end(self, index: int, call: RowCall | None, failure: Failure | None) -> None:
        """A row has failed, or was killed."""
        if failure is None:
            failure = self.series.kill_failure() if call is None else call.task._outcome()
        task = None if call is None or call.task.ready() else call.task
        self.settled += 1
        self.discarded.discard(index)
        self.series.settle(index, task, failure)
        if self.series.fails_fast():
            self.withdraw()

    def lose(self, item: Item) -> None:
        """A row was left behind, so it is over."""
        task = self.task_of(item)  # for its thread may ask later
        call = self.looked[item[0]]
        task._launch(call)
        self.end(item[0], call, None)

    def forget(self, item: Item) -> None:
        """What was left behind is over."""
        del self.looked[item[0]]


@attrs.define(eq=False)
class RowCall:
    """The host of the task of a row."""

    rows: RemoteRows
    index: int
    task: Task[Any]
    taken_back: bool = attrs.field(default=False, init=False)  # in order to kill it
    gone: bool = attrs.field(default=False, init=False)  # it will never begin

    def stop(self, reason: str, /) -> None:
        """Cancel the row, or settle it if it was taken back."""
        if self.taken_back:
            rows = self.rows
            rows.looked.pop(self.index)
            rows.end(self.index, self, self.task._outcome())
            rows.review()
        else:
            self.rows.strike(self.index, reason)

    def withdraw(self) -> bool:
        """Take the row back, if it has not begun."""
        self.taken_back = self.rows.take_back(self.index)
        self.gone |= self.taken_back
        return self.taken_back

    def holds_slot(self) -> bool:
        """A worker that has a slot makes it or will get to it, unless it was discarded."""
        return self.index not in self.rows.discarded

    def unseat(self) -> Worker | None:
        """Have the worker that makes it make no other."""
        worker = self.rows.unseat(self.index)
        if worker is not None:
            self.rows.discarded.add(self.index)
        return worker

    def has_begun(self) -> bool:
        """Whether it waits no more."""
        return not self.gone and self.rows.has_begun(self.index)

    def is_of(self, block: Block, /) -> bool:
        """Whether it is a row of this pool."""
        return self.index not in self.rows.discarded and self.rows.block is block
