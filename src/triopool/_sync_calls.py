"""What pools of sync functions offer: `spawn`, `apply`, `map` and their relatives."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

from trio.lowlevel import enable_ki_protection

from triopool._base import BasePool
from triopool._functions import call_back, check_callback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from triopool._async_calls import AnyIterable
    from triopool._stream import ResultIterator
    from triopool.task import Task

P = ParamSpec("P")
A = TypeVar("A")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SyncCalls(BasePool):
    """The calls of a pool whose functions are sync, with their types."""

    # Single calls

    @enable_ki_protection
    async def spawn(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Wait for a free slot and start a call in it.

        The call's first line runs after ``spawn`` has returned. A cancelled ``spawn`` has started
        nothing and holds no slot.

        Args:
          func: a sync function, which runs in a thread.
          args: its positional arguments.
          kwargs: its keyword arguments.

        Returns:
          the `Task` that stands for the call.

        Raises:
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not a sync function.

        Differs from gevent: an endless wait for a slot inside of a full pool is an error.
        """
        task = self._new(func, args, kwargs)
        await self._start(task)
        return task

    def spawn_nowait(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start a call if there is a free slot and nobody waits for one; like `spawn`, but sync.

        Raises:
          PoolFull: there is none.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not a sync function.
        """
        return self._spawn_nowait(func, args, kwargs)

    async def apply(
        self,
        func: Callable[..., T],
        /,
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> T:
        """Run one call and return its result.

        Cancelling ``apply`` cancels its call, which the thread can ask about, and waits for its
        end, unless the pool leaves such calls behind. ``trio.from_thread.run(pool.apply, func)`` in
        a call of the same pool runs on the slot which that call holds, in another thread, in a
        context and a cancel scope of its own; so it never waits for a slot there.

        Args:
          func: a sync function, which runs in a thread.
          args: its positional arguments.
          kwds: its keyword arguments.

        Returns:
          what the call returned.

        Raises:
          TaskKilled: the call was killed.
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not a sync function.
          Exception: whatever the call raised.

        Differs from gevent: cancelling the caller ends the call, too.
        """
        return cast("T", await self._apply(func, args, kwds))

    async def apply_cb(
        self,
        func: Callable[..., T],
        /,
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
    ) -> T:
        """Like `apply`, but if the call succeeded, ``callback(result)`` runs before it returns.

        The callback may be sync or async, and has no slot.

        Differs from gevent: there the callback runs some time later.
        """
        check_callback(callback)
        result = await self.apply(func, args, kwds)
        if callback is not None:
            await call_back(callback, result)
        return result

    def apply_async(
        self,
        func: Callable[..., T],
        /,
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
    ) -> Task[T]:
        """Have a call started as soon as there is a slot for it: sync, and never blocks.

        Args:
          func: a sync function, which runs in a thread.
          args: its positional arguments.
          kwds: its keyword arguments.
          callback: called with the result if the call succeeds; sync or async, and without a slot.
            The block and `join` wait for it, and an error of it is reported like that of a call.

        Returns:
          the `Task` that stands for the call; it is WAITING while the pool is full.

        Raises:
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not a sync function, or ``callback`` cannot be called.

        Differs from gevent: the callback may be async, and `join` waits for it.
        """
        return self._apply_async(func, args, kwds, callback)

    # One function over many arguments

    @overload
    async def map(
        self,
        func: Callable[[A], T],
        iterable: AnyIterable[A],
        /,
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    async def map(
        self,
        func: Callable[[A], T],
        iterable: AnyIterable[A],
        /,
        *,
        return_exceptions: bool,
    ) -> list[T | Exception]: ...

    @overload
    async def map(
        self,
        func: Callable[..., T],
        iterable: AnyIterable[Any],
        second: AnyIterable[Any],
        /,
        *more: AnyIterable[Any],
        return_exceptions: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    async def map(
        self,
        func: Callable[..., T],
        iterable: AnyIterable[Any],
        second: AnyIterable[Any],
        /,
        *more: AnyIterable[Any],
        return_exceptions: bool,
    ) -> list[T | Exception]: ...

    async def map(
        self,
        func: Callable[..., T],
        /,
        *iterables: AnyIterable[Any],
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Call a function with each row of arguments, and wait for all results.

        The first call that fails cancels the rest, and when those have ended its error is raised as
        it is; on a tie that of the first in the order of the input. The errors of others are named
        in its notes. Cancelling ``map`` cancels its calls, which their threads can ask about, and
        waits for their end, unless the pool leaves such calls behind. Asked for in a call of the
        same pool, through `trio.from_thread.run`, one row at a time may use the slot of that call,
        so that it always advances.

        Args:
          func: a sync function, which runs in a thread.
          iterables: iterables and async iterables of arguments, one for each parameter, pulled in
            step until the shortest ends, and lazily. They are iterated in Trio's thread, but for
            those of builtin types. While calls come back within milliseconds, up to 64 rows are
            pulled ahead of the free slots, otherwise one.
          return_exceptions: return the errors of calls in place of results, and cancel nothing.

        Returns:
          the results, in the order of the input.

        Raises:
          TaskKilled: the pool was killed.
          PoolDeadlock: every slot is held by a call that waits for a slot of this very pool.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not a sync function, or an iterable is none.
          Exception: what a call raised, or an iterable.

        Differs from gevent: the calls that are left are cancelled when one fails (gevent issue
        1933), and the input is pulled lazily.
        """
        return await self._map(func, iterables, return_exceptions).result()

    async def map_cb(
        self,
        func: Callable[[A], T],
        /,
        iterable: AnyIterable[A],
        callback: Callable[[list[T]], object] | None = None,
    ) -> list[T]:
        """Like `map`, but if all calls succeeded, ``callback(results)`` runs before it returns.

        The callback may be sync or async, and has no slot.
        """
        check_callback(callback)
        results = await self.map(func, iterable)
        if callback is not None:
            await call_back(callback, results)
        return results

    def map_async(
        self,
        func: Callable[[A], T],
        /,
        iterable: AnyIterable[A],
        callback: Callable[[list[T]], object] | None = None,
    ) -> Task[list[T]]:
        """Like `map_cb`, but sync: returns a task whose value will be the list of results.

        The task itself has no slot, and is not counted in ``len``. Killing it cancels its calls.
        """
        return self._map_async(func, iterable, callback)

    @overload
    def imap(
        self,
        func: Callable[[A], T],
        iterable: AnyIterable[A],
        /,
        *,
        maxsize: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> ResultIterator[T]: ...

    @overload
    def imap(
        self,
        func: Callable[[A], T],
        iterable: AnyIterable[A],
        /,
        *,
        maxsize: int | None = None,
        return_exceptions: bool,
    ) -> ResultIterator[T | Exception]: ...

    @overload
    def imap(
        self,
        func: Callable[..., T],
        iterable: AnyIterable[Any],
        second: AnyIterable[Any],
        /,
        *more: AnyIterable[Any],
        maxsize: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> ResultIterator[T]: ...

    @overload
    def imap(
        self,
        func: Callable[..., T],
        iterable: AnyIterable[Any],
        second: AnyIterable[Any],
        /,
        *more: AnyIterable[Any],
        maxsize: int | None = None,
        return_exceptions: bool,
    ) -> ResultIterator[T | Exception]: ...

    def imap(
        self,
        func: Callable[..., T],
        /,
        *iterables: AnyIterable[Any],
        maxsize: int | None = None,
        return_exceptions: bool = False,
    ) -> ResultIterator[Any]:
        """Call a function with each row of arguments; iterate over the results in input order.

        The calls start at once, before anyone reads. A call that failed raises when its result is
        read, and iteration can go on. The results come through a memory channel.

        Args:
          func: a sync function, which runs in a thread.
          iterables: iterables and async iterables of arguments, as for `map`.
          maxsize: the most calls that run, or have results which are not read yet; None for no such
            limit.
          return_exceptions: yield the errors of calls instead of raising them.

        Returns:
          an async iterator, for ``async for`` or ``async with``.

        Raises:
          ValueError: ``maxsize`` is less than 1.
          trio.ClosedResourceError: the pool is closed.
          TypeError: ``func`` is not a sync function, or an iterable is none.

        Differs from gevent: with ``maxsize``, what runs counts as well as what is unread, so that
        memory is bounded in an ordered iterator, too (gevent issue 638).
        """
        return self._stream(func, iterables, maxsize, return_exceptions, ordered=True)

    @overload
    def imap_unordered(
        self,
        func: Callable[[A], T],
        iterable: AnyIterable[A],
        /,
        *,
        maxsize: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> ResultIterator[T]: ...

    @overload
    def imap_unordered(
        self,
        func: Callable[[A], T],
        iterable: AnyIterable[A],
        /,
        *,
        maxsize: int | None = None,
        return_exceptions: bool,
    ) -> ResultIterator[T | Exception]: ...

    @overload
    def imap_unordered(
        self,
        func: Callable[..., T],
        iterable: AnyIterable[Any],
        second: AnyIterable[Any],
        /,
        *more: AnyIterable[Any],
        maxsize: int | None = None,
        return_exceptions: Literal[False] = False,
    ) -> ResultIterator[T]: ...

    @overload
    def imap_unordered(
        self,
        func: Callable[..., T],
        iterable: AnyIterable[Any],
        second: AnyIterable[Any],
        /,
        *more: AnyIterable[Any],
        maxsize: int | None = None,
        return_exceptions: bool,
    ) -> ResultIterator[T | Exception]: ...

    def imap_unordered(
        self,
        func: Callable[..., T],
        /,
        *iterables: AnyIterable[Any],
        maxsize: int | None = None,
        return_exceptions: bool = False,
    ) -> ResultIterator[Any]:
        """Like `imap`, but the results come in the order of completion."""
        return self._stream(func, iterables, maxsize, return_exceptions, ordered=False)

    @overload
    def starmap(
        self,
        func: Callable[[*Ts], T],
        /,
        iterable: AnyIterable[tuple[*Ts]],
        maxsize: int | None = None,
        *,
        return_exceptions: Literal[False] = False,
    ) -> ResultIterator[T]: ...

    @overload
    def starmap(
        self,
        func: Callable[[*Ts], T],
        /,
        iterable: AnyIterable[tuple[*Ts]],
        maxsize: int | None = None,
        *,
        return_exceptions: bool,
    ) -> ResultIterator[T | Exception]: ...

    def starmap(
        self,
        func: Callable[..., T],
        /,
        iterable: AnyIterable[Any],
        maxsize: int | None = None,
        *,
        return_exceptions: bool = False,
    ) -> ResultIterator[Any]:
        """Like `imap` over one iterable of argument tuples: ``func(*row)`` for each row.

        Args:
          func: a sync function, which runs in a thread.
          iterable: an iterable or async iterable of tuples.
          maxsize: as for `imap`.
          return_exceptions: as for `imap`.

        Returns:
          an async iterator, for ``async for`` or ``async with``.
        """
        return self._stream(
            func, (iterable,), maxsize, return_exceptions, ordered=True, starred=True
        )
