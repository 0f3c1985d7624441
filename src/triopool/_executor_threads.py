"""The threads of an executor and the queue between: started on demand, gone at exit and fork."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from concurrent.futures.thread import BrokenThreadPool
from contextlib import suppress
from operator import itemgetter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast
from weakref import WeakSet

from trio.lowlevel import enable_ki_protection

from triopool._futures import Future
from triopool._hooks import drop_hooks

if TYPE_CHECKING:
    from collections.abc import Callable

_first: Callable[[list[int]], int] = itemgetter(0)
logger = logging.getLogger("concurrent.futures")  # where people look for it


class Item(Protocol):
    """What waits in the queue: whoever takes it out either runs or drops it, once."""

    def _run(self) -> None: ...

    def _drop(self, broken: str | None = None) -> None: ...


class _Interpreter:
    """What the executors of this process share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # of all that follows
        self.exiting = False
        self.running: dict[threading.Thread, Threads] = {}
        self.known: WeakSet[Threads] = WeakSet()


_interpreter = _Interpreter()


class Threads:
    """Threads that take items out of one queue. They do not keep their executor alive.

    A ``None`` in the queue ends them, one after the other: each puts it back for the next. It is
    put there when the executor is shut down or gone, or the interpreter exits; what was queued
    before is run first.
    """

    def __init__(
        self,
        most: int,
        prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self._most = most
        self._prefix = prefix
        self._initializer = initializer
        self._initargs = initargs
        self.all: set[threading.Thread] = set()
        self.closed = False
        self.broken: str | None = None
        self._open = True  # neither closed nor broken, nor does the interpreter exit
        self._begin()
        with _interpreter.lock:
            _interpreter.known.add(self)

    def _begin(self) -> None:
        """Begin without threads: at first, and in the child of a fork, where they are gone."""
        self._lock = threading.Lock()  # of all that follows, and of `_open`
        self.queue: SimpleQueue[Item | None] = SimpleQueue()
        self.all.clear()
        self._alive = 0
        self._watchers: list[Future[None]] = []  # done when none is alive
        self._growing = True  # there are less than `_most`
        # How many items were queued while growing, and, for each thread, how many it is done with.
        self._queued = 0
        self._done: list[list[int]] = []

    # Queueing

    @enable_ki_protection
    def put(self, item: Item) -> None:
        """Queue an item, and start a thread unless there is one for each item that is not done."""
        with self._lock:
            if not self._open:
                self._refuse()
            thread = self._hire() if self._growing else None
            self.queue.put(item)
            if thread is not None:
                self._start(thread)

    def _refuse(self) -> NoReturn:
        if self.broken is not None:
            raise BrokenThreadPool(self.broken)
        when = "shutdown" if self.closed else "interpreter shutdown"
        raise RuntimeError(f"cannot schedule new futures after {when}")

    def _hire(self) -> threading.Thread | None:
        self._queued += 1
        if self._queued - sum(map(_first, self._done)) <= len(self.all):
            return None
        done = [0]
        thread = threading.Thread(
            name=f"{self._prefix}_{len(self.all)}",
            target=work,
            args=(self, self.queue, done),
        )
        with _interpreter.lock:
            if _interpreter.exiting:
                self._refuse()
            _interpreter.running[thread] = self
        self.all.add(thread)
        self._alive += 1
        self._done.append(done)
        self._growing = len(self.all) < self._most
        return thread

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError:  # the system gives no more
            self.all.discard(thread)
            self._alive -= 1
            self._done.pop()
            self._growing = True
            _interpreter.running.pop(thread)
            if not self.all:
                self._drain()
                self._queued = 0
                raise

    # Ending

    def close(self, *, drop: bool) -> None:
        """Let nothing in any more, and drop what is queued or let it run."""
        _drop_all(self._close(drop))

    @enable_ki_protection
    def _close(self, drop: bool) -> deque[Item]:
        with self._lock:
            self.closed = True
            self._open = False
            dropped = self._drain() if drop else deque[Item]()
            self.queue.put(None)
        return dropped

    def retire(self) -> None:
        """The executor is gone. This may be called in the middle of anything."""
        self.queue.put(None)

    def break_down(self) -> None:
        """The initializer failed: so does everything else."""
        broken = "a thread's initializer failed, so this executor is of no use any more"
        with self._lock:
            self.broken = broken
            self._open = False
            dropped = self._drain()
        _drop_all(dropped, broken)

    def stop(self) -> None:
        """The interpreter exits."""
        with self._lock:
            self._open = False
            self.queue.put(None)

    def _drain(self) -> deque[Item]:
        items = deque[Item]()
        ended = False
        while True:
            try:
                item = self.queue.get_nowait()
            except Empty:
                break
            if item is None:
                ended = True
            else:
                items.append(item)
        if ended:
            self.queue.put(None)
        return items

    def leave(self, queue: SimpleQueue[Item | None]) -> None:
        """This thread takes nothing any more."""
        watchers: list[Future[None]] = []
        with self._lock:
            if self.queue is queue:  # it was no fork that ended it
                self._alive -= 1
                if not self._alive:
                    watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.set_result(None)
        _interpreter.running.pop(threading.current_thread(), None)

    # Waiting for the end

    def over(self) -> Future[None]:
        """A future that is done when no thread takes anything any more."""
        future = Future[None]()
        with self._lock:
            if self._alive:
                self._watchers.append(future)
                return future
        future.set_result(None)
        return future

    def inside(self) -> bool:
        """Whether this is one of the threads, which cannot wait for its own end."""
        return threading.current_thread() in self.all

    def join(self) -> None:
        """Block until all threads have ended."""
        for thread in list(self.all):
            if thread.is_alive():
                thread.join()


@enable_ki_protection
def _drop_all(items: deque[Item], broken: str | None = None) -> None:
    try:
        while items:
            items.popleft()._drop(broken)
    finally:
        if items:  # a callback raised what is no Exception
            _drop_all(items, broken)


def work(threads: Threads, queue: SimpleQueue[Item | None], done: list[int]) -> None:
    """What a thread does, from its start to its end."""
    if threads.inside():
        drop_hooks()
    try:
        if threads._initializer is not None:
            try:
                threads._initializer(*threads._initargs)
            except BaseException:
                logger.critical("Exception in initializer:", exc_info=True)
                threads.break_down()
                return
        while threads.queue is queue:  # else this is the child of a fork, and the queue is not its
            item = queue.get()
            if item is None:
                queue.put(None)
                return
            try:
                item._run()
            except BaseException:  # a callback of a future's can raise what is no Exception
                logger.critical("Exception in worker", exc_info=True)
            del item
            done[0] += 1
    finally:
        threads.leave(queue)
        del threads, queue  # a traceback may hold this frame


def _exit() -> None:
    with _interpreter.lock:
        _interpreter.exiting = True
        running = dict(_interpreter.running)
    for threads in set(running.values()):
        threads.stop()
    for thread in running:
        if thread.is_alive():
            thread.join()


def _after_fork_in_child() -> None:
    _interpreter.lock = threading.Lock()
    _interpreter.running.clear()
    for threads in _interpreter.known:
        threads._begin()


# There is no public hook for the time before the interpreter waits for threads.
cast("Any", threading)._register_atexit(_exit)
with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
