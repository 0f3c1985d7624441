"""The slots of a pool: tokens of a CapacityLimiter, who waits for them, and who waits in vain."""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import ref

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from triopool._exceptions import PoolDeadlock
from triopool._inside import enclosing_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from triopool._worker import Worker


@attrs.define(eq=False)
class Queue:
    """How many waits of triopool's a limiter has, over all pools that share it."""

    waiting: int = 0
    # Called when a wait begins, or the limit has changed: some hold slots without looking around.
    listeners: dict[Callable[[], None], None] = attrs.field(
        init=False, factory=dict["Callable[[], None]", None]
    )

    def press(self) -> None:
        """Have those look around who hold slots."""
        for listener in list(self.listeners):
            listener()


# {id of a limiter that users share: (it, its queue)}
_queues: dict[int, tuple[ref[trio.CapacityLimiter], Queue]] = {}


def queue_of(limiter: trio.CapacityLimiter) -> Queue:
    """The one queue of a limiter that several pools may share."""
    known = _queues.get(id(limiter))
    if known is not None:
        return known[1]

    # A WeakKeyDictionary would do, but for Ctrl-C, which would get lost in a callback of its own.
    @enable_ki_protection
    def forget(_: object, key: int = id(limiter)) -> None:
        del _queues[key]

    queue = Queue()
    _queues[id(limiter)] = ref(limiter, forget), queue
    return queue


@attrs.define(eq=False)
class Slots:
    """The limiter of one pool."""

    limiter: trio.CapacityLimiter
    shared: bool  # the user's limiter, which other pools may use too
    waiting: int = 0  # waits of this pool; `queue` has those of all
    queue: Queue = attrs.field(init=False)
    tickets: dict[Ticket, None] = attrs.field(init=False, factory=dict["Ticket", None])
    _scopes: dict[trio.CancelScope, None] = attrs.field(
        init=False, factory=dict["trio.CancelScope", None]
    )

    def __attrs_post_init__(self) -> None:
        self.queue = queue_of(self.limiter) if self.shared else Queue()

    @classmethod
    def of(cls, size: object) -> Slots:
        """The slots for what a user gave as a pool's size."""
        if isinstance(size, trio.CapacityLimiter):
            return cls(size, shared=True)
        return cls(trio.CapacityLimiter(tokens(size)), shared=False)

    # Taking and giving back

    def take_nowait(self, seat: object) -> bool:
        """Take a slot on behalf of ``seat``, if there is one."""
        try:
            self.limiter.acquire_on_behalf_of_nowait(seat)
        except trio.WouldBlock:
            return False
        return True

    @enable_ki_protection
    async def take(self, seat: object) -> None:
        """Take a slot on behalf of ``seat``, waiting in line if need be; if not, no checkpoint."""
        if not self.take_nowait(seat):
            await self.wait(seat, enclosing_workers())

    @enable_ki_protection
    async def wait(self, seat: object, workers: list[Worker]) -> None:
        """Wait in line for a slot. ``workers`` are those around the current Trio task."""
        self.begin_wait()
        try:
            if self.shared:
                await self._take_shared(seat)
            else:
                with self.ticket(_always, workers):
                    await self.limiter.acquire_on_behalf_of(seat)
        finally:
            self.end_wait()

    def begin_wait(self) -> None:
        """Count a wait, of which those hear who hold slots."""
        self.waiting += 1
        self.queue.waiting += 1
        if self.queue.listeners:
            self.queue.press()

    def end_wait(self) -> None:
        """It is over."""
        self.waiting -= 1
        self.queue.waiting -= 1

    async def _take_shared(self, seat: object) -> None:
        # Others may hold the slots for long after this pool is closed.
        with self.while_open("a slot"):
            await self.limiter.acquire_on_behalf_of(seat)

    @contextmanager
    def while_open(self, what: str) -> Generator[None, None, None]:
        """What to wait in, for something that will not come any more once the pool is closed."""
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield
            finally:
                del self._scopes[scope]
        if scope.cancelled_caught:
            raise trio.ClosedResourceError(f"the pool was closed while this waited for {what}")

    def release(self, seat: object) -> None:
        """Give a slot back."""
        self.limiter.release_on_behalf_of(seat)
        if self.tickets:
            self.look_for_deadlock()

    @enable_ki_protection
    def resize(self, total: float) -> None:
        """Change how many there are."""
        self.limiter.total_tokens = total
        self.queue.press()
        self.look_for_deadlock()

    def close(self) -> None:
        """Wake those who still wait, none of whom will get anything from this pool any more."""
        for scope in self._scopes:
            scope.cancel(reason="the pool was closed")
        if not self.shared:
            # A limiter wakes those who wait for it only by giving them something.
            total = self.limiter.total_tokens
            self.limiter.total_tokens = math.inf
            self.limiter.total_tokens = total

    # Looking

    def wanted(self, own: int) -> bool:
        """Whether others wait than ``own`` waits of whoever asks, or there are too few slots."""
        limiter = self.limiter
        return self.queue.waiting > own or limiter.borrowed_tokens > limiter.total_tokens

    def look_around(self, own: int) -> bool:
        """Whether others wait, even those who use the limiter without triopool. Takes its time."""
        return self.limiter.statistics().tasks_waiting > own

    def is_short(self, own: int) -> bool:
        """Like `wanted`, but exact at this very moment, and taking its time."""
        limiter = self.limiter
        return self.look_around(own) or limiter.borrowed_tokens > limiter.total_tokens

    # Deadlocks

    def ticket(
        self, in_vain: Callable[[], bool], workers: list[Worker] | None = None
    ) -> AbstractContextManager[None]:
        """What to wait in, for something that may need a slot of this pool.

        Entering it raises PoolDeadlock if waiting would never end, and so does leaving it if that
        turned out later.
        """
        if self.shared:
            return NO_TICKET
        around = enclosing_workers() if workers is None else workers
        members = [worker for worker in around if worker.seat_in(self) is not None]
        if not members or trio.current_effective_deadline() != math.inf:
            return NO_TICKET
        return Ticket(self, members, in_vain)

    def deadlocked(self) -> bool:
        """Whether every slot is held by a member that waits in vain."""
        held = self.limiter.borrowed_tokens
        if not held or len(self.tickets) < held:
            return False
        stuck = {m for ticket in self.tickets if ticket.is_stuck() for m in ticket.members}
        return held <= len({member.seat for member in stuck if member.seat_is_stuck(self, stuck)})

    def look_for_deadlock(self) -> None:
        """A slot is gone, though nobody began to wait: end the newest of the waits in vain."""
        if self.deadlocked():
            stuck = (ticket for ticket in reversed(self.tickets) if ticket.is_stuck())
            next(stuck).scope.cancel()


