"""The exceptions that someone would want to catch by name."""

from __future__ import annotations

import trio


class PoolFull(trio.WouldBlock):
    """The pool has no free slot, and the caller asked not to wait for one.

    Raised by ``spawn_nowait``, and by ``start`` and ``add`` with ``blocking=False`` or after their
    ``timeout``. It is a `trio.WouldBlock`, as other ``_nowait`` methods in Trio raise.
    """

    __module__ = "triopool"  # which is where it is imported from


class TaskKilled(Exception):
    """The call was killed, so it has no result.

    ``task.get()`` raises it for a task that ended KILLED, unless ``kill`` was given another
    exception.

    Differs from gevent: there ``GreenletExit`` is returned as the greenlet's value. Here a killed
    call has no value.
    """

    __module__ = "triopool"


class PoolDeadlock(RuntimeError):
    """Waiting here would wait for ever.

    Every slot of the pool is held by a call that waits, without a deadline, for a slot of the same
    pool or for a task that has none yet. The last of them gets this error instead of hanging. Give
    the pool more slots, use a second pool for the inner calls, or use ``apply`` and ``map``, which
    run on the caller's own slot. Where there is a deadline around the wait, `trio.fail_after` in a
    test for instance, it is the deadline that ends it, and no PoolDeadlock.

    Differs from gevent: there the program hangs (gevent issue 368).
    """

    __module__ = "triopool"
