"""What all kinds of pools share: how they are made and sized, beside all that they do.

A pool is one class, and too much of it for one room. `_block` has its state, its counts, and how it
is entered and left; `_join` waits for its calls, `_calls` makes them, `_members` looks at them and
kills them, `_maps` makes many of one function; each builds on the one before. Here is how all of it
is set up. `_async_calls` and `_sync_calls`, with their maps, give it the two faces that users see.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from triopool._block import CLOSING
from triopool._functions import known_as
from triopool._maps import Maps
from triopool._reports import reporter
from triopool._slots import Slots
from triopool._timeouts import check_timeout
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

OnError: TypeAlias = "Literal['collect', 'cancel', 'log'] | Callable[[Task[Any]], object]"


@known_as("Pool")
class BasePool(Maps):
    """A pool of any kind. What its functions are, a subclass says."""

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

    def __repr__(self) -> str:
        limiter = self._slots.limiter
        limit = "" if limiter.total_tokens == math.inf else f" of {limiter.total_tokens}"
        running = len(self._members) + len(self._added)  # what `len` counts may wait, too
        return f"<{self._label}, {self._state.value}, {running}{limit} running>"

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            name = type(self).__name__
            raise TypeError(f"write `async with {name}(...) as pool:`, not `with`")

        def __exit__(self, *_: object) -> None: ...

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

    @enable_ki_protection
    async def wait_available(self, timeout: float | None = None) -> int:
        """Wait until a slot is free and nobody is ahead in the line. This reserves nothing.

        Args:
          timeout: the longest wait, in seconds; None waits for ever.

        Returns:
          how many slots are free, at least 1; or 0 when the time was over.
        """
        self._check(CLOSING)
        check_timeout(timeout)
        if self._line.asked:
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
