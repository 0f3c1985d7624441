"""Random histories of a pool: after each step it is what a plain model of it says."""

import os

import hypothesis
from hypothesis.stateful import run_state_machine_as_test
from model import TaskHistories, ThreadHistories

EXAMPLES = int(os.environ.get("TRIOPOOL_MODEL_EXAMPLES", "0"))
SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    max_examples=EXAMPLES or 50,
    stateful_step_count=int(os.environ.get("TRIOPOOL_MODEL_STEPS", "40")),
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_pools_of_tasks_are_what_the_model_says():
    run_state_machine_as_test(TaskHistories, settings=SETTINGS)


def test_pools_of_threads_are_what_the_model_says():
    settings = hypothesis.settings(SETTINGS, max_examples=EXAMPLES or 20)
    run_state_machine_as_test(ThreadHistories, settings=settings)
