"""One that plays a scenario: its functions, what it saw, and what it wanted to see."""

from functools import partial

import attrs
import trio
from common import AsyncRows
from trio.lowlevel import checkpoint

import triopool
from schedules.books import Broken, Killed, leaves


@attrs.define(eq=False)
class Actor:
    """One that plays a scenario: the functions that it uses, and what it saw.

    A call is known by its number. Nothing of what it expects can be said once it was hit; but what
    others are promised holds.
    """

    name: str
    run: object = attrs.field(repr=False)
    hit: bool = False  # something struck it, or a call of its own
    reads_errors: bool = False  # those that it does not get to read are not reported
    count: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, repr=False)

    @property
    def pool(self):
        return self.run.pool

    @property
    def books(self):
        return self.run.books

    async def play(self, scenario):
        """Play, until the scope is cancelled, or the strike comes out."""
        try:
            with self.scope:
                await scenario(self)
        except (Exception, BaseExceptionGroup) as error:
            rest = [each for each in leaves(error) if not self.knows(each)]
            cancelled = [each for each in rest if isinstance(each, trio.Cancelled)]
            if rest != cancelled:
                raise
            self.books.seen += [each for each in leaves(error) if isinstance(each, Broken)]
            if cancelled:
                raise cancelled[0] from None

    async def at_once(self, *funcs):
        """Do several things in a nursery."""
        self.books.nurseries = True
        async with trio.open_nursery() as nursery:
            for func in funcs:
                nursery.start_soon(func)

    def knows(self, error):
        """Whether an error may come out of a scenario."""
        # What a reader or a waiter hears when the pool or a call was struck
        fates = triopool.TaskKilled | Killed | trio.ClosedResourceError | triopool.PoolFull
        return isinstance(error, Broken) or (self.hit and isinstance(error, fates))

    # The user's functions

    def probe(self):
        self.run.probe(self)

    def begin(self, x):
        if (self, x) in self.books.calls:
            self.books.complaints.append(f"call {self.name}{x} ran twice")
        self.books.calls[self, x] = "runs"
        self.books.check_slots()
        try:
            if self.run.seed % 3 == 1:  # a row that nobody has looked at is handled in another way
                task = triopool.current_task()
                if task is not None and (task, (self, x)) not in self.books.tasks:
                    self.books.found.append((task, (self, x)))
            self.probe()
        except BaseException:
            self.end(x, "raised")
            raise

    def end(self, x, fate):
        self.books.calls[self, x] = fate

    async def work(self, x):
        """An ordinary call."""
        return await self._work(x, checkpoint)

    async def quick(self, x):
        """A call without a checkpoint."""
        self.begin(x)
        self.end(x, "returned")
        return self, x

    async def slow(self, x):
        """A call that takes its time."""
        return await self._work(x, partial(trio.sleep, 2 + x % 3))

    async def long(self, x):
        """A call that is to be cancelled."""
        return await self._work(x, partial(trio.sleep, 100))

    async def tidy(self, x):
        """A call with a cleanup that takes its time."""
        try:
            return await self._work(x, partial(trio.sleep, 100))
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async def stubborn(self, x):
        """A call that returns all the same when it is cancelled."""

        async def sleep():
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

        return await self._work(x, sleep)

    async def fail(self, x):
        """A call that fails."""

        async def fail():
            await checkpoint()
            raise self.books.error(f"call {self.name}{x}", self)

        return await self._work(x, fail)

    async def some_fail(self, x):
        """A call that fails every other time."""
        return await (self.fail(x) if x % 2 else self.work(x))

    async def _work(self, x, wait):
        self.begin(x)
        try:
            await wait()
            self.probe()
        except BaseException as error:
            # What the interrupt of a call says is the run's to judge.
            self.end(x, "cancelled" if isinstance(error, trio.Cancelled) else "raised")
            raise
        self.end(x, "returned")
        return self, x

    def sync_work(self, x):
        """A call in a thread."""
        self.begin(x)
        self.end(x, "returned")
        return self, x

    def sync_fail(self, x):
        """A call in a thread that fails."""
        self.begin(x)
        self.end(x, "raised")
        raise self.books.error(f"call {self.name}{x}", self)

    def sync_some_fail(self, x):
        return self.sync_fail(x) if x % 2 else self.sync_work(x)

    # Inputs, links and callbacks

    def rows(self, xs):
        """An iterable that is the user's own code."""
        for x in xs:
            self.probe()
            yield x
        self.probe()

    def async_rows(self, xs):
        return AsyncRows(xs, self.probe)

    def link(self, *_):
        self.probe()

    async def async_link(self, _):
        self.probe()
        await checkpoint()
        self.probe()

    # What it sees

    def new(self, count):
        """Numbers for so many calls."""
        self.count += count
        return list(range(self.count - count, self.count))

    def own(self, task, x):
        """A task that stands for a call."""
        self.books.tasks.append((task, (self, x)))
        if self.run.seed % 3 == 2:  # for a task without a link is handled in another way
            self.books.linked[task] = 0
            task.link(self.books.hear)
        return task

    def saw(self, result):
        """A result was handed over."""
        self.books.results.append(result)
        if self.books.calls.get(result) != "returned":
            self.books.complaints.append(f"{result} came out of nothing")

    def saw_error(self, error):
        """An error was handed over, as a value, or raised."""
        if not self.knows(error):
            raise error
        if isinstance(error, Broken):
            self.books.seen.append(error)

    def saw_values(self, results):
        """Results were handed over, and errors among them."""
        for result in results:
            if isinstance(result, Exception):
                self.saw_error(result)
            else:
                self.saw(result)

    def saw_all(self, results, xs, *, ordered=True):
        """A list of results was handed over."""
        for result in results:
            self.saw(result)
        got = [x for _, x in results]
        self.want(got if ordered else sorted(got), xs)

    def want(self, actual, expected):
        """This is what it should be, if nothing has come between."""
        if not self.hit and actual != expected:
            self.books.complaints.append(f"{self.name} wanted {expected}, not {actual}")

    async def read(self, results, xs, *, ordered=True, limit=None):
        """Read an iterator to the end, over errors of its calls; ``limit`` reads only so many."""
        got = []
        kills = 0
        while limit is None or len(got) < limit:
            try:
                result = await anext(results)
            except StopAsyncIteration:
                break
            except triopool.TaskKilled:
                kills += 1  # a row, or all of it, and then this comes again and again
                if not self.hit or kills > self.count:
                    raise
                continue
            except Broken as error:
                self.saw_error(error)
                continue
            if isinstance(result, Exception):
                kills += isinstance(result, triopool.TaskKilled)
                self.saw_error(result)
                continue
            self.saw(result)
            got.append(result[1])
        if xs is not None:
            self.want(got if ordered else sorted(got), xs)
            missing = len(xs) - len(got)
            if ordered and got != [x for x in xs if x in got]:
                self.books.complaints.append(f"{got} came in another order than {xs}")
            if set(self.run.deeds) <= {"kill"} and not self.books.kills and missing > kills:
                self.books.complaints.append(f"{kills} were killed, but of {xs} only {got} came")
        return got
