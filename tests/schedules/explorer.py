"""Many runs of a scenario: in which settings, with which strikes, and what is said of a failure."""

import gc
import itertools
import os
import random
import sys
from collections import Counter

import attrs
import pytest

from schedules.looking import is_interruptible
from schedules.run import Run, Setting
from schedules.scenarios import SETTINGS
from schedules.strikes import Strike

SCALE = float(os.environ.get("TRIOPOOL_SCHEDULES", "1"))
REPLAY = os.environ.get("TRIOPOOL_REPLAY")


@attrs.frozen
class Point:
    """Something that can strike, in a setting where it does."""

    setting: Setting
    strike: Strike
    line: tuple | None  # (code, number) of the one that it strikes


@attrs.define(eq=False)
class Explorer:
    """Plays scenarios in many settings, with strikes of some kinds.

    In what order they are tried comes from the name of the test, so that the tests together see all
    kinds of moments even where each can try but a few.
    """

    nodeid: str
    totals: Counter
    known_lines: set

    def __call__(self, *scenarios, settings, strikes=(), together=1, runs=20, seeds=1, kinds=99):
        """Play them as ``strikes`` says: pairs of deed and moment; so many of them ``together``.

        So many ``runs`` with a strike are tried by default, and in each setting, or in so many
        ``kinds`` of them, so many ``seeds`` without.
        """
        tracing = any(moment == "line" for _, moment in strikes)
        if REPLAY:
            self.replay(scenarios, settings, tracing)
            return
        self.totals["scenarios"] += 1
        failed = []
        points = []
        chance = random.Random(self.nodeid)
        settings = chance.sample(settings, min(len(settings), max(1, int(kinds * SCALE))))
        for setting in settings:
            for seed in range(max(1, int(seeds * SCALE))):
                calm = Run(scenarios, setting, seed, tracing=tracing)
                failed += self.play(calm, "schedules")
            points += self.points(calm, strikes)
        chance.shuffle(points)
        points = self.new_lines_first(points)
        for point in itertools.islice(itertools.cycle(points), int(runs * SCALE)):
            self.known_lines.add(point.line)
            struck = [point.strike]
            if together > 1:
                more = [each.strike for each in points if each.setting is point.setting]
                struck += chance.sample(more, min(together - 1, len(more)))
            # Another order each time
            run = Run(scenarios, point.setting, chance.randrange(10_000), tuple(struck), tracing)
            failed += self.play(run, " and ".join(f"{s.deed} at a {s.moment}" for s in struck))
            if len(failed) >= 3:
                break
        self.tell(failed)

    def every_line(self, scenario, setting, functions):
        """Press Ctrl-C at each line of functions of the package that have these names."""
        if REPLAY:
            self.replay((scenario,), [setting], tracing=True)
            return
        calm = Run((scenario,), setting, tracing=True)
        failed = self.play(calm, "schedules")
        points = {name: [] for name in functions}
        for point in self.points(calm, [("interrupt", "line")]):
            points.get(point.line[0].co_name, []).append(point)
        failed += [f"no line of {name}() is run" for name in functions if not points[name]]
        for point in itertools.chain(*points.values()):
            run = Run((scenario,), setting, calm.seed, (point.strike,), tracing=True)
            failed += self.play(run, "interrupt at a line")
        self.tell(failed)

    @staticmethod
    def tell(failed):
        if failed:
            pytest.fail("\n\n".join(failed[:3]), pytrace=False)

    @staticmethod
    def points(calm, strikes):
        """All moments of a run at which something can strike."""
        lines = enumerate(calm.lines, 1)
        moments = {
            "step": [(at, None) for at in range(1, calm.steps + 1)],
            "probe": [(at, None) for at in range(1, calm.probes + 1)],
            "line": [(at, line) for at, line in lines if is_interruptible(*line)],
        }
        return [
            Point(calm.setting, Strike(deed, moment, at), line)
            for deed, moment in strikes
            for at, line in moments[moment]
        ]

    def new_lines_first(self, points):
        """Those at lines that nothing has struck yet go first."""
        known = {None, *self.known_lines}
        new = {point.line: point for point in points if point.line not in known}
        return [*new.values(), *points]

    def play(self, run, what):
        wrong = run.play()
        self.totals[what] += 1
        if not wrong:
            return []
        python = ".".join(map(str, sys.version_info[:2]))
        again = f"TRIOPOOL_REPLAY='{run}' nox -s tests-{python} -- '{self.nodeid}'"
        return ["\n".join([f"{run}:", *wrong, f"To see it again: {again}"])]

    def replay(self, scenarios, settings, tracing):
        """Play once more what has failed; it is no success if there is nothing to play."""
        name, seed, strikes = self.parse(REPLAY)
        known = {each.name: each for each in settings}
        if name not in known:
            if name not in SETTINGS:
                pytest.fail(f"TRIOPOOL_REPLAY: there is no pool {name!r}", pytrace=False)
            pytest.skip("TRIOPOOL_REPLAY is about another pool: nothing was played")
        run = Run(scenarios, known[name], seed, strikes, tracing)
        failed = self.play(run, "replays")
        if not failed and strikes and not run.done:
            had = f"{run.steps} steps, {run.probes} probes and {len(run.lines)} lines"
            failed = [f"TRIOPOOL_REPLAY: nothing struck; {name} had {had} here"]
        self.tell(failed)

    @staticmethod
    def parse(text):
        try:
            name, seed, *strikes = text.split()
            if not seed.startswith("seed="):
                raise ValueError(f"{seed!r} is no seed")
            return name, int(seed.removeprefix("seed=")), tuple(map(Strike.parse, strikes))
        except ValueError as error:
            example = "'Pool-2 seed=3 pool@step17'"
            pytest.fail(f"TRIOPOOL_REPLAY is to be like {example}: {error}", pytrace=False)


@pytest.fixture(scope="module")
def totals(request):
    """What was tried, to be told at the end of the module. What lives before is not looked at."""
    counts = Counter()
    gc.collect()
    gc.freeze()
    yield counts
    gc.unfreeze()
    told = "".join(f"\n{count:8} {what}" for what, count in sorted(counts.items()))
    plugins = request.config.pluginmanager
    with plugins.get_plugin("capturemanager").global_and_fixture_disabled():
        plugins.get_plugin("terminalreporter").write_line(f"\n{request.path.name}:{told}")


@pytest.fixture(scope="module")
def known_lines():
    """Lines of the package that something has struck."""
    return set()


@pytest.fixture
def explore(request, totals, known_lines):
    """`explore(scenario, settings=..., strikes=...)`: see `Explorer`."""
    return Explorer(request.node.nodeid, totals, known_lines)
