"""Waiting until nothing of a pool runs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import Abort, checkpoint, enable_ki_protection, wait_task_rescheduled
from trio.lowlevel import current_task as current_trio_task

from triopool._block import CLOSED, CLOSING, Block
from triopool._functions import known_as
from triopool._timeouts import check_timeout

if TYPE_CHECKING:
    from trio.lowlevel import RaiseCancelT


@known_as("Pool")
class Join(Block):
    """What a pool does for those who wait for all of it."""

    @enable_ki_protection
    async def join(self, timeout: float | None = None, raise_error: bool = False) -> bool:
        """Wait until no call runs, none waits for a slot, and no map or iterator can still advance.

        A row of an iterator that is held back only because its reader has not read does not count.
        The pool stays open. Cancelling ``join`` leaves everything running.

        Args:
          timeout: the longest wait, in seconds; None waits for ever.
          raise_error: raise the errors that nobody has seen yet, those of before the call too.

        Returns:
          whether all of it is over.

        Raises:
          ExceptionGroup: the unobserved errors, with ``raise_error=True``.
          RuntimeError: it was called from inside a call of this pool, which would wait for itself.

        Differs from gevent: there ``raise_error=True`` misses what failed before ``join`` (gevent
        issue 521).
        """
        self._check(CLOSING)
        check_timeout(timeout)
        if self._is_inside():
            raise RuntimeError(
                "join() from inside a call of the same pool would wait for that call itself; "
                "call it outside, or open a pool inside the call"
            )
        idle = True
        if not self._busy:
            await checkpoint()
        elif timeout is None:
            await self._until_idle()
        else:
            with trio.move_on_after(timeout):
                await self._until_idle()
            idle = not self._busy or self._state is CLOSED
        if raise_error and (errors := self._ledger.drain()):
            try:
                raise ExceptionGroup(self._ledger.message(len(errors)), errors)
            finally:
                del errors
        return idle

    @enable_ki_protection
    async def _until_idle(self) -> None:
        task = current_trio_task()

        def abort(_: RaiseCancelT) -> Abort:
            del self._joiners[task]
            return Abort.SUCCEEDED

        while self._busy and self._state is not CLOSED:
            self._joiners[task] = None
            await wait_task_rescheduled(abort)
