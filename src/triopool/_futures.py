"""A future of the standard library that can also be awaited in Trio, and the call that it is of."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures.thread import BrokenThreadPool
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.lowlevel import Abort, checkpoint, enable_ki_protection

from triopool._failures import Failure, caught, sift
from triopool._hooks import are_hooks_set, hooked
from triopool._refusals import check_in_trio

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")

WITHOUT_TRIO = (
    "Under asyncio, write `await asyncio.wrap_future(future)` or `await "
    "loop.run_in_executor(executor, ...)`; in a thread without an event loop, `future.result()` "
    "and `with executor:`"
)


class Future(concurrent.futures.Future[T]):
    """A `concurrent.futures.Future` that can also be awaited in Trio.

    ``await future`` waits for the call and returns its result, or raises its error. It is always a
    checkpoint. Cancelling it leaves the call alone. If the future was cancelled, it raises
    `concurrent.futures.CancelledError`, and so it does if a `trio.Cancelled` left the call: those
    that leave ``await`` are always the awaiter's own.

    Awaiting it needs Trio: anything else is a `RuntimeError`. Under asyncio, `asyncio.wrap_future`
    makes a future of asyncio's out of it; and ``result()`` blocks the thread until it is done.

    Differs from concurrent.futures: raising an error twice does not grow its traceback, and a
    future that is cancelled lets go of its function and arguments at once.
    """

    # (function, args, kwargs) of a call that has not begun
    _call: tuple[Callable[..., T], tuple[Any, ...], dict[str, Any]] | None = None
    _failure: Failure | None = None
    _context: BaseException | None = None  # of that error
    # {callback: None}: who wants to know when it is done, and may want so no longer
    _links: dict[Callable[[Future[Any]], object], None]

    @enable_ki_protection  # or a lock of the base class's might stay locked
    def cancel(self) -> bool:
        """Cancel the call, if it has not begun.

        Returns:
          False if it has begun, or is over.
        """
        cancelled = super().cancel()
        if cancelled:
            self._call = None
        return cancelled

    def result(self, timeout: float | None = None) -> T:
        """Block this thread until the call is over, and take its result.

        Args:
          timeout: the longest wait, in seconds; None waits for ever.

        Raises:
          TimeoutError: it is not over by then.
          concurrent.futures.CancelledError: the future was cancelled.
          BaseException: what the call raised.
        """
        failure = None
        try:
            try:
                return super().result(timeout)
            except BaseException as error:
                failure = self._failure
                if failure is None or failure.error is not error:
                    raise
                error.__context__ = self._context
            failure.throw()
        finally:
            del self, failure  # the error's traceback holds this frame

    # Awaiting it

    def __await__(self) -> Generator[Any, None, T]:
        return _await(self).__await__()

    def _link(self, callback: Callable[[Future[Any]], object]) -> None:
        """Have it called once the future is done, in whatever thread; at once if it is done."""
        mine: dict[Callable[[Future[Any]], object], None] = {}
        links = vars(self).setdefault("_links", mine)  # the first of all threads
        links[callback] = None
        if links is mine:
            self.add_done_callback(_call_links)
        elif self.done():
            _call_links(self)

    def _unlink(self, callback: Callable[[Future[Any]], object]) -> None:
        """Forget a callback that was linked. In another thread it may be running already."""
        self._links.pop(callback, None)

    # Running it

    def _run(self) -> None:
        """Make the call, in a thread of the executor."""
        try:
            if not self.set_running_or_notify_cancel():
                return
            assert self._call is not None
            func, args, kwargs = self._call
            self._call = None
            try:
                hooks = are_hooks_set()
                result = hooked(func, *args, **kwargs) if hooks else func(*args, **kwargs)
            except BaseException as error:
                del func, args, kwargs
                self._failure, self._context = caught(error), error.__context__
                self.set_exception(error)
            else:
                del func, args, kwargs
                self.set_result(result)
        finally:
            del self  # a traceback may hold this frame

    def _drop(self, broken: str | None = None) -> None:
        """Cancel the call, which its executor will not begin, or fail it with BrokenThreadPool."""
        self._call = None
        if broken is None:
            if self.cancel():
                self.set_running_or_notify_cancel()
        elif self.set_running_or_notify_cancel():
            error = BrokenThreadPool(broken)
            self._failure = caught(error)
            self.set_exception(error)


def _call_links(future: concurrent.futures.Future[Any]) -> None:
    assert isinstance(future, Future)
    links = future._links
    for callback in list(links):
        try:
            del links[callback]
        except KeyError:  # it was unlinked, or called in another thread
            continue
        callback(future)


@enable_ki_protection
async def _await(future: Future[T]) -> T:
    try:
        check_in_trio("awaiting a future", WITHOUT_TRIO)
        if future.done():
            await checkpoint()
        else:
            await _until_done(future)
        try:
            return future.result()
        except BaseException as error:
            if not sift(error)[0]:
                raise
            message = "the call raised the cancellation of another Trio run, or of another task"
            raise concurrent.futures.CancelledError(message) from error
    finally:
        del future  # the error's traceback holds this frame


async def _until_done(future: Future[Any]) -> None:
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()
    parked = True

    def wake(_: object) -> None:
        try:
            token.run_sync_soon(resume)
        except trio.RunFinishedError:  # the awaiter was cancelled, and this is late
            pass

    def resume() -> None:
        nonlocal parked
        if parked:
            parked = False
            trio.lowlevel.reschedule(task)

    def abort(_: object) -> Abort:
        nonlocal parked
        parked = False
        future._unlink(wake)
        return Abort.SUCCEEDED

    future._link(wake)
    await trio.lowlevel.wait_task_rescheduled(abort)
