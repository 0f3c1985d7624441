"""GreenPile: calls that one spawns one by one, and whose results one iterates over."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast

import attrs
import trio
from trio.lowlevel import (
    ParkingLot,
    checkpoint,
    checkpoint_if_cancelled,
    enable_ki_protection,
)
from trio.lowlevel import (
    current_task as current_trio_task,
)

from triopool._block import NEW
from triopool._call import KILLED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from triopool.greenpool import GreenThread
    from triopool.pool import Pool
    from triopool.task import Task

P = ParamSpec("P")
T = TypeVar("T")

# When so many tasks have spawned into a pile, those that have ended are forgotten.
MANY = 16


@attrs.define(eq=False, repr=False, match_args=False, getstate_setstate=False)
class GreenPile(Generic[T]):
    """Calls whose results are iterated over, in the order of spawning.

    ::

        async with GreenPile(10) as pile:
            for url in urls:
                await pile.spawn(fetch, url)
            async for page in pile:
                print(page.title)

    With a size it has a `GreenPool` of its own, and is used in ``async with``. On a pool that is
    open it needs no ``async with``, and many piles may share one pool. Leaving ``async with``
    cancels what is unread.

    Read in a task that spawns, or in the one that made the pile while no other has spawned, it ends
    when nothing is outstanding. Read in any other task it ends after `close`. It is always true.

    A call that failed raises its error when its result is read, and iteration can go on. An error
    that nobody has read is raised when the block of the pool is left.

    Args:
      size_or_pool: a size, as for `GreenPool`, or a pool.
      ordered: yield in the order of spawning; otherwise in that of completion.
      return_exceptions: yield errors instead of raising them.

    Differs from eventlet: it may be read in another task than the one that spawns. A call's task
    is kept until its result is read, or the block of the pile is left, and no longer (eventlet
    issue 748).
    """

    _size_or_pool: float | trio.CapacityLimiter | Pool = attrs.field(default=1000)
    _ordered: bool = attrs.field(default=True, kw_only=True)
    _return_exceptions: bool = attrs.field(default=False, kw_only=True)
    pool: Any = attrs.field(init=False)
    _owns_pool: bool = attrs.field(init=False)
    # Unread calls; in an unordered pile only those that are over, and the others in `_running`.
    _tasks: deque[Task[T]] = attrs.field(init=False, factory=deque["Task[T]"])
    _running: dict[Task[T], None] = attrs.field(init=False, factory=dict["Task[T]", None])
    _coming: int = attrs.field(init=False, default=0)  # with those that wait in `spawn`
    _closed: bool = attrs.field(init=False, default=False)
    _left: bool = attrs.field(init=False, default=False)
    _cut: bool = attrs.field(init=False, default=False)  # it was left, and results with it
    # Readers, while there is nothing they could wait for.
    _news: ParkingLot = attrs.field(init=False, factory=ParkingLot)
    _maker: trio.lowlevel.Task | None = attrs.field(init=False)
    _spawners: set[trio.lowlevel.Task] = attrs.field(init=False, factory=set["trio.lowlevel.Task"])

    def __attrs_post_init__(self) -> None:
        from triopool._base import BasePool
        from triopool.greenpool import GreenPool
        from triopool.pool import Group

        given = self._size_or_pool
        if isinstance(given, BasePool) and not isinstance(given, Group):
            raise TypeError(
                f"a GreenPile takes a size, or a pool of async functions, not {given!r}, whose "
                "imap() yields results"
            )
        self._owns_pool = not isinstance(given, Group)
        self.pool = GreenPool(cast("float", given)) if self._owns_pool else given
        self._maker = current_trio_task() if trio.lowlevel.in_trio_task() else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}, {self._coming} results to come>"

    def __len__(self) -> int:
        """How many results are still to come."""
        return self._coming

    def __bool__(self) -> bool:
        return True

    async def spawn(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> GreenThread[T]:
        """Wait for a free slot and start a call in it, as `GreenPool.spawn` does.

        Raises:
          trio.ClosedResourceError: the pile or its pool is closed.
        """
        self._check_entered()
        if self._closed:
            raise trio.ClosedResourceError("this GreenPile is closed to new calls")
        task = self.pool._new(func, args, kwargs)
        await self._start(task)
        return cast("GreenThread[T]", task)

    def _add_spawner(self, task: trio.lowlevel.Task) -> None:
        if task not in self._spawners and len(self._spawners) >= MANY:
            self._spawners = {each for each in self._spawners if each.coro.cr_frame is not None}
        self._spawners.add(task)

    @enable_ki_protection
    async def _start(self, task: Task[T]) -> None:
        task._report = self.pool._ledger.add_task
        task._observed = self._return_exceptions  # its error is the reader's, read or not
        self._add_spawner(current_trio_task())
        self._coming += 1
        try:
            await self.pool._start(task)
        except BaseException:
            self._coming -= 1
            self._news.unpark_all()
            raise
        if self._left:
            self._coming -= 1
            task.kill_nowait(reason="the block of the pile was left")
        elif self._ordered:
            self._tasks.append(task)
        else:
            self._running[task] = None
            task._link(self._arrived, None)
        self._news.unpark_all()

    def _check_entered(self) -> None:
        if self._owns_pool and self.pool._state is NEW:
            raise RuntimeError(
                "this GreenPile is not open: use `async with GreenPile(...) as pile:` first"
            )

    @enable_ki_protection
    def _arrived(self, task: Task[T]) -> None:
        if task in self._running:
            del self._running[task]
            self._tasks.append(task)
            self._news.unpark_all()

    def close(self) -> None:
        """Let no new call in, so that readers in other tasks come to an end."""
        self.pool._check_thread("close was called", "run_sync(pile.close)")
        self._closed = True
        self._news.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await self.next()

    @enable_ki_protection
    async def next(self) -> T:
        """Wait for the next result. Cancelling it loses none.

        Raises:
          StopAsyncIteration: there are no more.
          trio.ClosedResourceError: the pool was closed, so that there will be no more.
          TaskKilled: the call was killed.
          Exception: what the call raised.
        """
        self._check_entered()
        await checkpoint()
        while True:
            if self._tasks:
                if self._tasks[0].ready():
                    break
                await self._tasks[0].join()
            elif self._cut:
                raise trio.ClosedResourceError("the block of this GreenPile was left")
            elif not self._coming and self._ends_here():
                raise StopAsyncIteration
            else:
                slots = self.pool._slots
                with slots.ticket(self._in_vain), slots.while_open("a result"):
                    await self._news.park()
        task = self._tasks.popleft()
        self._coming -= 1
        try:
            if task.status is KILLED:
                await checkpoint_if_cancelled()
            if self._return_exceptions and not task.successful():
                return cast("T", task._outcome().error)
            if not task.successful():
                task._outcome().throw_in_iterator()
            return cast("T", task.value)
        finally:
            del self, task  # the error's traceback holds this frame

    def _in_vain(self) -> bool:
        """Whether nothing comes, unless one of the calls that run does something."""
        return bool(self._running) and all(task._in_vain() for task in self._running)

    def _ends_here(self) -> bool:
        """Whether a reader in the current task knows that nothing more will be spawned."""
        me = current_trio_task()
        return (
            self._closed
            or me in self._spawners
            or (not self._spawners and (self._maker is None or self._maker is me))
        )

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        if self._owns_pool:
            await self.pool.__aenter__()
        return self

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self.close()
        self._left = True
        unread = [*self._running, *self._tasks]
        self._cut = self._coming > 0
        for task in unread:
            task.kill_nowait(reason="the block of the pile was left")
        self._running.clear()
        self._tasks.clear()
        self._coming -= len(unread)  # those that are still parked in spawn take theirs back
        if self._owns_pool:
            return cast("bool", await self.pool.__aexit__(exc_type, exc, traceback))
        with trio.CancelScope(shield=True):
            for task in unread:
                if not task.ready():
                    await task.join()
        if exc is None:  # else that is what leaves, even if whoever waits was cancelled
            await trio.lowlevel.checkpoint_if_cancelled()
        return None

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError("write `async with GreenPile(...) as pile:`, not `with`")

        def __exit__(self, *_: object) -> None: ...

        def __iter__(self) -> NoReturn:
            raise TypeError("results arrive over time: write `async for`, not `for`")
