"""Telling async functions from everything else that people hand to a pool, and saying so."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from trio.lowlevel import disable_ki_protection, enable_ki_protection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

C = TypeVar("C", bound=type)

_ASYNC_FLAGS = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


def name_of(func: Any) -> str:
    """What a call of ``func`` is called, in the way that Trio names its tasks."""
    while isinstance(func, functools.partial):
        func = cast("Any", func).func
    try:
        return f"{func.__module__}.{func.__qualname__}"
    except AttributeError:
        return repr(func)


def is_async(func: Any) -> bool:
    """Whether ``func`` certainly returns a coroutine. A lambda around such a one may, too."""
    try:
        return bool(func.__code__.co_flags & _ASYNC_FLAGS)
    except AttributeError:
        return inspect.iscoroutinefunction(func)


def is_sync(func: object) -> bool:
    """Whether it can be called, and is not certainly an async function."""
    return callable(func) and not is_async(func)


def check_callable(func: object) -> None:
    """Raise a TypeError that says what to write, unless ``func`` can be called."""
    if callable(func):
        return
    if inspect.iscoroutine(func):
        func.close()  # or Python would warn that nobody awaited it
        raise TypeError(
            f"got the coroutine object {func.__qualname__}(...) where an async function belongs: "
            f"pass the function and its arguments apart, as in spawn({func.__name__}, ...)"
        )
    raise no_function(func, "an async")


def no_function(func: object, kind: str) -> TypeError:
    """The error for what cannot be called."""
    from triopool.task import Task

    if isinstance(func, Task):
        hint = "a Task is started with start(task)"
    else:
        hint = "pass it and its arguments apart, as in spawn(func, *args)"
    return TypeError(f"{kind} function is needed here, not {func!r}: {hint}")


def arguments(args: Any, kwds: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, as `apply` and its relatives take them."""
    positional = () if args is None else _as_tuple(args)
    if kwds is None:
        return positional, {}
    if not hasattr(kwds, "keys"):
        raise TypeError(f"the keyword arguments of a call are a mapping, not {kwds!r}")
    return positional, {**kwds}


def _as_tuple(args: Any) -> tuple[Any, ...]:
    try:
        if isinstance(args, (str, bytes, Mapping)):
            raise TypeError
        values = iter(args)
    except TypeError:
        raise TypeError(
            "the arguments of a call are a sequence here, as in apply(func, (1, 2)), not "
            f"{args!r}; spawn(func, 1, 2) takes them one by one"
        ) from None
    return tuple(values)


def check_callback(callback: object) -> None:
    """Raise a TypeError unless it is a callback or None."""
    if callback is not None and not callable(callback):
        raise TypeError(f"a callback is a function of one argument, the result, not {callback!r}")


def not_async(func: object, result: object) -> TypeError:
    """The error for a function that did not return an awaitable."""
    if inspect.isasyncgen(result):
        hint = "it is an async generator function; iterate it inside of an async function"
    else:
        hint = "a sync function belongs in a thread: use trio.to_thread.run_sync, or a ThreadPool"
    return TypeError(f"{name_of(func)} is not an async function: {hint}")


@enable_ki_protection
def start_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Awaitable[Any]:
    """Make a call of ``func``, since only that tells whether it is async: the awaitable."""
    check_callable(func)
    result = _call(func, args, kwargs)
    if not inspect.isawaitable(result):
        raise not_async(func, result)
    return result


@disable_ki_protection
def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def check_sync(func: object) -> None:
    """Raise a TypeError that says what to do, unless ``func`` is one that a thread can call."""
    if is_async(func):
        raise TypeError(
            f"{name_of(func)} is an async function: a ThreadPool runs sync ones; use a Pool, or "
            "trio.from_thread.run() in a sync function"
        )
    if inspect.iscoroutine(func):
        func.close()  # or Python would warn that nobody awaited it
        raise TypeError(
            f"got the coroutine object {func.__qualname__}(...) where a sync function belongs: an "
            "async one is for a Pool, and goes there with its arguments apart, as in "
            f"spawn({func.__name__}, ...)"
        )
    if not callable(func):
        raise no_function(func, "a sync")


def sync_value(value: Any) -> Any:
    """What a function returned in a thread, unless that shows it to be an async one."""
    if type(value) is CoroutineType:
        value.close()  # or Python would warn that nobody awaited it
        raise TypeError(
            f"{value.__qualname__} returned a coroutine, so it is an async function: a ThreadPool "
            "runs sync ones; use a Pool"
        )
    return value


def row_function(func: Callable[..., Any], starred: bool) -> Callable[[Any], Awaitable[Any]]:
    """``func`` in a form that the workers of a map can await, row after row."""
    call = _checked(func)
    if not starred:
        return call

    @disable_ki_protection
    def call_starred(row: Any) -> Awaitable[Any]:
        return call(*row)

    return call_starred


def _checked(func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    if is_async(func):
        return func
    check_callable(func)
    wrong: TypeError | None = None  # one error for all rows

    @disable_ki_protection
    async def call(*args: Any) -> Any:
        nonlocal wrong
        result = func(*args)
        if not inspect.isawaitable(result):
            wrong = wrong or not_async(func, result)
            raise wrong
        return await result

    return call


async def call_back(callback: Callable[..., Any], result: object) -> None:
    """Call a callback, which may be sync or async."""
    answer = callback(result)
    if inspect.isawaitable(answer):
        await answer


def known_as(name: str) -> Callable[[C], C]:
    """Let what is public of a class go by another's name, where Python tells of a function.

    Users know ``Pool.spawn``, and not in which room of the package it is.
    """

    def rename(cls: C) -> C:
        for member in vars(cls).values():
            if inspect.isfunction(member) and not member.__name__.startswith("_"):
                member.__qualname__ = f"{name}.{member.__name__}"
        return cls

    return rename
