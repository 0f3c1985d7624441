"""Rules 2, 6 and 7, at every moment: whatever is cancelled or killed, the books balance."""

import pytest
import schedules
from schedules import scenarios

totals, known_lines, explore = schedules.totals, schedules.known_lines, schedules.explore

STRIKES = (
    ("caller", "step"),
    ("pool", "step"),
    ("kill", "step"),
    ("killall", "step"),
    ("caller", "probe"),
    ("pool", "probe"),
    ("kill", "probe"),
    ("raise", "probe"),
    ("exit", "probe"),
)


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_a_cancellation_a_kill_or_an_error_at_any_moment_loses_nothing(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    explore(scenario, settings=settings, strikes=STRIKES, runs=12, kinds=6)


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_what_strikes_while_something_else_is_cleaned_up_loses_nothing(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    explore(scenario, settings=settings, strikes=STRIKES, together=2, runs=4, kinds=2)
