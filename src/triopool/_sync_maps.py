"""What pools of sync functions do with many calls of one: `map`, `imap` and their relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, overload

from triopool._base import BasePool
from triopool._functions import call_back, check_callback, known_as

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool._async_maps import AnyIterable
    from triopool._stream import ResultIterator
    from triopool.task import Task

A = TypeVar("A")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@known_as("ThreadPool")
class SyncMaps(BasePool):
    """One sync function over many arguments."""

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
        in its notes. Cancelling ``map`` kills its calls and waits for their end, unless the pool
        leaves such calls behind. Asked for in a call of the same pool, one row at a time may use
        the slot of that call, so that it always advances.

        Args:
          func: a sync function, which runs elsewhere.
          iterables: iterables and async iterables of arguments, one for each parameter, pulled in
            step until the shortest ends, and lazily: at most one row ahead of the free slots, or 64
            while calls come back within milliseconds.
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
        read, and iteration can go on.

        Args:
          func: a sync function, which runs elsewhere.
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
          func: a sync function, which runs elsewhere.
          iterable: an iterable or async iterable of tuples.
          maxsize: as for `imap`.
          return_exceptions: as for `imap`.

        Returns:
          an async iterator, for ``async for`` or ``async with``.
        """
        return self._stream(
            func, (iterable,), maxsize, return_exceptions, ordered=True, starred=True
        )
