"""Forks: a pool that is open belongs to the process that opened it, and says so in a child."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triopool._block import Block

FORKED = 0  # stands for the thread of a block, which is in another process

# Those that are open. No WeakSet, for Ctrl-C would get lost in a callback of its own.
BLOCKS: dict[Block, None] = {}


def _after_fork_in_child() -> None:
    for block in BLOCKS:
        block._thread = FORKED
    BLOCKS.clear()


with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
