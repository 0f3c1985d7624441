"""One run of a scenario, in one setting and order, with a strike at one moment or none."""

import os
import sys
import traceback
import warnings
from pathlib import Path

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import triopool
from schedules.actor import Actor
from schedules.books import Books, leaves
from schedules.looking import counted, described, end, leftovers, listening, tree
from schedules.order import seeded
from schedules.strikes import Strike

FAR = 10_000  # seconds of the mock clock; a scenario lasts some tens
MANY = 20_000  # steps; a scenario has some hundreds
HERE = str(Path(triopool.__file__).parent) + os.sep


async def use(actor):
    """Use a pool on which others have been before."""
    pool = actor.pool
    await pool.join()
    actor.want((len(pool), pool.limiter.borrowed_tokens), (0, 0))
    counts = counted(pool)
    counts.pop("iterators", None)  # which may be open still
    actor.want(counts, {})
    if not actor.books.slotless:
        actor.want(actor.books.running(), [])
    x, *xs = actor.new(4)
    actor.saw(await pool.apply(actor.work, (x,)))
    actor.saw_all(await pool.map(actor.work, xs), xs)
    x, *xs = actor.new(3)
    task = actor.own(pool.apply_async(actor.work, (x,)), x)
    await actor.read(pool.imap(actor.work, xs), xs)
    actor.saw(await task)


async def use_threads(actor):
    pool = actor.pool
    await pool.join()
    actor.want((len(pool), actor.books.running()), (0, []))
    x, *xs = actor.new(4)
    actor.saw(await pool.apply(actor.sync_work, (x,)))
    actor.saw_all(await pool.map(actor.sync_work, xs), xs)


@attrs.frozen
class Setting:
    """A kind and size of pool. A size of 0 is set to 1 after a second."""

    name: str
    make: object = attrs.field(eq=False)
    use: object = attrs.field(default=use, eq=False)  # a scenario for what is still open at the end
    threads: bool = False

    @property
    def clock(self):
        # While threads work the clock must stand still, unless all hangs.
        return MockClock(autojump_threshold=60 if self.threads else 0)


