"""What a call may leave behind in the Trio task that it ran in: cancel scopes and nurseries."""

from __future__ import annotations

import gc

import trio

_PLAIN = (type(None), bool, int, float, str, type)


def innermost_mark(task: trio.lowlevel.Task, scope: trio.CancelScope) -> object | None:
    """An object that a Trio task refers to for as long as ``scope`` is its innermost open one.

    A worker needs to know whether a call has left a scope open, as breaking out of an async
    generator does which has one around its ``yield``: the next call would be cancelled with it, or
    shielded by it. Trio has no question for that, other than closing the scope around the call,
    which costs more than all the rest of a call. But a task and the scope that is innermost in it
    share one object, whatever its name, and the garbage collector tells who refers to what.
    Returns None if it does not; then nothing can be known.
    """
    shared = [
        each
        for each in gc.get_referents(scope)
        if not isinstance(each, _PLAIN) and any(each is other for other in gc.get_referents(task))
    ]
    return shared[0] if len(shared) == 1 else None


def is_innermost(mark: object | None, task: trio.lowlevel.Task) -> bool:
    """Whether the scope of a mark is the innermost one of its task again; False if unknown."""
    # No object that a Trio task refers to compares itself with others but by identity.
    return mark is not None and mark in gc.get_referents(task)


def wake_closer(nurseries: list[trio.Nursery]) -> None:
    """Wake the task that waits for one of ``nurseries`` to close, though another one opened it.

    An async generator that is dropped with a nursery around its ``yield`` is closed in a task of
    Trio's own. When the nursery's tasks have ended, Trio wakes the task which opened the nursery,
    not the one that waits there, which would then wait for ever, and the whole run with it.
    """
    root = trio.lowlevel.current_root_task()
    assert root is not None
    tasks = [root]
    while tasks:
        task = tasks.pop()
        for nursery in task.child_nurseries:
            tasks += nursery.child_tasks
        for frame, _ in task.iter_await_frames():
            if any(frame.f_locals.get("self") is nursery for nursery in nurseries):
                trio.lowlevel.reschedule(task)
                return
