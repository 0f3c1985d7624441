"""The scenarios: every public method of the pools, in small plays that anything may strike."""

from importlib import import_module

from schedules.run import Setting, use_threads
from triopool import GreenPool, Group, Pool, ThreadPool

POOLS = (
    Setting("Pool-0", lambda: Pool(0)),
    Setting("Pool-1", lambda: Pool(1)),
    Setting("Pool-2", lambda: Pool(2)),
    Setting("Pool-None", Pool),
    Setting("Pool-1-fresh", lambda: Pool(1, reuse_tasks=False)),
    Setting("Group", Group),
    Setting("GreenPool-1", lambda: GreenPool(1)),
    Setting("GreenPool-2", lambda: GreenPool(2)),
)
GREEN_POOLS = (
    Setting("GreenPool-0", lambda: GreenPool(0)),
    Setting("GreenPool-1", lambda: GreenPool(1)),
    Setting("GreenPool-2", lambda: GreenPool(2)),
    Setting("GreenPool", GreenPool),
)
THREADS = (
    Setting("ThreadPool-0", lambda: ThreadPool(0), use=use_threads, threads=True),
    Setting("ThreadPool-1", lambda: ThreadPool(1), use=use_threads, threads=True),
    Setting("ThreadPool-2", lambda: ThreadPool(2), use=use_threads, threads=True),
    Setting("ThreadPool-None", ThreadPool, use=use_threads, threads=True),
)
SETTINGS = {each.name: each for each in (*POOLS, *GREEN_POOLS, *THREADS)}

BY_NAME = {}  # {name: (scenario, settings)}


def on(settings):
    """Add a scenario to the list."""

    def add(scenario):
        BY_NAME[scenario.__name__] = scenario, settings
        return scenario

    return add


async def member(a, func, *args):
    """Do something in a call of the pool."""

    async def call():
        await func(*args)

    await a.pool.apply(call)


for name in ("calls", "maps", "pools", "elsewhere"):
    import_module(f"schedules.scenarios.{name}")
