"""Forks: a pool that is open belongs to the process that opened it, and says so in a child."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triopool._block import Block

FORKED = 0  # stands for the thread of a block, which is in another process

# No WeakSet, for Ctrl-C would get lost in a callback of its own.
OPEN: dict[Block, None] = {}


def _after_fork_in_child() -> None:
    for block in OPEN:
        block._thread = FORKED
    OPEN.clear()


# Windows has no fork.
getattr(os, "register_at_fork", dict)(after_in_child=_after_fork_in_child)
