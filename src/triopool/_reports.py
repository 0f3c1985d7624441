"""What becomes of a failure that nobody waits for: the `on_error` of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from trio.lowlevel import disable_ki_protection

from triopool._failures import caught
from triopool._functions import is_sync, name_of
from triopool._ledger import report_outside
from triopool.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool._block import Block


def reporter(block: Block, on_error: object) -> Callable[[Task[Any]], None]:
    """The function that takes each such failure, for what a user gave as ``on_error``."""
    ledger = block._ledger

    def cancel(task: Task[Any]) -> None:
        ledger.add_task(task)
        block.cancel_scope.cancel(reason=f"{task.name} failed, and on_error is 'cancel'")

    @disable_ki_protection
    def hand_over(task: Task[Any]) -> None:
        try:
            cast("Any", on_error)(task)
        except Exception as error:
            ledger.add_failure(name_of(on_error), caught(error))

    if on_error == "collect":
        return ledger.add_task
    if on_error == "cancel":
        return cancel
    if on_error == "log":
        return report_outside
    if is_sync(on_error):
        return hand_over
    raise TypeError(
        "on_error is 'collect', 'cancel', 'log' or a function of the failed task, a sync one, "
        f"not {on_error!r}"
    )
