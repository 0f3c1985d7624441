"""The hooks of `threading.setprofile` and `threading.settrace`, in a thread for one call only."""

from __future__ import annotations

import functools
import sys
from threading import getprofile, gettrace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def are_hooks_set() -> bool:
    """Whether the next call in a thread has to be `hooked`."""
    return getprofile() is not None or gettrace() is not None


def hooked_if_set(func: Callable[P, T]) -> Callable[P, T]:
    """``func`` itself, or under the hooks that are set now."""
    if getprofile() is None and gettrace() is None:
        return func
    return functools.partial(hooked, func)


def hooked(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call under the hooks that are set now, then put back those that the thread had.

    The hooks see the call from its first line to its last, and nothing of what is around it.
    """
    old_trace: Any = sys.gettrace()
    old_profile: Any = sys.getprofile()
    trace = gettrace() or old_trace
    profile = getprofile() or old_profile
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        return func(*args, **kwargs)
    finally:
        sys.setprofile(old_profile)
        sys.settrace(old_trace)


def drop_hooks() -> None:
    """Take out of a new thread the hooks with which `threading.Thread` started it."""
    sys.setprofile(None)
    sys.settrace(None)
