"""The order in which Trio runs its tasks, from a seed."""

import contextlib
import functools
import importlib.metadata
import random

import hypothesis
import pytest


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
