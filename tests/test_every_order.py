"""Rules 4, 6 and 11, in every order: Trio shuffles its tasks, and nothing depends on how."""

import itertools
import random

import pytest
import schedules
from schedules import scenarios

totals, known_lines, explore = schedules.totals, schedules.known_lines, schedules.explore

# Each scenario beside some others in the same pool; with a larger scale, beside more of them.
PAIRED = [name for name, (_, settings) in scenarios.BY_NAME.items() if settings is scenarios.POOLS]
FAR_APART = random.Random("pairs").sample(PAIRED, len(PAIRED))


def partners(name):
    start = FAR_APART.index(name)
    around = itertools.islice(itertools.cycle(FAR_APART), start + 1, start + len(FAR_APART))
    # A replay finds the one that it is about, whatever the scale was.
    return list(around)[: None if schedules.REPLAY else max(1, int(schedules.SCALE))]


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_every_order_of_tasks_gives_the_same(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    explore(scenario, settings=settings, seeds=3, kinds=4)


@pytest.mark.parametrize(("name", "partner"), [(n, p) for n in PAIRED for p in partners(n)])
def test_two_at_once_in_one_pool_do_not_touch_each_other(name, partner, explore):
    """The one that is struck may end early, but the other must not notice."""
    one, settings = scenarios.BY_NAME[name]
    other, _ = scenarios.BY_NAME[partner]
    strikes = [("caller", "step"), ("kill", "step"), ("raise", "probe"), ("pool", "step")]
    explore(one, other, settings=settings, strikes=strikes, runs=5, kinds=2)
