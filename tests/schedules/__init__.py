"""Every schedule: a scenario runs again and again, and each time something else strikes it.

A *scenario* is an async function that uses the public API. It is played once for each *setting* (a
kind and size of pool) to count its moments, and then once more for each of them, with a *strike* at
that very moment: a cancellation, Ctrl-C, or an error. The books that it kept must balance after
each (see `books`). All of it runs under a mock clock, and in an order that comes from a seed.

``TRIOPOOL_SCHEDULES=n`` tries n times as much as the default does. What failed names itself, as in
``Pool-2 seed=3 pool@step17``; the same test, with that in ``TRIOPOOL_REPLAY``, plays it and nothing
else, at any scale. Where there is nothing to play the test does not pass.
"""

from schedules.books import Broken, Killed
from schedules.explorer import REPLAY, SCALE, Explorer, explore, known_lines, totals
from schedules.run import Run, Setting, use_threads
from schedules.strikes import Strike

__all__ = [
    "REPLAY",
    "SCALE",
    "Broken",
    "Explorer",
    "Killed",
    "Run",
    "Setting",
    "Strike",
    "explore",
    "known_lines",
    "totals",
    "use_threads",
]
