"""Histories of pools of tasks."""

import math

from hypothesis import strategies as st
from hypothesis.stateful import initialize

from model.calls import Calls
from model.history import ON_ERROR
from model.kills import Kills
from model.maps import Maps
from model.members import Members
from model.piles import Piles
from model.plain import Model
from triopool import GreenPool, Group, Pool


class TaskHistories(Calls, Kills, Members, Maps, Piles):
    """What may happen to a Pool, a GreenPool or a Group."""

    def set_size(self, size):
        self.pool.size = size

    @initialize(
        schedule=st.random_module(),
        kind=st.sampled_from(["Pool", "Pool", "GreenPool", "Group"]),
        size=st.sampled_from([1, 2, 3, 0]),
        on_error=ON_ERROR,
        reuse_tasks=st.booleans(),
        tidy=st.sampled_from([None, 0, 1, 2]),
    )
    def open(self, schedule, kind, size, on_error, reuse_tasks, tidy):
        # Which call is released next, until all is read and released before the block is left.
        self.tidy = tidy
        how = {"on_error": self.hear if on_error == "call" else on_error}
        if kind == "GreenPool":
            self.start(GreenPool(size, **how), Model(size, on_error))
        elif kind == "Pool":
            self.start(Pool(size, reuse_tasks=reuse_tasks, **how), Model(size, on_error))
        else:
            self.start(Group(reuse_tasks=reuse_tasks, **how), Model(math.inf, on_error))
