"""The rows of an executor's `map`: calls that need no future, since only one reader sees them."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures.thread import BrokenThreadPool
from threading import TIMEOUT_MAX, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from triopool._failures import Failure, caught
from triopool._hooks import are_hooks_set, hooked

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class AnyRow(Protocol[T_co]):
    """What `results` reads, one after the other."""

    def wait(self, deadline: float | None) -> bool:
        """Block until it is over; False if the deadline comes first."""
        ...

    def take(self) -> T_co:
        """Its result, or its error. It is let go of, and this works once."""
        ...

    def cancel(self) -> None:
        """Never begin it, unless it has begun."""
        ...


class Row(Generic[T]):
    """One call of a map.

    Whoever of its thread and its reader is first decides what becomes of it: the one takes the
    arguments, the other takes them away.
    """

    __slots__ = ("_args", "_failure", "_func", "_over", "_value")

    def __init__(self, func: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._func: Callable[..., T] | None = func
        self._args: tuple[Any, ...] | None = args
        self._failure: Failure | None = None
        self._over = Lock()  # free once the call is over
        self._over.acquire()

    # In its thread

    def _run(self) -> None:
        func, args = self._func, self._args
        self._func = self._args = None
        if func is None or args is None:
            return
        try:
            self._value = hooked(func, *args) if are_hooks_set() else func(*args)
        except BaseException as error:
            self._failure = caught(error)
        del func, args
        self._over.release()
        del self  # a traceback may hold this frame

    def _drop(self, broken: str | None = None) -> None:
        self.cancel()
        error: Exception = concurrent.futures.CancelledError()
        if broken is not None:
            error = BrokenThreadPool(broken)
        self._failure = caught(error)
        self._over.release()

    # In the reader's

    def wait(self, deadline: float | None) -> bool:
        """Block until it is over; False if the deadline comes first."""
        if self._over.acquire(blocking=False):
            return True
        if deadline is None:
            return self._over.acquire()
        return self._over.acquire(timeout=min(max(deadline - monotonic(), 0), TIMEOUT_MAX))

    def take(self) -> T:
        """Its result, or its error. It is let go of, and this works once."""
        failure = self._failure
        if failure is None:
            value = self._value
            del self._value
            return value
        self._failure = None
        del self
        try:
            failure.throw()
        finally:
            del failure

    def cancel(self) -> None:
        """Never begin it, unless it has begun."""
        self._func = self._args = None


class FutureRow(Generic[T]):
    """One call of a map in a subclass that overrides ``submit``."""

    __slots__ = ("_future",)

    def __init__(self, future: concurrent.futures.Future[T]) -> None:
        self._future = future

    def wait(self, deadline: float | None) -> bool:
        """Block until it is over; False if the deadline comes first."""
        timeout = None
        if deadline is not None:
            timeout = min(max(deadline - monotonic(), 0), TIMEOUT_MAX)
        return bool(concurrent.futures.wait([self._future], timeout).done)

    def take(self) -> T:
        """Its result, or its error. It is let go of, and this works once."""
        future = self._future
        del self._future, self
        try:
            return future.result()
        finally:
            del future

    def cancel(self) -> None:
        """Never begin it, unless it has begun."""
        self._future.cancel()


def results(
    rows: deque[AnyRow[T]], deadline: float | None, more: Iterator[AnyRow[T]] | None
) -> Generator[T, None, None]:
    """The results in the order of the rows; for each that is over, one row ``more`` begins."""
    stop: Failure | None = None  # what ended the input
    try:
        while rows:
            if not rows[0].wait(deadline):
                raise TimeoutError
            if more is not None:
                try:
                    rows.append(next(more))
                except StopIteration:
                    more = None
                except Exception as error:
                    stop = caught(error)
                    more = None
            yield rows.popleft().take()
        if stop is not None:
            stop.throw()
    finally:
        stop = None
        for row in rows:
            row.cancel()
