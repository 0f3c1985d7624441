"""Group and Pool: calls in a nursery, without and with a limit on how many run at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from triopool._async_calls import AsyncCalls
from triopool._base import OnError
from triopool._exceptions import PoolFull
from triopool._slots import tokens
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    import trio

__all__ = ["Group", "Pool", "PoolFull"]


class Group(AsyncCalls):
    """Calls in a nursery, as many at once as one likes.

    Use it in ``async with``. Leaving the block waits for every call, and raises the errors that
    nobody has seen as an `ExceptionGroup`. A call that fails harms no other.

    What changes a group is for Trio's thread: in another it raises a RuntimeError, before anything
    has happened, and `trio.from_thread.run` and `trio.from_thread.run_sync` are the way there.
    Looking, as with ``len`` or ``in``, is allowed in any thread, but iterating is not. Each
    ``timeout`` is a number of seconds, 0 or more; any other value is a TypeError or a ValueError.

    Args:
      tasks: tasks of other pools to `add`. One that nobody starts is waited for all the same.
      on_error: what happens to a failure that nobody waits for at that moment: ``"collect"`` keeps
        it for whoever asks, ``"cancel"`` cancels all other calls and ends the block, ``"log"``
        writes it into the log (logger ``triopool``) and forgets it, and a sync function is called
        with the failed `Task`.
      task_class: the class of the tasks that it makes.
      reuse_tasks: run call after call in the same Trio tasks, which is faster. With False each call
        has a Trio task of its own, which shows in the owners of locks, in task ids and in
        instruments.

    Differs from gevent: it is entered once, and what runs in it does not outlive its block.
    """

    def __init__(
        self,
        tasks: Iterable[Task[Any]] = (),
        *,
        on_error: OnError = "collect",
        task_class: type[Task[Any]] = Task,
        reuse_tasks: bool = True,
    ) -> None:
        given: object = tasks
        if isinstance(given, int):
            raise TypeError(f"a Group takes tasks, and has no size; Pool({given!r}) has one")
        self._initial = list(tasks)
        for task in self._initial:
            if not isinstance(task, Task):
                raise TypeError(
                    f"a Group of tasks takes Tasks, not {task!r}; functions go to spawn()"
                )
        self._init(None, task_class, on_error, reuse_tasks)

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for task in self._initial:
            seat = object()
            self._slots.limiter.acquire_on_behalf_of_nowait(seat)
            self._add(task, seat)
        self._initial.clear()
        return self


class Pool(Group):
    """A `Group` with a limit on how many calls run at once.

    ::

        async with Pool(10) as pool:
            async for page in pool.imap(fetch, urls):
                print(page.title)

    Args:
      size: how many slots there are: an int, None for no limit, 0 for a pool in which nothing may
        start until it is resized, or a `trio.CapacityLimiter`, which is then shared: one limit over
        several pools.
      task_class: as for `Group`.
      on_error: as for `Group`.
      reuse_tasks: as for `Group`.
    """

    def __init__(
        self,
        size: int | trio.CapacityLimiter | None = None,
        task_class: type[Task[Any]] = Task,
        *,
        on_error: OnError = "collect",
        reuse_tasks: bool = True,
    ) -> None:
        self._initial = []
        self._init(size, task_class, on_error, reuse_tasks)

    @property
    def size(self) -> int | None:
        """How many slots there are, or None for no limit. It can be set; that kills nothing."""
        return super().size

    @size.setter
    def size(self, size: int | None) -> None:
        self._check_thread("size was set", "run_sync(setattr, pool, 'size', ...)")
        self._slots.resize(tokens(size))
