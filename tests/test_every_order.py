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
    return list(around)[: max(1, int(schedules.SCALE))]


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_every_order_of_tasks_gives_the_same(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    explore(scenario, settings=settings, seeds=3, kinds=4)


@pytest.mark.parametrize("name", PAIRED)
def test_two_at_once_in_one_pool_do_not_touch_each_other(name, explore):
    """The one that is struck may end early, but the other must not notice."""
    one, settings = scenarios.BY_NAME[name]
    strikes = [("caller", "step"), ("kill", "step"), ("raise", "probe"), ("pool", "step")]
    for partner in partners(name):
        other, _ = scenarios.BY_NAME[partner]
        explore(one, other, settings=settings, strikes=strikes, runs=5, kinds=2)
