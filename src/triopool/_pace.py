"""Fairness: how many calls that never checkpoint may run between two passes of Trio's loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from trio.lowlevel import checkpoint

if TYPE_CHECKING:
    from triopool._worker import Worker

# So many, over all workers of a pool.
BUDGET = 64


@attrs.define(eq=False)
class Pace:
    """A budget for calls that never checkpoint, shared by the workers of a crew.

    A worker that finds itself to be the last one that began a call knows of no pass of the loop
    since then, so it counts the call. When the budget is used up, it lets a pass go by, and the
    first to come back refills it.
    """

    last: Worker | None = None
    budget: int = BUDGET
    passes: int = 0

    def spend(self) -> bool:
        """Count a call that may have had no checkpoint. Returns whether there is more."""
        self.budget -= 1
        return self.budget > 0

    async def breathe(self) -> None:
        """Let a pass of the loop go by."""
        seen = self.passes
        await checkpoint()
        if self.passes == seen:
            self.passes += 1
            self.budget = BUDGET
