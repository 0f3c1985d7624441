"""GreenPool, GreenPile and GreenThread: the pools of eventlet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import attrs
import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from triopool._base import OnError
from triopool._exceptions import PoolFull, TaskKilled
from triopool._functions import is_sync
from triopool._greenpile import GreenPile
from triopool._in_place import run_in_place
from triopool.pool import Pool
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triopool._stream import ResultIterator

__all__ = ["GreenPile", "GreenPool", "GreenThread"]

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class _Curried:
    """A link with its arguments."""

    func: Callable[..., object]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, thread: object) -> object:
        return self.func(thread, *self.args, **self.kwargs)


class GreenThread(Task[T_co]):
    """The `Task` of a `GreenPool`, with the methods of eventlet's ``GreenThread``."""

    async def wait(self) -> T_co:
        """Wait until it is over and take its result, as `get` does."""
        return await self.get()

    def link(self, func: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Have ``func(thread, *args, **kwargs)`` called when it is over; see `Task.link`."""
        if not is_sync(func):
            raise TypeError(f"a link is a sync function, not {func!r}")
        self._link(_Curried(func, args, kwargs), None)

    def unlink(self, func: Callable[..., object], /, *args: Any, **kwargs: Any) -> bool:  # type: ignore[override]
        """Take back the first link with these arguments. Returns whether there was one."""
        return self._unlink(_Curried(func, args, kwargs))

    def cancel(
        self,
        exception: type[Exception] | Exception = TaskKilled,
        *,
        reason: str | None = None,
    ) -> None:
        """Kill it, as `kill` does, if its first line has not run yet; otherwise do nothing."""
        if not self._begun:
            self.kill_nowait(exception, reason=reason)


class GreenPool(Pool):
    """A `Pool` with the methods of eventlet's ``GreenPool``.

    Its iterators are bounded: unless they are given another ``maxsize``, at most as many calls run,
    or have results that are not read, as the pool has slots. It is always true.

    Args:
      size: how many slots there are: an int, an integral float, or a `trio.CapacityLimiter`.
      on_error: as for `Group`.

    Differs from eventlet: it is used in ``async with``; ``imap`` and ``waitall`` keep to the pool's
    own slots (eventlet issue 215).
    """

    task_class: type[Task[Any]] = GreenThread

    def __init__(
        self, size: float | trio.CapacityLimiter = 1000, *, on_error: OnError = "collect"
    ) -> None:
        super().__init__(_size(size), on_error=on_error)

    def __bool__(self) -> bool:
        return True

    async def spawn(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> GreenThread[T]:
        """Wait for a free slot and start a call in it.

        In a call of the same pool, when there is no free slot, it runs in place, on the slot of
        that call, and a finished task is returned; so it never waits there, and never raises what
        the call raises.

        Args:
          func: an async function.
          args: its positional arguments.
          kwargs: its keyword arguments.

        Returns:
          the `GreenThread` that stands for the call.
        """
        task = self._new(func, args, kwargs)
        await self._start(task)
        return cast("GreenThread[T]", task)

    async def spawn_n(
        self, func: Callable[P, Awaitable[object]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Like `spawn`, for a call whose result nobody wants.

        In a call of the same pool, when there is no free slot, it waits in line while its caller
        goes on, so that deep recursion cannot overflow the stack.

        Differs from eventlet: there it runs in place, and errors are printed; here they are
        reported as any.
        """
        self._check()
        if self._own_member() is None:
            await self.spawn(func, *args, **kwargs)
            return
        task = self._new(func, args, kwargs)
        try:
            await checkpoint()
            self._check()
        except BaseException:
            task._die()
            raise
        self._begin_or_enqueue(task)

    @enable_ki_protection
    async def _start(self, task: Task[Any]) -> None:
        member = self._own_member()
        if member is None:
            await super()._start(task)
            return
        try:
            await self._take_slot(task, blocking=False)
        except PoolFull:
            pass
        except BaseException:
            task._die()
            raise
        else:
            self._begin(task)
            return
        await run_in_place(task, member, takes_error=False)

    async def waitall(self) -> None:
        """Wait until no call runs or waits for a slot, as `join` does.

        Raises:
          RuntimeError: it was called from inside a call of this pool.
        """
        await self.join()

    def resize(self, new_size: float) -> None:
        """Change how many slots there are. Calls that run go on; `free` may be negative then."""
        self.size = cast("int", _size(new_size))

    def running(self) -> int:
        """How many calls have a slot now."""
        return len(self)

    def free(self) -> int:
        """How many slots are free; negative after a shrink, and 1 when there is no limit."""
        free = self.limiter.available_tokens
        return 1 if free == math.inf else int(free)

    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return self._slots.waiting + len(self._line)

    def _stream(
        self,
        func: Callable[..., Awaitable[T]] | None,
        iterables: tuple[object, ...],
        maxsize: int | None,
        return_exceptions: bool,
        *,
        ordered: bool,
        starred: bool = False,
    ) -> ResultIterator[T]:
        if func is None:
            func = _arguments
        if maxsize is None and self.size is not None:
            maxsize = max(1, self.size)
        return super()._stream(
            func, iterables, maxsize, return_exceptions, ordered=ordered, starred=starred
        )


async def _arguments(*args: Any) -> Any:
    """The function of ``imap(None, ...)``."""
    return args


def _size(size: object) -> int | trio.CapacityLimiter:
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    if isinstance(size, trio.CapacityLimiter):
        return size
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(
            f"a GreenPool's size is an int, an integral float, or a CapacityLimiter, not {size!r}"
        )
    return size
