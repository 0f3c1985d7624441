"""What threads have to tell Trio's loop: however much it is, it wakes the loop once."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@attrs.define(eq=False)
class Mailbox(Generic[T]):
    """News that any thread may post.

    The first after a look wakes the loop, which then takes all that have come by that time.
    """

    token: trio.lowlevel.TrioToken
    deliver: Callable[[], object]  # called in Trio's thread; to `take` them
    lock: Lock = attrs.field(factory=Lock, init=False)
    news: list[T] = attrs.field(factory=list[T], init=False)

    def post(self, item: T) -> None:
        """Add one."""
        with self.lock:
            self.news.append(item)
            first = len(self.news) == 1
        if first:
            self.announce(self.deliver)

    def announce(self, func: Callable[[], object]) -> None:
        """Have Trio's loop call a function."""
        with suppress(trio.RunFinishedError):  # which leaves nobody behind to hear of it
            self.token.run_sync_soon(func)

    def take(self) -> list[T]:
        """Take what has come."""
        with self.lock:
            news, self.news = self.news, []
        return news
