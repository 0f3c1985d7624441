"""One function over many arguments: maps and iterators, whatever the functions are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from triopool._functions import call_back, check_callback, known_as
from triopool._inputs import Inputs
from triopool._map import Map
from triopool._members import Members
from triopool._stream import ResultIterator, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from triopool.task import Task


@known_as("Pool")
class Maps(Members):
    """What a pool does with many calls of one function."""

    def _map(
        self,
        func: Callable[..., Any],
        iterables: tuple[object, ...],
        return_exceptions: bool = False,
    ) -> Map[Any]:
        inputs = self._inputs(func, iterables)
        return Map(self, func, inputs, self.task_class, return_exceptions, True)

    def _map_async(
        self, func: Callable[..., Any], iterable: object, callback: Callable[..., object] | None
    ) -> Task[Any]:
        check_callback(callback)
        series = self._map(func, (iterable,))
        series.begin()

        async def run() -> list[Any]:
            results = await series.join()
            if callback is not None:
                await call_back(callback, results)
            return results

        task = self._run_in_background(run)
        task._series = series
        return task

    def _inputs(self, func: object, iterables: tuple[object, ...], starred: bool = False) -> Inputs:
        self._check()
        self._crew.check(func)
        return Inputs.of(iterables, starred)

    def _stream(
        self,
        func: Callable[..., Any],
        iterables: tuple[object, ...],
        maxsize: int | None,
        return_exceptions: bool,
        *,
        ordered: bool,
        starred: bool = False,
    ) -> ResultIterator[Any]:
        limit = _limit(maxsize)
        inputs = self._inputs(func, iterables, starred)  # this runs code of the user's
        return self._open(func, inputs, return_exceptions, ordered, limit)

    @enable_ki_protection
    def _open(
        self,
        func: Callable[..., Any],
        inputs: Inputs,
        return_exceptions: bool,
        ordered: bool,
        maxsize: float,
    ) -> ResultIterator[Any]:
        stream: Stream[Any] = Stream(
            self,
            func,
            inputs,
            self.task_class,
            return_exceptions,
            False,
            ordered=ordered,
            maxsize=maxsize,
        )
        stream.begin()
        return ResultIterator(stream)


def _limit(maxsize: object) -> float:
    if maxsize is None:
        return math.inf
    if isinstance(maxsize, bool) or not isinstance(maxsize, int):
        raise TypeError(f"maxsize is an int, or None for no limit, not {maxsize!r}")
    if maxsize < 1:
        raise ValueError(
            f"maxsize must be at least 1, or nothing could run, not {maxsize}; None is no limit"
        )
    return maxsize
