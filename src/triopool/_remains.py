"""What a call may leave behind in its Trio task: cancel scopes, nurseries, context variables."""

from __future__ import annotations

from gc import get_referents
from operator import is_
from typing import TYPE_CHECKING, cast

import trio

if TYPE_CHECKING:
    from collections.abc import Container
    from contextvars import Context

_PLAIN = (type(None), bool, int, float, str, type)


def tasks_directly_in(task: trio.lowlevel.Task, scope: trio.CancelScope) -> Container[object]:
    """The Trio tasks whose innermost open scope is ``scope``, for as long as it is open.

    A worker needs to know whether a call has left a scope open, as breaking out of an async
    generator does which has one around its ``yield``: the next call would be cancelled with it, or
    shielded by it. Trio has no question for that, other than closing the scope around the call,
    which costs more than all the rest of a call. But a scope and the tasks that are directly in it
    share one object, whatever its name, which keeps a set of these tasks; and the garbage collector
    tells who refers to what. ``task`` is such a task now. If there is no such set, nothing can be
    known, and this is empty.
    """
    mine = get_referents(task)
    shared = [
        each
        for each in get_referents(scope)
        if not isinstance(each, _PLAIN) and any(each is other for other in mine)
    ]
    sets = [
        cast("set[object]", each)
        for common in shared
        for each in get_referents(common)
        if isinstance(each, set) and task in each
    ]
    return sets[0] if len(sets) == 1 else ()


def content_of(context: Context) -> object:
    """An object that a context shares with each of its copies until a variable is set there.

    Comparing all that is in two contexts takes longer than a call does. But a copy is made in no
    time, since nothing is copied until then. If there is no such object, this is a new one.
    """
    held = get_referents(context)
    return held[-1] if held else object()  # before it may come the context that it was entered from


def touched(context: Context, original: Context, content: object) -> bool:
    """Whether a call changed its copy of ``original``, by the identity of what is in it."""
    held = get_referents(context)
    if held and held[-1] is content:
        return False
    return (
        len(context) != len(original)
        or not all(map(is_, context, original))
        or not all(map(is_, context.values(), original.values()))
    )


class NurseryLeftOpen(Exception):
    """Ends a worker whose call left a nursery open. Trio will complain; the call failed already."""


def nursery_left_open(name: str) -> RuntimeError:
    """The error for a call that did so."""
    return RuntimeError(
        f"{name} ended with a nursery still open, perhaps in an async generator that was "
        "not closed; its tasks were cancelled"
    )


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
        # Whoever waits for a nursery is in one of its methods, which Python names `self` in.
        for frame, _ in task.iter_await_frames():
            if any(frame.f_locals.get("self") is nursery for nursery in nurseries):
                trio.lowlevel.reschedule(task)
                return
