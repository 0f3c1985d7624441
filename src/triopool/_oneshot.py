"""One job without a pool of one's own: `map`, `imap` and `imap_unordered` as functions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar, overload

import trio
from trio.lowlevel import enable_ki_protection

from triopool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager as AsyncContextManager
    from types import TracebackType

    from triopool._async_maps import AnyIterable
    from triopool._stream import ResultIterator

A = TypeVar("A")
T = TypeVar("T")

Size: TypeAlias = int | trio.CapacityLimiter | None


@overload
async def map(
    func: Callable[[A], Awaitable[T]],
    iterable: AnyIterable[A],
    /,
    *,
    size: Size = None,
    return_exceptions: Literal[False] = False,
) -> list[T]: ...


@overload
async def map(
    func: Callable[[A], Awaitable[T]],
    iterable: AnyIterable[A],
    /,
    *,
    size: Size = None,
    return_exceptions: bool,
) -> list[T | Exception]: ...


@overload
async def map(
    func: Callable[..., Awaitable[T]],
    iterable: AnyIterable[Any],
    second: AnyIterable[Any],
    /,
    *more: AnyIterable[Any],
    size: Size = None,
    return_exceptions: Literal[False] = False,
) -> list[T]: ...


@overload
async def map(
    func: Callable[..., Awaitable[T]],
    iterable: AnyIterable[Any],
    second: AnyIterable[Any],
    /,
    *more: AnyIterable[Any],
    size: Size = None,
    return_exceptions: bool,
) -> list[T | Exception]: ...


@enable_ki_protection
async def map(
    func: Callable[..., Awaitable[T]],
    /,
    *iterables: AnyIterable[Any],
    size: Size = None,
    return_exceptions: bool = False,
) -> list[Any]:
    """Call a function with each row of arguments, and wait for all results.

    This is `Pool.map` in a pool that lives as long as the call.

    Args:
      func: an async function.
      iterables: iterables and async iterables of arguments.
      size: the most calls that run at once: an int, a `trio.CapacityLimiter`, or None for no limit.
      return_exceptions: return the errors of calls in place of results, and cancel nothing.

    Returns:
      the results, in the order of the input.

    Raises:
      Exception: what a call raised, or an iterable.
    """
    async with Pool(size) as pool:
        return await pool.map(func, *iterables, return_exceptions=return_exceptions)


class _OwnPool(Generic[T]):
    """The async context manager that `imap` returns: a pool and one iterator of it."""

    def __init__(self, method: str, size: Size, *args: Any, **kwargs: Any) -> None:
        self._pool = Pool(size)
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._results: ResultIterator[T]

    @enable_ki_protection
    async def __aenter__(self) -> ResultIterator[T]:
        await self._pool.__aenter__()
        try:
            self._results = getattr(self._pool, self._method)(*self._args, **self._kwargs)
        except BaseException:
            await self._pool.__aexit__(*sys.exc_info())
            raise
        return self._results

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._results._stream.touched = True
        self._results._stream.close("the block was left")
        return await self._pool.__aexit__(exc_type, exc, traceback)

    if not TYPE_CHECKING:

        def __aiter__(self) -> NoReturn:
            raise TypeError(
                f"write `async with triopool.{self._method}(...) as results:` and iterate over the "
                "results: the block is what ends the calls"
            )

        __iter__ = __enter__ = __aiter__

        def __exit__(self, *_: object) -> None: ...


@overload
def imap(
    func: Callable[[A], Awaitable[T]],
    iterable: AnyIterable[A],
    /,
    *,
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: Literal[False] = False,
) -> AsyncContextManager[ResultIterator[T]]: ...


@overload
def imap(
    func: Callable[[A], Awaitable[T]],
    iterable: AnyIterable[A],
    /,
    *,
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: bool,
) -> AsyncContextManager[ResultIterator[T | Exception]]: ...


@overload
def imap(
    func: Callable[..., Awaitable[T]],
    iterable: AnyIterable[Any],
    second: AnyIterable[Any],
    /,
    *more: AnyIterable[Any],
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: Literal[False] = False,
) -> AsyncContextManager[ResultIterator[T]]: ...


@overload
def imap(
    func: Callable[..., Awaitable[T]],
    iterable: AnyIterable[Any],
    second: AnyIterable[Any],
    /,
    *more: AnyIterable[Any],
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: bool,
) -> AsyncContextManager[ResultIterator[T | Exception]]: ...


def imap(
    func: Callable[..., Awaitable[T]],
    /,
    *iterables: AnyIterable[Any],
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: bool = False,
) -> AsyncContextManager[ResultIterator[Any]]:
    """Iterate over the results of calls in the order of the input.

    ::

        async with triopool.imap(fetch, urls, size=10) as pages:
            async for page in pages:
                print(page.title)

    This is `Pool.imap` in a pool that lives as long as the block. Leaving the block cancels what is
    unfinished.

    Args:
      func: an async function.
      iterables: iterables and async iterables of arguments.
      size: the most calls that run at once: an int, a `trio.CapacityLimiter`, or None for no limit.
      maxsize: the most calls that run, or have results which are not read yet; None for no such
        limit.
      return_exceptions: yield the errors of calls instead of raising them.

    Returns:
      an async context manager, which gives the async iterator.
    """
    return _OwnPool[Any](
        "imap", size, func, *iterables, maxsize=maxsize, return_exceptions=return_exceptions
    )


@overload
def imap_unordered(
    func: Callable[[A], Awaitable[T]],
    iterable: AnyIterable[A],
    /,
    *,
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: Literal[False] = False,
) -> AsyncContextManager[ResultIterator[T]]: ...


@overload
def imap_unordered(
    func: Callable[[A], Awaitable[T]],
    iterable: AnyIterable[A],
    /,
    *,
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: bool,
) -> AsyncContextManager[ResultIterator[T | Exception]]: ...


@overload
def imap_unordered(
    func: Callable[..., Awaitable[T]],
    iterable: AnyIterable[Any],
    second: AnyIterable[Any],
    /,
    *more: AnyIterable[Any],
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: Literal[False] = False,
) -> AsyncContextManager[ResultIterator[T]]: ...


@overload
def imap_unordered(
    func: Callable[..., Awaitable[T]],
    iterable: AnyIterable[Any],
    second: AnyIterable[Any],
    /,
    *more: AnyIterable[Any],
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: bool,
) -> AsyncContextManager[ResultIterator[T | Exception]]: ...


def imap_unordered(
    func: Callable[..., Awaitable[T]],
    /,
    *iterables: AnyIterable[Any],
    size: Size = None,
    maxsize: int | None = None,
    return_exceptions: bool = False,
) -> AsyncContextManager[ResultIterator[Any]]:
    """Like `imap`, but the results come in the order of completion."""
    return _OwnPool[Any](
        "imap_unordered",
        size,
        func,
        *iterables,
        maxsize=maxsize,
        return_exceptions=return_exceptions,
    )
