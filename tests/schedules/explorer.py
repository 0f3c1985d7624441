"""Many runs of a scenario: in which settings, with which strikes, and what is said of a failure."""

import gc
import os
import random
from collections import Counter
from itertools import cycle, islice

import attrs
import pytest

from schedules.looking import is_interruptible
from schedules.run import Run, Strike

SCALE = float(os.environ.get("TRIOPOOL_SCHEDULES", "1"))
REPLAY = os.environ.get("TRIOPOOL_REPLAY")


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
        if REPLAY:
            self.replay(scenarios, settings)
            return
        self.totals["scenarios"] += 1
        failed = []
        points = []
        chance = random.Random(self.nodeid)
        tracing = any(moment == "line" for _, moment in strikes)
        settings = chance.sample(settings, min(len(settings), max(1, int(kinds * SCALE))))
        for setting in settings:
            for seed in range(max(1, int(seeds * SCALE))):
                calm = Run(scenarios, setting, seed, tracing=tracing)
                failed += self.play(calm, "schedules")
            points += self.points(calm, strikes)
        chance.shuffle(points)
        if tracing:
            points = self.new_lines_first(points)
        for setting, strike, line in islice(cycle(points), int(runs * SCALE)):
            self.known_lines.add(line)
            more = [other[1] for other in points if other[0] is setting and together > 1]
            strikes = strike, *chance.sample(more, min(together - 1, len(more)))
            # Another order each time
            run = Run(scenarios, setting, chance.randrange(10_000), strikes, tracing)
            failed += self.play(run, " and ".join(f"{s.deed} at a {s.moment}" for s in strikes))
            if len(failed) >= 3:
                break
        if failed:
            pytest.fail("\n\n".join(failed), pytrace=False)

    @staticmethod
    def points(calm, strikes):
        """All moments of a run at which something can strike."""
        moments = {
            "step": range(calm.steps),
            "probe": range(calm.probes),
            "line": [at for at, line in enumerate(calm.lines) if is_interruptible(*line)],
        }
        return [
            (calm.setting, Strike(deed, moment, at + 1), calm.lines[at] if calm.lines else None)
            for deed, moment in strikes
            for at in moments[moment]
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
        name, seed, *strikes = REPLAY.split()
        for setting in settings:
            if setting.name == name:
                run = Run(
                    scenarios,
                    setting,
                    int(seed.removeprefix("seed=")),
                    tuple(map(Strike.parse, strikes)),
                    tracing=any("@line" in text for text in strikes),
                )
                if failed := self.play(run, "replays"):
                    pytest.fail(failed[0], pytrace=False)


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
