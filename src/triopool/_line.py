"""The line before a pool: who has asked for a slot, in the order of asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from trio.lowlevel import checkpoint

from triopool._worker import Worker

if TYPE_CHECKING:
    from contextvars import Context

    from triopool._feeder import Feeder
    from triopool.task import Task


@attrs.define(eq=False)
class Latecomers:
    """Those who found somebody in the line, all in the same pass of the loop."""

    count: int = 0


@attrs.define(eq=False)
class Line:
    """Those who wait for a slot in Trio tasks of the crew, which begin to do so one pass late.

    Whoever waits in his own Trio task is in the limiter's queue at once. But a queued call, and a
    feeder, get there in the first step of their workers, and Trio shuffles those. So they ask here
    first, and get in line in this order; and so does whoever comes while one of them is here, with
    all who come in the same pass. Queued calls are served in the order of asking, whichever of
    their workers gets a slot first.
    """

    # Calls that have no slot, each with the worker that waits and the context that it is to run in.
    calls: dict[Task[Any], tuple[Worker, Context]] = attrs.field(
        init=False, factory=dict["Task[Any]", "tuple[Worker, Context]"]
    )
    # Workers of such calls, feeders, and latecomers that are not in the limiter's queue yet.
    asked: dict[Worker | Feeder | Latecomers, None] = attrs.field(
        init=False, factory=dict["Worker | Feeder | Latecomers", None]
    )

    _others: int = attrs.field(init=False, default=0)  # how many of these are no workers
    _wanted: int = attrs.field(init=False, default=0)  # how many slots they want
    _latest: Latecomers | None = attrs.field(init=False, default=None)  # those of this pass

    def __len__(self) -> int:
        """How many want a slot."""
        return self._wanted

    def ask(self, who: Feeder | Latecomers) -> None:
        """Come to the end of the line."""
        self.asked[who] = None
        self._others += 1
        self._wanted += not isinstance(who, Latecomers)  # who count one by one

    def enqueue(self, task: Task[Any], worker: Worker, context: Context) -> None:
        """Come to the end of the line with a call."""
        self.calls[task] = worker, context
        self.asked[worker] = None
        self._wanted += 1

    async def up(self, who: Worker | Feeder) -> None:
        """Let those get into the limiter's queue who asked before; if none did, no checkpoint."""
        while self._others and who in self.asked and (first := self._first()) is not who:
            if isinstance(who, Worker) and isinstance(first, Worker):
                # Calls are served in their own order, so their workers may change places.
                places: list[Worker | Feeder | Latecomers] = list(self.asked)
                places[places.index(who)] = first
                places[0] = who
                self.asked = dict.fromkeys(places)
                break
            await checkpoint()
        self.drop(who)

    def _first(self) -> Worker | Feeder | Latecomers:
        return next(iter(self.asked))

    def drop(self, who: Worker | Feeder | Latecomers) -> None:
        """It is in the limiter's queue, or wants nothing any more."""
        if who in self.asked:
            del self.asked[who]
            self._others -= not isinstance(who, Worker)
            self._wanted -= not isinstance(who, Latecomers)

    def leave(self, worker: Worker, task: Task[Any]) -> None:
        """A call has got its slot, or wants none any more."""
        self.calls.pop(task, None)
        self.drop(worker)

    async def after_all(self) -> None:
        """Let everyone get into the limiter's queue who has asked by now; there is someone.

        The caller is to get into it at once then.
        """
        group = self._latest
        if group is None:
            group = self._latest = Latecomers()
            self.ask(group)
        group.count += 1
        self._wanted += 1
        try:
            while True:
                try:
                    await checkpoint()
                finally:
                    if self._latest is group:
                        self._latest = None  # that pass is over
                if self._first() is group:
                    return
        finally:
            group.count -= 1
            self._wanted -= 1
            if not group.count:
                self.drop(group)

    def next(self, worker: Worker) -> Context:
        """Give the call that waited longest to a worker with a slot, and its own to another."""
        task = next(iter(self.calls))
        other, context = self.calls.pop(task)
        own = worker.task
        assert own is not None
        if own is not task:
            self.calls[own] = other, self.calls[own][1]
            other.task = own
            own._host = other
            worker.task = task
        task._launch(worker)
        return context
