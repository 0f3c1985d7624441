"""Where the rows of a map come from: iterables and async iterables, pulled lazily and in step."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Generator, Iterable
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from trio.lowlevel import disable_ki_protection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Iterators of builtin types run no code of the user's, so it does not matter which task pulls from
# them.
_BUILTIN = frozenset(
    type(iter(builtin))
    for builtin in cast(
        "tuple[Iterable[Any], ...]",
        (
            *([], (), {}, {}.values(), {}.items(), set[int](), deque[int]()),
            *("", "\u2022", b"", bytearray(), memoryview(b"")),
            *(range(0), range(1 << 80)),
        ),
    )
)

END: Final = object()


def _iterator(iterable: Any) -> Any:
    iterator = getattr(cast("Any", type(iterable)), "__aiter__", iter)
    try:
        return iterator(iterable)
    except TypeError:
        if isinstance(iterable, Iterable | AsyncIterable):
            raise
        raise TypeError(
            f"an iterable or async iterable of arguments is needed here, not {iterable!r}"
        ) from None


def _is_at_end(iterator: Any) -> bool:
    try:
        return length_hint(iterator, 1) == 0
    except OverflowError:  # there are more than can be counted
        return False


@attrs.define(eq=False)
class Inputs:
    """The iterators of one map."""

    _iterators: list[Any]
    starred: bool  # a row is a tuple of arguments, not the only one
    is_async: bool  # only `pull_async` works
    direct: bool  # whoever wants a row may pull it; otherwise one task must pull them all
    pull: Callable[[], Any]  # the next row, or StopIteration

    @classmethod
    @disable_ki_protection
    def of(cls, iterables: tuple[object, ...], starred: bool) -> Inputs:
        """Begin to iterate. Nothing is pulled yet."""
        if not iterables:
            raise TypeError("at least one iterable of arguments is needed")
        iterators = [_iterator(iterable) for iterable in iterables]
        is_async = any(not hasattr(it, "__next__") for it in iterators)
        rows: Iterator[Any] = iter(())
        if not is_async:
            rows = iterators[0] if len(iterators) == 1 else zip(*iterators, strict=False)
        return cls(
            iterators,
            starred or len(iterators) > 1,
            is_async,
            all(type(it) in _BUILTIN for it in iterators),
            rows.__next__,
        )

    def is_at_end(self) -> bool:
        """Whether it is known, without pulling, that there are no more rows."""
        return any(map(_is_at_end, self._iterators))

    async def pull_async(self) -> Any:
        """The next row, or END."""
        row: list[Any] = []
        for it in self._iterators:
            try:
                row.append(next(it) if hasattr(it, "__next__") else await anext(it))
            except (StopIteration, StopAsyncIteration):
                return END
        return tuple(row) if len(row) > 1 else row[0]

    async def aclose(self) -> None:
        """Close generators and async iterators, the others too if one of them raises.

        Other sync iterators stay as they are: a file that was passed in belongs to whoever opened
        it.
        """
        while self._iterators:
            it = self._iterators.pop()
            try:
                if hasattr(it, "aclose"):
                    await it.aclose()
                elif isinstance(it, Generator):
                    it.close()
            finally:
                if self._iterators:
                    await self.aclose()
