"""What pools of sync functions do with single calls: `spawn`, `apply` and their relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from trio.lowlevel import enable_ki_protection

from triopool._functions import call_back, check_callback, known_as
from triopool._sync_maps import SyncMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from triopool.task import Task

P = ParamSpec("P")
T = TypeVar("T")


@known_as("ThreadPool")
class SyncCalls(SyncMaps):
    """Calls of sync functions, one by one and in maps."""

    @enable_ki_protection
    async def spawn(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Wait for a free slot and start a call in it.

        The call's first line runs after ``spawn`` has returned. A cancelled ``spawn`` has started
        nothing and holds no slot.

        Args:
          func: a sync function, which runs elsewhere.
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

        Cancelling ``apply`` kills its call and waits for its end, unless the pool leaves such calls
        behind. Asked for in a call of the same pool, the function runs on the slot which that call
        holds, in a context and a cancel scope of its own; so it never waits for a slot there.

        Args:
          func: a sync function, which runs elsewhere.
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
          func: a sync function, which runs elsewhere.
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