@attrs.define(eq=False)
class Run(trio.abc.Instrument):
    """A scenario, or several at once, played one time."""

    scenarios: tuple
    setting: Setting
    seed: int = 0
    strikes: tuple[Strike, ...] = ()
    tracing: bool = False

    steps: int = 0
    probes: int = 0
    lines: list = attrs.field(factory=list)
    done: list[Strike] = attrs.field(factory=list)  # of the strikes
    pool: object = None
    books: Books = attrs.field(factory=Books)
    actors: list[Actor] = attrs.field(factory=list)
    main_task: object = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    left: BaseException | None = None  # what has left the pool
    hung: str = ""

    def __str__(self):
        return " ".join([self.setting.name, f"seed={self.seed}", *map(str, self.strikes)])

    @property
    def deeds(self):
        """What has been done."""
        return [strike.deed for strike in self.done]

    # The moments

    def before_task_step(self, task):
        if self.main_task is None:
            return
        self.steps += 1
        if self.steps > MANY:
            self.hang("it is busy for ever")
            if self.steps > 2 * MANY and task in tree(self.main_task):
                end(task)
        self.moment("step", self.steps, task)

    def probe(self, actor):
        """A line of the user's code runs."""
        self.probes += 1
        self.moment("probe", self.probes, actor)

    def moment(self, moment, at, who):
        for strike in self.strikes:
            if (strike.moment, strike.at) == (moment, at) and strike not in self.done:
                self.done.append(strike)
                strike.strike(self, who)

    def tracer(self):
        """A trace function that notes each line of the package. It is called very often."""
        lines = self.lines
        strike_at = {strike.at for strike in self.strikes if strike.moment == "line"}

        def in_package(frame, event, _):
            if event == "line":
                lines.append((frame.f_code, frame.f_lineno))
                if len(lines) in strike_at:
                    self.moment("line", len(lines), frame)
            return in_package

        def anywhere(frame, *_):
            return in_package if frame.f_code.co_filename.startswith(HERE) else None

        return anywhere

    # Whom it hits

    def hit_all(self):
        self.books.down = True
        self.hit_actors()

    def hit_actors(self):
        for actor in self.actors:
            actor.hit = True

    # One time

    def play(self):
        """Run it, and return all that is wrong."""
        error = None
        before = sys.gettrace()
        with (
            seeded(self.seed),
            warnings.catch_warnings(record=True) as warned,
            listening() as (records, unraisable),
        ):
            warnings.simplefilter("always")
            # That is what the strike did. The warning would keep the iterator, too.
            warnings.filterwarnings("ignore", ".* was dropped before it was read", ResourceWarning)
            if self.tracing:
                # Python itself may handle a signal between a call and its `await`.
                warnings.filterwarnings("ignore", "coroutine '.*' was never awaited")
                sys.settrace(self.tracer())
            try:
                trio.run(self.main, clock=self.setting.clock, instruments=[self])
            except BaseException as raised:
                error = raised
            finally:
                if self.tracing:
                    sys.settrace(before)
            self.main_task = None
            wrong = [self.hung] if self.hung else self.verdict(error, records)
            error = self.left = self.pool = None
            self.actors.clear()
            records.clear()
            self.books.forget()
            wrong += leftovers()
        wrong += [f"a warning: {each.message}" for each in warned]
        wrong += [f"unraisable: {each}" for each in unraisable]
        return wrong

    async def main(self):
        trio.lowlevel.spawn_system_task(self.watch)
        self.main_task = trio.lowlevel.current_task()
        self.actors += [Actor(name, self) for name, _ in zip("abc", self.scenarios, strict=False)]
        self.pool = self.setting.make()
        self.books.watch(self.pool)
        if self.pool.limiter.total_tokens == 0:
            trio.lowlevel.spawn_system_task(self.let_in, self.pool)
        try:
            with self.scope:
                async with self.pool:
                    # A thread pool may have got another one.
                    self.books.limiters[:] = [self.pool.limiter]
                    await self.play_all()
        except BaseException as error:
            self.left = error
            raise

    async def play_all(self):
        if len(self.actors) == 1:
            await self.actors[0].play(self.scenarios[0])
        else:
            self.books.nurseries = True
            async with trio.open_nursery() as nursery:
                for actor, scenario in zip(self.actors, self.scenarios, strict=True):
                    nursery.start_soon(actor.play, scenario)
        if not self.books.down:
            await self.use_again()

    async def let_in(self, pool):
        if self.setting.threads:  # which work while the clock stands still
            await wait_all_tasks_blocked()
            pool.maxsize = 1
        else:
            await trio.sleep(1)
            if pool.limiter.total_tokens == 0:
                pool.size = 1

    async def use_again(self):
        """The pool still works, whatever has become of the calls before."""
        self.actors.append(actor := Actor("after", self))
        await actor.play(self.setting.use)

    async def watch(self):
        """Nothing takes that long."""
        await trio.sleep(FAR)
        self.hang("it hangs")
        while True:
            await trio.sleep(FAR)
            for task in list(tree(self.main_task)):  # which have not heard the cancellation
                if not any(nursery.child_tasks for nursery in task.child_nurseries):
                    end(task)
                    trio.lowlevel.reschedule(task)

    def hang(self, what):
        if not self.hung:
            self.hung = f"{what}:\n{described(trio.lowlevel.current_root_task())}"
            self.scope.cancel(reason=what)

    # What is wrong

    def verdict(self, error, records):
        """Compare what came out with what is in the books."""
        ends = list(leaves(error))
        if error is not self.left:  # Ctrl-C came later, and takes the place of any other error
            ends += leaves(self.left)
        wrong = list(
            self.books.balance(self.deeds, ends, [record.exc_info[1] for record in records])
        )
        if records and not self.books.logs:
            wrong += [f"logged: {record.getMessage()}" for record in records]
        for deed, kind in (("interrupt", KeyboardInterrupt), ("exit", SystemExit)):
            # Who waits for the very call that raised it, outside of the pool, gets the same one.
            count = len({id(end) for end in ends if isinstance(end, kind)})
            wanted = self.deeds.count(deed)
            if not min(wanted, 1) <= count <= wanted:  # one may take the place of another
                wrong.append(f"{count} {kind.__name__}s came out")
            bare = error is not None and error is ends[0]
            if [deed] == self.deeds and len(ends) == 1 and not self.books.nurseries and not bare:
                wrong.append(f"the {kind.__name__} came out in a group")
        allowed = KeyboardInterrupt | SystemExit | self.books.error_class
        if self.books.down and self.books.nurseries:
            # In a user's nursery are those, too, who have waited outside of a pool.
            allowed |= triopool.TaskKilled | trio.ClosedResourceError
        if not all(isinstance(end, allowed) for end in ends) or (wrong and error is not None):
            wrong.append("".join(traceback.format_exception(error)))
        return wrong
