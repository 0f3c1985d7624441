"""Somebody who does something to a pool, perhaps waits, and gets what the model says."""

import math

import attrs
import trio

from model.parts import FAILED, SUCCEEDED


class Boom(Exception):
    """What a call fails with that is to fail; its argument is the number of the call."""


class Bang(Exception):
    """What leaves a block that is left by an exception."""


class Verdict(Exception):
    """What a kill leaves behind that was given an exception."""


def shown(outcome):
    """An outcome as a test can compare it: errors by their class, and the calls they are of."""
    if outcome is None:
        return None
    kind, value = outcome
    if isinstance(value, list):
        return kind, [shown((kind, each))[1] for each in value]
    if isinstance(value, BaseExceptionGroup):
        return kind, sorted(shown((kind, each))[1] for each in value.exceptions)
    if isinstance(value, Boom):
        return kind, f"Boom {value.args[0]}"
    if isinstance(value, BaseException):
        return kind, type(value).__name__
    return kind, value


def became(call, return_exceptions=False):
    """What whoever waits for a call gets."""
    if call.state == SUCCEEDED:
        return "value", call.number
    error = f"Boom {call.number}" if call.state == FAILED else call.verdict
    return "value" if return_exceptions else "raised", error


def became_killed(series):
    return "value" if series.return_exceptions else "raised", "TaskKilled"


DONE = "value", None
CANCELLED = "cancelled", None
FULL = "raised", "PoolFull"
LATE = "raised", "TooSlowError"
NOT_YET = "value", False
CLOSED = "raised", "ClosedResourceError"
END = "raised", "StopAsyncIteration"


@attrs.define(eq=False)
class Actor:
    """Somebody who does something to the pool, and perhaps waits, in a Trio task of his own."""

    name: str
    expect: object  # a function: what he must have got by now, None if he waits, or a choice
    cancel: object = None  # a function: what the model is to be told if he is cancelled
    of: object = None  # what he waits for
    accept: object = None  # a function that is told what he got
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    gave_up: object = None  # what he gets since he was cancelled, or his time was over
    deadline: float = math.inf
    late: object = None  # what he gets when his time is over
    outcome: object = None

    async def run(self, func, args, kwargs):
        with self.scope:
            try:
                self.outcome = "value", await func(*args, **kwargs)
            except (Exception, StopAsyncIteration) as error:
                # Its traceback would keep the pool's iterator alive.
                self.outcome = "raised", error.with_traceback(None)
        if self.scope.cancelled_caught:
            self.outcome = CANCELLED

    def check(self):
        """Returns whether he has got something."""
        expected = self.expect()
        choice = expected if isinstance(expected, list) else [expected]
        assert shown(self.outcome) in choice, (self.name, shown(self.outcome), choice)
        if self.outcome is not None and self.accept is not None:
            self.accept(shown(self.outcome))
        return self.outcome is not None
