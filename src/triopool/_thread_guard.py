"""Telling those who call a pool from a thread of their own what to write."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool._base import BasePool

C = TypeVar("C", bound="type[BasePool]")


def in_trio_only(cls: C) -> C:
    """Have the methods of a class of pools, and what can be set, refuse other threads by name.

    Those that change anything refuse them in any pool, but async ones not before they are awaited.
    """
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            if member.fset is not None:
                how = f"run_sync(setattr, pool, {name!r}, ...)"
                setattr(cls, name, member.setter(_guard(member.fset, "set", how)))
        elif inspect.isfunction(member):
            run = "run" if inspect.iscoroutinefunction(member) else "run_sync"
            setattr(cls, name, _guard(member, "called", f"{run}(pool.{name}, ...)"))
    return cls


def _guard(method: Callable[..., Any], what: str, how: str) -> Callable[..., Any]:
    did = f"{method.__name__} was {what}"

    @functools.wraps(method)
    def guarded(self: BasePool, /, *args: Any, **kwargs: Any) -> Any:
        self._check_thread(did, how)
        return method(self, *args, **kwargs)

    if inspect.iscoroutinefunction(method) and sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(guarded)
    return guarded
