"""What became of a call that did not return: was it killed, and how to raise what was kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import attrs
import trio

from triopool._exceptions import TaskKilled

if TYPE_CHECKING:
    from types import TracebackType

_HERE = str(Path(__file__).parent) + os.sep


@attrs.define(eq=False)
class Failure:
    """An error that is kept for whoever asks for it, and the traceback that it came with."""

    error: BaseException
    traceback: TracebackType | None = attrs.field(repr=False)
    # A killed call is no error: it is raised to whoever reads it, but never reported at the end.
    killed: bool = False

    def throw(self) -> NoReturn:
        """Raise the error. Raising it twice neither grows its traceback nor changes its context."""
        error = self.error
        context = error.__context__
        error.__traceback__ = self.traceback
        try:
            raise error
        finally:
            error.__context__ = context
            del self, error, context  # the traceback holds this frame

    def throw_in_iterator(self) -> NoReturn:
        """Raise the error out of ``__anext__``, where StopAsyncIteration would mean the end."""
        try:
            self.throw()
        except StopAsyncIteration as error:
            raise RuntimeError("the call raised StopAsyncIteration") from error
        finally:
            del self


def caught(error: BaseException) -> Failure:
    """Keep ``error``, without the frames of triopool that its traceback begins with.

    Those are of workers, which live on: a traceback that held one would keep what it works on
    alive, and `traceback.clear_frames` would close it.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    return Failure(error, traceback)


def sift(
    error: BaseException,
    kinds: type[BaseException] | tuple[type[BaseException], ...] = trio.Cancelled,
) -> tuple[bool, BaseException | None]:
    """Whether a cancellation left the call, and what else did."""
    if isinstance(error, kinds):
        return True, None
    if not isinstance(error, BaseExceptionGroup):
        return False, error
    group = cast("BaseExceptionGroup[BaseException]", error)
    try:
        cancelled, rest = group.split(kinds)
    except Exception:  # of the group's class, which is the user's: it can't be taken apart
        return False, group
    return (False, group) if cancelled is None else (True, rest)


def bare_cancelled(error: BaseException) -> BaseException:
    """The first `trio.Cancelled` in what is a group with one in it, or one itself."""
    while isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        error = next(each for each in inner if sift(each)[0])
    return error


def is_in(error: BaseException, others: list[BaseException]) -> bool:
    """Whether ``error`` is in ``others``, be it as part of a group, or as a copy of a group."""
    return _leaves(error) <= {leaf for other in others for leaf in _leaves(other)}


def _leaves(error: BaseException) -> set[int]:
    if not isinstance(error, BaseExceptionGroup):
        return {id(error)}
    parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return {leaf for part in parts for leaf in _leaves(part)}


def shown(error: BaseException | None) -> str:
    """An error in a word or a line; None stands for a TaskKilled."""
    if error is None:
        return "TaskKilled"
    try:
        return repr(error)
    except Exception:  # it is the user's
        return type(error).__name__


def as_verdict(exception: object) -> Exception | None:
    """What ``kill(exception)`` leaves behind; None is a TaskKilled, made when it is asked for."""
    if exception is TaskKilled:
        return None
    made: Any = exception() if isinstance(exception, type) else exception
    if not isinstance(made, Exception):
        raise TypeError(
            f"kill() takes an Exception or a class of them, not {exception!r}; how long to wait "
            "goes to timeout="
        )
    return made
