"""Rule 12, at every moment: Ctrl-C comes out as one KeyboardInterrupt, and the books balance."""

import pytest
import schedules
from schedules import scenarios

totals, known_lines, explore = schedules.totals, schedules.known_lines, schedules.explore


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_ctrl_c_before_any_step_and_in_any_function_of_the_user_loses_nothing(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    strikes = (("interrupt", "step"), ("interrupt", "probe"))
    explore(scenario, settings=settings, strikes=strikes, runs=6, kinds=2)


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_ctrl_c_at_any_line_of_the_package_loses_nothing(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    explore(scenario, settings=settings, strikes=[("interrupt", "line")], runs=6, seeds=0, kinds=1)
