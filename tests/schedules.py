"""Every schedule: a scenario runs again and again, and each time something else strikes it.

A *scenario* is an async function that uses the public API. It is played once for each *setting* (a
kind and size of pool) to count its moments, and then once more for each of them, with a *strike* at
that very moment: a cancellation, Ctrl-C, or an error. The books that it kept must balance after
each (see `books`). All of it runs under a mock clock, and in an order that comes from a seed.

``TRIOPOOL_SCHEDULES=n`` tries n times as much as the default does. What failed names itself, as in
``Pool-2 seed=3 pool@step17``; the same test alone, with that in ``TRIOPOOL_REPLAY``, repeats it.
"""

import contextlib
import functools
import gc
import importlib.metadata
import linecache
import logging
import os
import random
import re
import signal
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import attrs
import hypothesis
import outcome
import pytest
import trio
from books import Actor, Books, leaves
from trio.testing import MockClock

import triopool

SCALE = float(os.environ.get("TRIOPOOL_SCHEDULES", "1"))
REPLAY = os.environ.get("TRIOPOOL_REPLAY")

FAR = 10_000  # seconds of the mock clock; a scenario lasts some tens
MANY = 20_000  # steps; a scenario has some hundreds
HERE = str(Path(triopool.__file__).parent) + os.sep
# The end of a block shows as this line once more; no signal is handled between it and `__exit__`.
WITH = re.compile(r"\s*(async )?with\b").match


# The order