@attrs.define(eq=False)
class Ticket:
    """One wait of a member, or of a task below it, that may turn out never to end."""

    slots: Slots
    members: list[Worker]  # those around it, who had a slot of this pool when it began
    in_vain: Callable[[], bool]  # whether what it waits for needs a slot of this pool
    scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)

    def is_stuck(self) -> bool:
        """Whether it will never end; but not if its member is about to hear so."""
        return not self.scope.cancel_called and self.in_vain()

    def __enter__(self) -> None:
        self.slots.tickets[self] = None
        if self.slots.deadlocked():
            del self.slots.tickets[self]
            raise deadlock()
        self.scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        del self.slots.tickets[self]
        swallowed = self.scope.__exit__(exc_type, exc, traceback)
        if self.scope.cancelled_caught:
            self.slots.look_for_deadlock()  # its member may have others that wait
            raise deadlock() from None
        return swallowed


NO_TICKET: AbstractContextManager[None] = nullcontext()


def deadlock() -> PoolDeadlock:
    """The error for the last one that would wait in vain."""
    return PoolDeadlock(
        "every slot of the pool is held by a call that waits for a slot of the same pool; use "
        "apply() or map(), which run on the caller's own slot, more slots, or a second pool"
    )


def _always() -> bool:
    return True


@attrs.define(eq=False)
class Loan:
    """The slot of a member, which one row at a time of its own maps may use beside it."""

    seat: Any  # None once the member has ended
    user: Worker | None = None  # whose row uses it now, or the feeder that is about to launch one
    # Around waits that end when it is given back.
    waiting: dict[trio.CancelScope, None] = attrs.field(
        init=False, factory=dict["trio.CancelScope", None]
    )

    @property
    def free(self) -> bool:
        """Whether a row may have it now."""
        return self.seat is not None and self.user is None

    def give_back(self) -> None:
        """The row is over."""
        self.user = None
        for scope in self.waiting:
            scope.cancel()

    def close(self) -> Worker | None:
        """The member has ended. Returns whose row still uses the slot, and keeps it."""
        self.seat = None
        return self.user


def tokens(size: object) -> int | float:
    """A user's size as a number of tokens."""
    if size is None:
        return math.inf
    if isinstance(size, trio.CapacityLimiter):
        raise TypeError("a pool keeps its limiter: set the size to an int, or make a new pool")
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(
            f"a pool's size is an int, None for no limit, or a trio.CapacityLimiter, not {size!r}"
        )
    if size < 0:
        raise ValueError(f"a pool's size cannot be negative: {size}")
    return size
