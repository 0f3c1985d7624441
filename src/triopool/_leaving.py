"""What leaves the block of a pool: one exception made of all that did, and of what nobody saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from triopool._failures import bare_cancelled, is_in, sift
from triopool._remains import NurseryLeftOpen

if TYPE_CHECKING:
    from triopool._ledger import Ledger


def compose(
    ledger: Ledger,
    label: str,
    exc: BaseException | None,
    aside: BaseException | None,
    raised: tuple[BaseException, ...],
) -> BaseException | None:
    """Make one exception, or none.

    ``exc`` is what has left the body, ``aside`` what was kept from the nursery, and ``raised`` what
    the nursery has raised.
    """
    cancelled: BaseException | None = None
    others = [] if aside is None else [aside]
    for error in raised:
        if isinstance(error.__context__, NurseryLeftOpen):
            continue
        was_cancelled, rest = sift(error)
        if was_cancelled and not isinstance(cancelled, trio.Cancelled):
            cancelled = error
        if rest is not None and not is_in(rest, others):
            others.append(rest)
    if cancelled is not None:
        others.append(exc if isinstance(exc, trio.Cancelled) else bare_cancelled(cancelled))
    ledger.closed = True
    unseen = [error for error in ledger.drain() if not is_in(error, others)]
    try:
        if not unseen:
            # Pressing Ctrl-C twice says no more than once.
            if len(others) < 2 or all(type(error) is KeyboardInterrupt for error in others):
                return others[0] if others else None
            return BaseExceptionGroup(f"errors in {label}", others)
        message = ledger.message(len(unseen))
        if others:
            message += f", and {len(others)} other{'s' * (len(others) != 1)}"
        return BaseExceptionGroup(message, [*others, *unseen])
    finally:
        del exc, aside, raised, cancelled, others, unseen