@functools.cache
def shuffler():
    """Trio's source of randomness.

    There is no public name for it. But Trio hands it to hypothesis, for the very purpose of making
    its schedules repeatable, through an entry point, which this plays the other side of. From then
    on each batch is sorted before it is shuffled.
    """
    handed = []
    entries = importlib.metadata.entry_points(group="hypothesis", name="trio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hypothesis, "register_random", handed.append)
        for entry in entries:
            entry.load()()
    if [type(each) for each in handed] != [random.Random]:
        pytest.fail(f"Trio hands hypothesis no longer its one source of randomness, but {handed}")
    return handed[0]


@contextlib.contextmanager
def seeded(seed):
    """Have Trio shuffle as this seed says. (What a set of Trio's has in it comes in any order.)"""
    before = shuffler().getstate()
    shuffler().seed(seed)
    try:
        yield
    finally:
        shuffler().setstate(before)


# What strikes, and when


@attrs.frozen
class Strike:
    """A deed at a moment.

    Moments: before a ``step`` of any Trio task, in a ``probe``, which is where the user's code is
    run (calls, inputs, links and callbacks), or at a ``line`` of the package.
    """

    deed: str
    moment: str
    at: int

    def __str__(self):
        return f"{self.deed}@{self.moment}{self.at}"

    @classmethod
    def parse(cls, text):
        deed, moment, at = re.fullmatch(r"(\w+)@([a-z]+)(\d+)", text).groups()
        return cls(deed, moment, int(at))


@attrs.frozen
class Setting:
    """A kind and size of pool. A size of 0 is set to 1 after a second."""

    name: str
    make: object = attrs.field(eq=False)
    threads: bool = False
    logs: bool = False  # errors go to the log

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
    strike: Strike | None = None
    tracing: bool = False

    steps: int = 0
    probes: int = 0
    lines: list = attrs.field(factory=list)
    struck: bool = False
    busy: bool = False  # in an instrument
    pool: object = None
    books: Books = attrs.field(factory=Books)
    actors: list[Actor] = attrs.field(factory=list)
    main_task: object = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    left: BaseException | None = None  # what has left the pool
    hung: str = ""

    def __str__(self):
        strike = "" if self.strike is None else f" {self.strike}"
        return f"{self.setting.name} seed={self.seed}{strike}"

    @property
    def deed(self):
        return "" if self.strike is None else self.strike.deed

    # The moments

    def before_task_step(self, task):
        if self.main_task is None:
            return
        self.steps += 1
        if self.steps > MANY:
            self.hang("it is busy for ever")
            if self.steps > 2 * MANY:
                signal.raise_signal(signal.SIGINT)
        self.moment("step", self.steps, task)

    def probe(self, actor):
        """A line of the user's code runs."""
        self.probes += 1
        self.moment("probe", self.probes, actor)

    def moment(self, moment, at, who):
        strike = self.strike
        if strike is not None and not self.struck and (strike.moment, strike.at) == (moment, at):
            self.struck = True
            deed = getattr(self, f"do_{strike.deed}")
            if trio.lowlevel.in_trio_run() or strike.deed == "raise":
                deed(who)
            else:  # in a call of a thread
                trio.from_thread.run_sync(deed, who)

    def trace(self, frame, event, _):
        file = frame.f_code.co_filename
        if not file.startswith(HERE):
            return None
        if event == "line" and not is_with(file, frame.f_lineno):
            self.lines.append((file, frame.f_lineno))
            self.moment("line", len(self.lines), frame)
        return self.trace

    # The deeds

    def do_caller(self, who):
        actor = who if isinstance(who, Actor) else self.actors[self.strike.at % len(self.actors)]
        actor.hit = True
        actor.scope.cancel(reason="the strike")

    def do_pool(self, _):
        self.hit_all()
        with contextlib.suppress(RuntimeError):  # it was not entered yet
            self.pool.cancel_scope.cancel(reason="the strike")

    def do_kill(self, _):
        """Kill one of the calls: which one depends on the moment."""
        tasks = list(dict.fromkeys([*self.pool, *(task for task, _ in self.books.tasks)]))
        tasks = [task for task in tasks if not task.ready() and task.status.name != "UNSTARTED"]
        if tasks:
            victim = tasks[self.strike.at % len(tasks)]
            owner = self.books.owner(victim)
            if owner is None:
                self.hit_actors()
            else:
                owner.hit = True
            victim.kill_nowait(reason="the strike")

    def do_killall(self, _):
        with contextlib.suppress(RuntimeError, trio.ClosedResourceError):
            self.pool.kill_nowait(reason="the strike")
        self.hit_actors()

    def do_interrupt(self, _):
        self.hit_all()
        sys.settrace(None)
        signal.raise_signal(signal.SIGINT)

    def do_raise(self, actor):
        actor.hit = True
        raise self.books.error("the strike", actor)

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
                sys.settrace(self.trace)
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
        self.books.limiters.append(self.pool.limiter)
        if self.pool.limiter.total_tokens == 0:
            trio.lowlevel.spawn_system_task(self.let_in, self.pool)
        try:
            with self.scope:
                async with self.pool:
                    await self.play_all()
        except BaseException as error:
            self.left = error
            raise

    async def play_all(self):
        if len(self.actors) == 1:
            await self.actors[0].play(self.scenarios[0])
        else:
            async with trio.open_nursery() as nursery:
                for actor, scenario in zip(self.actors, self.scenarios, strict=True):
                    nursery.start_soon(actor.play, scenario)
        if not self.books.down:
            await self.use_again()

    @staticmethod
    async def let_in(pool):
        await trio.sleep(1)
        if pool.limiter.total_tokens == 0:
            pool.size = 1

    async def use_again(self):
        """The pool still works, whatever has become of the calls before."""
        self.actors.append(actor := Actor("after", self))
        await actor.play(use_threads if self.setting.threads else use)

    async def watch(self):
        """Nothing takes that long."""
        await trio.sleep(FAR)
        self.hang("it hangs")
        await trio.sleep(FAR)
        for task in tree(trio.lowlevel.current_root_task()):
            # Not even the cancellation was heard.
            if task.child_nurseries == [] and task is not trio.lowlevel.current_task():
                with contextlib.suppress(AssertionError, RuntimeError):
                    trio.lowlevel.reschedule(task, outcome.Error(KeyboardInterrupt()))

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
        wrong = list(self.books.balance(ends, [record.exc_info[1] for record in records]))
        if records and not self.setting.logs:
            wrong += [f"logged: {record.getMessage()}" for record in records]
        interrupts = sum(isinstance(end, KeyboardInterrupt) for end in ends)
        if interrupts != (self.struck and self.deed == "interrupt"):
            wrong.append(f"{interrupts} KeyboardInterrupts came out")
        allowed = (KeyboardInterrupt, self.books.error_class)
        if not all(isinstance(end, allowed) for end in ends) or (wrong and error is not None):
            wrong.append("".join(traceback.format_exception(error)))
        return wrong


async def use(actor):
    """Use a pool on which others have been before."""
    pool = actor.pool
    await pool.join()
    actor.want(pool.limiter.borrowed_tokens, 0)
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
    x, *xs = actor.new(4)
    actor.saw(await pool.apply(actor.sync_work, (x,)))
    actor.saw_all(await pool.map(actor.sync_work, xs), xs)


@functools.cache
def is_with(file, line):
    return bool(WITH(linecache.getline(file, line)))


@contextlib.contextmanager
def listening():
    """Hear what is logged, and what Python cannot raise. No garbage is collected meanwhile."""
    records = []
    unraisable = []

    class Ear(logging.Handler):
        def emit(self, record):
            records.append(record)

    def hear(args):
        told = "".join(traceback.format_exception(args.exc_value))
        unraisable.append(f"{args.err_msg} {args.object!r}: {told}")

    ear = Ear()
    loggers = [logging.getLogger("triopool"), logging.getLogger("trio")]
    hook, sys.unraisablehook = sys.unraisablehook, hear
    for logger in loggers:
        logger.addHandler(ear)
    gc.disable()
    try:
        yield records, unraisable
    finally:
        gc.enable()
        for logger in loggers:
            logger.removeHandler(ear)
        sys.unraisablehook = hook


def leftovers():
    """Objects of the package that live on in the garbage collector, and workers in its registry."""
    gc.collect()
    ours = classes(sum(name.startswith("triopool") for name in sys.modules))
    kinds = Counter(type(each).__name__ for each in gc.get_objects() if type(each) in ours)
    gc.freeze()  # what is there now is not looked at again
    workers = len(triopool._inside.WORKERS)
    wrong = [f"left behind: {dict(kinds)}"] if kinds else []
    return wrong + [f"{workers} workers in the registry"] * bool(workers)


@functools.cache
def classes(_):
    """The classes of the package, as far as its modules are loaded."""
    modules = [module for name, module in sys.modules.items() if name.startswith("triopool")]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    return {each for each in found if each.__module__.startswith("triopool")}


def tree(task):
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from tree(child)


def described(root):
    """All Trio tasks, and where each of them is."""
    told = []
    for task in tree(root):
        at = [f"{Path(f.f_code.co_filename).name}:{n}" for f, n in task.iter_await_frames()]
        told.append(f"  {task.name}: {' > '.join(at[-6:])}")
    return "\n".join(told)


# Many times


@attrs.define(eq=False)
class Explorer:
    """Plays scenarios in many settings, with strikes of some kinds.

    In what order they are tried comes from the name of the test, so that the tests together see all
    kinds of moments even where each can try but a few.
    """

    nodeid: str
    totals: Counter
    known_lines: set

    def __call__(self, *scenarios, settings, strikes=(), runs=20, seeds=1):
        """Play them as ``strikes`` says: pairs of deed and moment.

        ``runs`` are tried by default; ``seeds`` without a strike are besides, in each setting.
        """
        if REPLAY:
            self.replay(scenarios, settings)
            return
        self.totals["scenarios"] += 1
        failed = []
        points = []
        chance = random.Random(self.nodeid)
        tracing = any(moment == "line" for _, moment in strikes)
        if tracing:  # which takes its time
            settings = chance.sample(settings, min(len(settings), max(1, int(SCALE))))
        for setting in settings:
            for seed in range(max(1, int(seeds * SCALE))):
                calm = Run(scenarios, setting, seed, tracing=tracing)
                failed += self.play(calm, "schedules")
            points += self.points(calm, strikes)
        chance.shuffle(points)
        if tracing:
            points = self.new_lines_first(points)
        for setting, strike, line in points[: int(runs * SCALE)]:
            self.known_lines.add(line)
            # Another order each time
            run = Run(scenarios, setting, chance.randrange(10_000), strike, tracing)
            failed += self.play(run, f"strikes: {strike.deed} at a {strike.moment}")
            if len(failed) >= 3:
                break
        if failed:
            pytest.fail("\n\n".join(failed), pytrace=False)

    @staticmethod
    def points(calm, strikes):
        """All moments of a run at which something can strike."""
        counts = {"step": calm.steps, "probe": calm.probes, "line": len(calm.lines)}
        return [
            (calm.setting, Strike(deed, moment, at + 1), calm.lines[at] if calm.lines else None)
            for deed, moment in strikes
            for at in range(counts[moment])
        ]

    def new_lines_first(self, points):
        """Those at lines that nothing has struck yet go first."""
        new = {line: point for *point, line in points if line not in self.known_lines}
        first = [(*point, line) for line, point in new.items()]
        return first + points

    def play(self, run, what):
        wrong = run.play()
        self.totals[what] += 1
        if not wrong:
            return []
        env = f"TRIOPOOL_REPLAY='{run}' python -m pytest '{self.nodeid}'"
        return ["\n".join([f"{run}:", *wrong, f"To see it again: {env}"])]

    def replay(self, scenarios, settings):
        name, seed, *strike = REPLAY.split()
        for setting in settings:
            if setting.name == name:
                run = Run(
                    scenarios,
                    setting,
                    int(seed.removeprefix("seed=")),
                    Strike.parse(strike[0]) if strike else None,
                    tracing=any("@line" in text for text in strike),
                )
                if failed := self.play(run, "replays"):
                    pytest.fail(failed[0], pytrace=False)


@pytest.fixture(scope="module")
def totals(request):
    """What was tried; it is told at the end of the module. What lives before it is not looked at."""
    counts = Counter()
    gc.collect()
    gc.freeze()
    yield counts
    gc.unfreeze()
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and told:
        reporter.write_line(f"\n{request.path.name}: {told}")


@pytest.fixture(scope="module")
def known_lines():
    """Lines of the package that something has struck."""
    return set()


@pytest.fixture
def explore(request, totals, known_lines):
    """`explore(scenario, settings=..., strikes=...)`: see `Explorer`."""
    return Explorer(request.node.nodeid, totals, known_lines)
