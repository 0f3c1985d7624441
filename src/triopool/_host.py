"""The host of a call: what a call asks and tells of whoever runs it, or waits for its slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    import trio

    from triopool._block import Block
    from triopool._worker import Worker


class Host(Protocol):
    """Whatever runs a call, or waits for a slot on behalf of one."""

    def stop(self, reason: str, /) -> None:
        """End the call, or the wait."""

    def withdraw(self) -> bool:
        """Take the call back, if it has not begun; whether that is so."""
        ...

    def has_begun(self) -> bool:
        """Whether the call is past waiting, though nobody has told its task."""
        ...

    def holds_slot(self) -> bool:
        """Whether it needs no slot any more, for it has one, be it another's."""
        ...

    def unseat(self) -> Worker | None:
        """The worker that runs it on a slot of its own, if one does. It is to give that up."""
        ...

    def is_of(self, block: Block, /) -> bool:
        """Whether it is something that the pool itself runs."""
        ...


@attrs.define(eq=False)
class ScopeHost:
    """A call that runs, or waits for its slot, inside of a cancel scope in its caller's task."""

    scope: trio.CancelScope

    def stop(self, reason: str, /) -> None:
        """Cancel it."""
        self.scope.cancel(reason=reason)

    def withdraw(self) -> bool:
        """What has begun is known to the call itself."""
        return True

    def has_begun(self) -> bool:
        """Its task is told."""
        return False

    def holds_slot(self) -> bool:
        """A call in place is on the slot of its caller."""
        return True

    def unseat(self) -> None:
        """It has no slot of its own."""

    def is_of(self, _: Block, /) -> bool:
        """It is its caller's."""
        return False
