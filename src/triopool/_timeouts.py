"""What a user may give as a timeout: seconds, or None for no limit."""

from __future__ import annotations

from numbers import Real


def check_timeout(timeout: object) -> None:
    """Raise a TypeError or ValueError that says what to write, unless it is a timeout."""
    if timeout is None:
        return
    if isinstance(timeout, bool):
        raise TypeError(
            f"timeout is a number of seconds, not {timeout}; unlike gevent's get(), this has no "
            "`block` before it: ready() tells at once"
        )
    if not isinstance(timeout, Real):
        raise TypeError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")
    if not float(timeout) >= 0:
        raise ValueError(f"timeout is a number of seconds from 0 on, not {timeout!r}")
