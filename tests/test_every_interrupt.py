"""Rule 12, at every moment: Ctrl-C comes out as one KeyboardInterrupt, and the books balance."""

import pytest
import schedules
from schedules import scenarios

from triopool import Task

totals, known_lines, explore = schedules.totals, schedules.known_lines, schedules.explore


@pytest.mark.parametrize("name", scenarios.BY_NAME)
def test_ctrl_c_before_any_step_and_in_any_function_of_the_user_loses_nothing(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    strikes = (("interrupt", "step"), ("interrupt", "probe"))
    explore(scenario, settings=settings, strikes=strikes, runs=6, kinds=2)


# The end of a `with` shows as a line once more, though no signal is handled there. If one were, a
# lock would stay locked, for which threads wait.
WITHOUT_THREADS = [
    name for name, (_, kinds) in scenarios.BY_NAME.items() if not any(k.threads for k in kinds)
]


@pytest.mark.parametrize("name", WITHOUT_THREADS)
def test_ctrl_c_at_any_line_of_the_package_loses_nothing(name, explore):
    scenario, settings = scenarios.BY_NAME[name]
    explore(scenario, settings=settings, strikes=[("interrupt", "line")], runs=6, seeds=0, kinds=1)


async def wait_for_a_slot(actor):
    await actor.pool.wait_available()


async def apply(actor):
    await actor.pool.apply(actor.fail, actor.new(1))


async def get(actor):
    [x] = actor.new(1)
    await actor.own(await actor.pool.spawn(actor.fail, x), x).get()


async def look_at_the_error(actor):
    [x] = actor.new(1)
    task = actor.own(await actor.pool.spawn(actor.fail, x), x)
    await task.join()
    actor.saw_error(task.exception)


# These lost a slot, or an error that was about to be handed over.
WAITS = [
    (wait_for_a_slot, ["wait_available"]),
    (apply, ["_apply", "_result", "_outcome", "_observe"]),
    (get, ["get", "_result", "_outcome", "_observe"]),
    (look_at_the_error, ["exception", "_observe"]),
]


@pytest.mark.parametrize(("scenario", "functions"), WAITS, ids=[each.__name__ for each, _ in WAITS])
def test_ctrl_c_at_any_line_of_who_waits_loses_neither_slot_nor_error(scenario, functions, explore):
    explore.every_line(scenario, scenarios.SETTINGS["Pool-1"], functions)


async def spawn_n_in_a_member(actor):
    async def call():
        await actor.pool.spawn_n(actor.work, actor.new(1)[0])

    await actor.pool.apply(call)


def test_ctrl_c_at_any_line_of_spawn_n_in_a_member_loses_no_slot(explore):
    beginning = ["spawn_n", "_begin_or_enqueue", "_take_slot_nowait"]
    explore.every_line(spawn_n_in_a_member, scenarios.SETTINGS["GreenPool-2"], beginning)


def test_ctrl_c_at_any_line_of_a_worker_loses_no_row_without_a_word(explore):
    scenario, _ = scenarios.BY_NAME["map"]
    explore.every_line(scenario, scenarios.SETTINGS["Pool-2"], ["_work"])


async def start(actor):
    [x] = actor.new(1)
    task = actor.own(Task(actor.work, x), x)
    await actor.pool.start(task)
    await task.join()


async def spawn_nowait(actor):
    [x] = actor.new(1)
    await actor.own(actor.pool.spawn_nowait(actor.work, x), x).join()


async def fail_in_a_row(actor):
    await actor.pool.map(actor.fail, actor.new(1))


BEGINS_AND_ENDS = [
    (start, ["start"]),
    (spawn_nowait, ["_spawn_nowait"]),
    (fail_in_a_row, ["failed", "_settle"]),
]


@pytest.mark.parametrize(
    ("scenario", "functions"), BEGINS_AND_ENDS, ids=[each.__name__ for each, _ in BEGINS_AND_ENDS]
)
def test_ctrl_c_at_any_line_where_a_call_begins_or_fails_loses_nothing(
    scenario, functions, explore
):
    explore.every_line(scenario, scenarios.SETTINGS["Pool-1"], functions)
