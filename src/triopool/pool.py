"""Group and Pool: calls in a nursery, without and with a limit on how many run at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from triopool._block import CLOSING
from triopool._exceptions import PoolFull
from triopool._mapping import Mapping
from triopool._reports import reporter
from triopool._slots import Slots, tokens
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

__all__ = ["Group", "Pool", "PoolFull"]

OnError: TypeAlias = "Literal['collect', 'cancel', 'log'] | Callable[[Task[Any]], object]"


class Group(Mapping):
    """Calls in a nursery, as many at once as one likes.

    Use it in ``async with``. Leaving the block waits for every call, and raises the errors that
    nobody has seen as an `ExceptionGroup`. A call that fails harms no other.

    Args:
      tasks: tasks of other pools to `add`.
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
        self._initial = list(tasks)
        for task in self._initial:
            if not isinstance(task, Task):
                raise TypeError(
                    f"a Group of tasks takes Tasks, not {task!r}; functions go to spawn()"
                )
        self._init(None, task_class, on_error, reuse_tasks)

    def _init(
        self, size: object, task_class: type[Task[Any]], on_error: OnError, reuse_tasks: bool
    ) -> None:
        given: object = task_class
        if not isinstance(given, type) or not issubclass(given, Task):
            raise TypeError(f"task_class is a subclass of Task, not {given!r}")
        if task_class is not Task:  # a subclass may have one of its own
            self.task_class = task_class
        self._set_up(Slots.of(size), reuse_tasks)
        self._report = reporter(self, on_error)

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for task in self._initial:
            seat = object()
            self._slots.limiter.acquire_on_behalf_of_nowait(seat)
            self._add(task, seat)
        self._initial.clear()
        return self

    def __repr__(self) -> str:
        limiter = self._slots.limiter
        limit = "" if limiter.total_tokens == math.inf else f" of {limiter.total_tokens}"
        return f"<{self._label}, {self._state.value}, {len(self)}{limit} running>"

    # Sizing

    @property
    def limiter(self) -> trio.CapacityLimiter:
        """The limiter whose tokens are the slots of the pool."""
        return self._slots.limiter

    @property
    def size(self) -> int | None:
        """How many slots there are, or None for no limit."""
        total = self._slots.limiter.total_tokens
        return None if total == math.inf else int(total)

    def full(self) -> bool:
        """Whether no slot is free."""
        return self._slots.limiter.available_tokens < 1

    def free_count(self) -> int:
        """How many slots are free: never negative, and 1 when there is no limit."""
        free = self._slots.limiter.available_tokens
        return 1 if free == math.inf else max(0, int(free))

    async def wait_available(self, timeout: float | None = None) -> int:
        """Wait until a slot is free and nobody is ahead in the line. This reserves nothing.

        Args:
          timeout: the longest wait, in seconds; None waits for ever.

        Returns:
          how many slots are free, at least 1; or 0 when the time was over.
        """
        self._check(CLOSING)
        if self._line:
            await self._line.after_all()
        await checkpoint()
        seat = object()
        with trio.move_on_after(math.inf if timeout is None else timeout):
            await self._slots.take(seat)
            self._slots.release(seat)
            if self._crew.dismissed:
                raise self._unusable()
            return max(1, self.free_count())
        return 0


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
        self._slots.resize(tokens(size))
