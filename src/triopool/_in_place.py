"""Calls in place: a member runs one more call in its own Trio task, on its own slot."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, enable_ki_protection

from triopool._failures import bare_cancelled, sift
from triopool._host import ScopeHost
from triopool._remains import nursery_left_open

if TYPE_CHECKING:
    from triopool._worker import Worker
    from triopool.task import Task


@enable_ki_protection
async def run_in_place(task: Task[Any], member: Worker, *, takes_error: bool) -> None:
    """Run a call in the Trio task of a member, in a context and a cancel scope of its own."""
    if task.ready():  # somebody has killed it meanwhile
        await checkpoint()
        return
    trio_task = trio.lowlevel.current_task()
    context = trio_task.context
    trio_task.context = copy_context()  # from the next step on
    member.inner += (task,)
    scope = trio.CancelScope()
    value: Any = None
    left_open: RuntimeError | None = None
    nurseries = len(trio_task.child_nurseries)
    task._launch(ScopeHost(scope))
    try:
        with scope:
            await checkpoint()
            task._begun = True
            value = await member.invoke(task)
            if len(trio_task.child_nurseries) > nurseries:
                left_open = nursery_left_open(task.name)
    except BaseException as error:
        cancelled, rest = sift(error)
        if left_open is not None:
            rest = left_open  # Trio complains of it too, in other words
        if rest is None:
            task._die()
        else:
            task._observed = takes_error
            task._fail(rest)
        if not isinstance(rest, Exception) or (cancelled and takes_error):
            raise
        if cancelled:  # the rest went to the task
            raise bare_cancelled(error) from None
    else:
        if scope.cancelled_caught:
            task._die()
        else:
            task._succeed(value)
    finally:
        member.inner = member.inner[:-1]
        trio_task.context = context
        await cancel_shielded_checkpoint()
