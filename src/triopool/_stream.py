"""What `imap` returns: an async iterator over results that come through a memory channel."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

import attrs
import trio
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    enable_ki_protection,
)

from triopool._failures import Failure
from triopool._inputs import END
from triopool._inside import enclosing_workers
from triopool._series import Series

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Self


T = TypeVar("T")


@attrs.define(eq=False)
class Stream(Series[T]):
    """A series whose results go to a reader, one by one.

    With ``maxsize=n``, at most n rows are beyond the last result that was read: running, or done
    and unread. A result that is handed to a reader who waits for it is read. The channel holds what
    can be read next; in an ordered stream what came too early waits in `early`.
    """

    ordered: bool = attrs.field(kw_only=True)
    maxsize: float = attrs.field(kw_only=True)
    limit: float = attrs.field(init=False)  # maxsize, and one more for each result that is read
    send: trio.MemorySendChannel[Any] = attrs.field(init=False)
    receive: trio.MemoryReceiveChannel[Any] = attrs.field(init=False)
    ready: int = 0  # results that the channel holds
    readers: int = 0  # tasks that wait for one, or have just been woken
    next_index: int = 0  # of the row whose result an ordered stream sends next
    early: dict[int, Any] = attrs.field(factory=dict[int, Any])
    closed: bool = False
    touched: bool = False  # somebody wanted to read

    def __attrs_post_init__(self) -> None:
        self.limit = self.maxsize
        super().__attrs_post_init__()
        # One more, for the input's error.
        self.send, self.receive = trio.open_memory_channel[Any](self.maxsize + 1)

    # The side of the workers

    def put(self, index: int, value: Any) -> None:
        if self.closed:
            self._unread(value)
        elif not self.ordered:
            self._deliver(value)
        elif index != self.next_index:
            self.early[index] = value
        else:
            self._deliver(value)
            index += 1
            while self.early and index in self.early:
                self._deliver(self.early.pop(index))
                index += 1
            self.next_index = index

    def put_failure(self, index: int, failure: Failure) -> None:
        if self.return_exceptions and isinstance(failure.error, Exception):
            self.put(index, failure.error)
        else:
            self.put(index, failure)

    def _deliver(self, item: Any) -> None:
        # Only the channel knows for certain: a reader may just have been cancelled.
        if self.readers and self.send.statistics().tasks_waiting_receive:
            self.limit += 1
            self.feeder.wake()
        else:
            self.ready += 1
        self.send.send_nowait(item)

    def finish(self) -> None:
        for index in sorted(self.early):
            self._deliver(self.early.pop(index))
        last = self.input_failure
        if last is not None:
            if self.closed:
                self._unread(last)
            else:
                self._deliver(last)
        self.send.close()
        if self.closed:
            del self.block._series[self]
        else:
            self._forget_if_read()

    def _forget_if_read(self) -> None:
        """Once it has ended and all of it is read, the block need not close it."""
        if not self.ready:
            self.block._series.pop(self, None)

    def _unread(self, item: Any) -> None:
        """A result that nobody will read; if it is an error, the block reports it."""
        if isinstance(item, Failure) and not item.killed:
            self.block._ledger.add_failure(self.name, item)

    # The side of the reader

    def runs_low(self) -> bool:
        """Whether at most half of `maxsize` are results that nobody has read."""
        return 2 * (self.limit - self.taken + self.rows.running()) >= self.maxsize

    @enable_ki_protection
    async def take(self, iterator: ResultIterator[T]) -> T:
        """Wait for the next result. The iterator must not be dropped meanwhile."""
        self.touched = True
        item: Any = END
        try:
            await checkpoint_if_cancelled()
            if self.ready:
                item = self.receive.receive_nowait()
                self.ready -= 1
                self.limit += 1
                if self.feeder.stalled is not None and self.runs_low():
                    self.feeder.wake()
                await cancel_shielded_checkpoint()
            elif self.closed or self.over:
                await cancel_shielded_checkpoint()
            else:
                item = await self._wait()
            if item is END:
                await self._end()
            if self.over:
                self._forget_if_read()
            if isinstance(item, Failure):
                if item.killed:
                    await checkpoint_if_cancelled()
                item.throw_in_iterator()
            return cast("T", item)
        finally:
            del self, iterator, item  # an error's traceback holds this frame

    async def _end(self) -> NoReturn:
        """Raise what a reader gets when there is nothing more to read."""
        if self.closed:
            raise trio.ClosedResourceError(
                "this iterator is closed; a pool closes those that are open when its block is left"
            ) from None
        if self.killed:
            await checkpoint_if_cancelled()
            self.kill_failure().throw()
        raise StopAsyncIteration from None

    async def _wait(self) -> Any:
        if self.room():
            self.feeder.wake()
        self.readers += 1
        try:
            with self.slots.ticket(self.in_vain):
                return await self.receive.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return END
        finally:
            self.readers -= 1

    @enable_ki_protection
    def close(self, reason: str) -> None:
        """Cancel what runs, and report the errors that nobody has read."""
        if self.closed or (self.over and not self.ready):
            return
        self.closed = True
        for item in self.early.values():
            self._unread(item)
        self.early.clear()
        while self.ready:
            self._unread(self.receive.receive_nowait())
            self.ready -= 1
        self.receive.close()
        if self.over:
            del self.block._series[self]
            self.block._stir()
        else:
            self.stop(reason)

    def kill(self, verdict: Exception | None, reason: str | None) -> None:
        self.touched = True  # it was not forgotten
        super().kill(verdict, reason)


class ResultIterator(Generic[T]):
    """The results of `imap` and its relatives: an async iterator.

    A call that failed raises its error when its result is read, and iteration can go on. Use it in
    ``async for``, or in ``async with`` to be sure that after an early exit the unfinished calls
    have ended::

        async with pool.imap(fetch, urls) as pages:
            async for page in pages:
                if wanted(page):
                    break

    Several tasks may read from one iterator; each result goes to one of them.

    Dropping it cancels its unfinished calls in the next pass of Trio's loop. Dropping one that was
    never read warns with a `ResourceWarning`.
    """

    __slots__ = ("__weakref__", "_stream", "_token")

    @enable_ki_protection
    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._token = trio.lowlevel.current_trio_token()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._stream.name} at {id(self):#x}>"

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, T]:
        """Wait for the next result.

        Cancelling it loses no result.

        Raises:
          StopAsyncIteration: there are no more.
          trio.ClosedResourceError: it was closed, by `aclose` or because the pool's block was left.
          TaskKilled: the pool was killed; all results from before were read.
          Exception: what the call raised, or the input.
        """
        return self._stream.take(self)

    @enable_ki_protection
    async def aclose(self) -> None:
        """Cancel the unfinished calls, and wait until their cleanup is over.

        That is waited for even if the caller is cancelled, as `map` does.

        Errors of calls that nobody has read are reported when the pool's block is left.
        """
        await self._close()
        await checkpoint_if_cancelled()

    @enable_ki_protection
    async def _close(self) -> None:
        stream = self._stream
        stream.touched = True
        stream.close("the iterator was closed")
        # Whoever is inside of one of the calls has just been cancelled, and cannot wait for it.
        inside = any(worker.series is stream for worker in enclosing_workers())
        with trio.CancelScope(shield=not inside):
            await stream.until_over()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()
        if exc is None:  # else that is what leaves, even if whoever waits was cancelled
            await checkpoint_if_cancelled()

    def __del__(self) -> None:
        # This may run in any thread and in the middle of anything, so it only hands over.
        stream = self._stream
        if stream.over and stream.closed:
            return
        try:
            self._token.run_sync_soon(stream.close, "the iterator was dropped")
        except trio.RunFinishedError:
            return
        if not stream.touched:
            warnings.warn(
                f"{self!r} was dropped before it was read, which cancels its calls",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    if not TYPE_CHECKING:

        def _refuse(self, instead: str) -> NoReturn:
            self._stream.touched = True  # one complaint is enough
            raise TypeError(f"results arrive over time: write {instead}")

        # No `__next__` and no `__await__`: these are how others tell what kind of thing it is.

        def __iter__(self) -> NoReturn:
            self._refuse("`async for`, not `for`")

        def __enter__(self) -> NoReturn:
            self._refuse("`async with`, not `with`")

        def __exit__(self, *_: object) -> None: ...
