"""ThreadPoolExecutor: the standard library's, with futures that can be awaited in Trio."""

from __future__ import annotations

import concurrent.futures
import os
from collections import deque
from itertools import count, islice
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from triopool._executor_map import AnyRow, FutureRow, Row, results
from triopool._executor_threads import Threads
from triopool._futures import WITHOUT_TRIO, Future
from triopool._refusals import check_in_trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")

_numbers = count()


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The standard library's executor, with futures that can also be awaited in Trio.

    It is a `concurrent.futures.ThreadPoolExecutor`, so any library that wants one takes it:
    asyncio's ``run_in_executor`` and ``set_default_executor``, Dask's local scheduler. It needs no
    event loop, and serves any number of them at once. In Trio, ``await future``, `triopool.wait`
    and `triopool.as_completed` wait for its calls, and ``async with`` for all of them::

        async with ThreadPoolExecutor(4) as executor:
            future = executor.submit(read_file, path)
            ...
            text = await future

    Its methods never wait for Trio, so they may be called in Trio's thread, but those that block
    (``future.result()``, iterating a ``map``, ``shutdown(wait=True)``, ``with``) block its event
    loop, too. For a limit on what Trio tasks do in threads, `ThreadPool` is the better choice:
    there cancellation reaches the calls, and none outlives the block.

    Threads start on demand, are kept for the next call, and end after ``shutdown``, or when nobody
    holds the executor any more. When the interpreter exits, what was submitted is run, and the
    threads are waited for. In the child of ``os.fork`` the executor begins anew, without threads:
    the calls that were queued or running are the parent's, and their futures in the child never get
    done. Hooks set by `threading.setprofile` and `threading.settrace` are installed around each
    call that starts while they are set.

    Args:
      max_workers: the most threads; None for four more than there are CPUs, and at most 32.
      thread_name_prefix: what the names of the threads begin with.
      initializer: called in each thread at its start. If it raises, every call that has not begun
        fails with `concurrent.futures.thread.BrokenThreadPool`, and so does ``submit``.
      initargs: the arguments of ``initializer``.

    Raises:
      ValueError: ``max_workers`` is not positive.
      TypeError: ``initializer`` cannot be called.

    Differs from concurrent.futures: rows of a ``map`` cost a fraction; ``shutdown`` from inside one
    of the calls does not wait; calls that are dropped wake those who wait for them in
    `concurrent.futures.wait`; a call that waits for others gets a thread for each of them, as long
    as there are less than ``max_workers``. Differs from gevent: everything in
    `concurrent.futures` works with its futures.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        # The base class's __init__ would make a queue and locks which nobody uses.
        if max_workers is None:
            cpus: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
            max_workers = min(32, (cpus or 1) + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = max_workers
        self._thread_name_prefix = (
            thread_name_prefix or f"triopool.ThreadPoolExecutor-{next(_numbers)}"
        )
        self._pool = Threads(max_workers, self._thread_name_prefix, initializer, initargs)

    def __del__(self) -> None:
        try:
            self._pool.retire()
        except AttributeError:  # it was never made
            pass

    if not TYPE_CHECKING:
        # What others read of the standard library's class.

        @property
        def _threads(self):
            return self._pool.all

        @property
        def _work_queue(self):
            return self._pool.queue

        @property
        def _shutdown(self):
            return self._pool.closed

        @property
        def _broken(self):
            return self._pool.broken or False

    # Making calls

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in one of the threads, as soon as one is free. This does not block.

        Calls begin in the order in which they are submitted.

        Args:
          fn: a sync function.
          args: its positional arguments.
          kwargs: its keyword arguments.

        Returns:
          a `concurrent.futures.Future` that can also be awaited in Trio.

        Raises:
          RuntimeError: the executor is shut down, or the interpreter exits.
          BrokenThreadPool: the initializer failed.
        """
        future: Future[T] = Future()
        future._call = fn, args, kwargs
        self._pool.put(future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call a function with each row of arguments; iterate over the results in order.

        All rows are submitted before this returns, or the first ``buffersize`` of them. Reading a
        result blocks until it is there. Closing the iterator, an error, and the end of the time
        cancel the calls that have not begun.

        Args:
          fn: a sync function.
          iterables: of arguments, as for the builtin ``map``.
          timeout: the longest that all of it may take, in seconds from now on; None for no limit.
          chunksize: of no effect with threads.
          buffersize: the most calls that have begun, or are queued, and whose results are not read:
            for each result that is read, one more row is pulled. None pulls all rows at once.

        Returns:
          an iterator over the results.

        Raises:
          TypeError: ``buffersize`` is neither an int nor None.
          ValueError: ``buffersize`` is not positive.
          TimeoutError: when reading, if the result is not there in time.
          Exception: when reading, what the call raised; or what the input did, after the results
            before it.

        Differs from concurrent.futures: ``buffersize`` works in all versions of Python; with it,
        the iterator keeps the executor alive as long as there is input.
        """
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else timeout + monotonic()
        begun = self._rows(fn, iterables)
        rows = deque(islice(begun, buffersize))
        return results(rows, deadline, None if buffersize is None else begun)

    def _rows(
        self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...]
    ) -> Iterator[AnyRow[T]]:
        """Queue a row each time that this is iterated."""
        if type(self).submit is not ThreadPoolExecutor.submit:
            for args in zip(*iterables, strict=False):
                yield FutureRow(self.submit(fn, *args))
            return
        put = self._pool.put
        for args in zip(*iterables, strict=False):
            row = Row(fn, args)
            put(row)
            yield row

    # Ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let no new call in, and end the threads after the last. More than once is fine.

        Args:
          wait: block this thread until all calls are over and the threads have ended. From inside
            one of the calls this never waits.
          cancel_futures: cancel what has not begun.

        Differs from concurrent.futures: there, waiting from inside of a call is an error.
        """
        self._pool.close(drop=cancel_futures)
        if wait and not self._pool.inside():
            self._pool.join()

    def kill(self, wait: bool = True) -> None:
        """Shut down and cancel what has not begun. More than once is fine.

        No thread can be made to stop: calls that run end by themselves.

        Args:
          wait: block this thread until they have. From inside one of the calls this never waits.
        """
        self.shutdown(wait, cancel_futures=True)

    async def __aenter__(self) -> Self:
        check_in_trio("`async with executor`", WITHOUT_TRIO)
        await checkpoint()
        return self

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down, and wait for the calls without blocking the event loop.

        When the block is left with an exception, or when this is cancelled, calls that have not
        begun are cancelled. Those that run are waited for all the same, as is Trio's rule for
        threads.
        """
        self.shutdown(wait=False, cancel_futures=exc is not None)
        if self._pool.inside():
            await checkpoint()
            return
        over = self._pool.over()
        try:
            with trio.CancelScope(shield=exc is not None):
                await over
        except BaseException:
            self.kill(wait=False)
            with trio.CancelScope(shield=True):
                await over
            raise
        finally:
            if over.done():  # else a second Ctrl-C is why
                self._pool.join()  # they are at their last step
