"""What can be measured: the cases, and for each the calls, the size and the number of items."""

from dataclasses import dataclass, replace

# What one second or one byte is in the unit of a case.
UNITS = {"µs": 1e6, "ms": 1e3, "KB": 1 / 1024, "MB": 1 / 1024**2}

CALLS = {
    "checkpoint": "calls of one checkpoint",
    "none": "calls that do nothing",
    "socket": "calls of one round trip to a server",
}


SETTINGS = ("call", "size", "items")


@dataclass(frozen=True)
class Case:
    label: str
    function: str  # its name in the modules of `peers`
    unit: str = "µs"
    per_item: bool = True
    calls: tuple[str, ...] = tuple(CALLS)  # the first is the default
    size: int | None = 100
    items: int = 20_000
    meter: str = "time"  # or "peak", of memory; or "import"
    fresh: bool = False  # it wants a process that has done nothing else


def in_tasks(label, function):
    return Case(label, function)


def in_threads(label, function):
    return Case(label, function, calls=("none", "socket"), size=4, items=10_000)


def of_parked(label, function, unit):
    return Case(label, function, unit, calls=(), size=None, fresh=True)


def peak(label, function):
    return Case(label, function, "MB", per_item=False, meter="peak", fresh=True)


CASES = {
    "map": in_tasks("map", "map"),
    "map_generator": in_tasks("map over a generator", "map_generator"),
    "imap": in_tasks("imap, maxsize = size", "imap"),
    "imap_unordered": in_tasks("imap_unordered, maxsize = size", "imap_unordered"),
    "green_imap": in_tasks("GreenPool.imap", "green_imap"),
    "pile": in_tasks("GreenPile", "pile"),
    "spawn": in_tasks("spawn, join", "spawn"),
    "spawn_full": in_tasks("spawn by many into a full pool", "spawn_full"),
    "spawn_nowait": in_tasks("spawn_nowait, as many as the size", "spawn_nowait"),
    "apply": in_tasks("apply, one by one", "apply"),
    "apply_async": in_tasks("apply_async, get", "apply_async"),
    "kill": of_parked("kill of a task that sleeps", "kill", "µs"),
    "memory": of_parked("memory of a task that sleeps", "memory", "KB"),
    "imap_peak": peak("imap: growth of memory", "imap"),
    "imap_unordered_peak": peak("imap_unordered: growth of memory", "imap_unordered"),
    "green_imap_peak": peak("GreenPool.imap: growth of memory", "green_imap"),
    "import": Case("import", "", "ms", False, (), None, items=3, meter="import"),
    "thread_map": in_threads("ThreadPool.map", "thread_map"),
    "thread_apply": in_threads("ThreadPool.apply, one by one", "thread_apply"),
    "executor_map": in_threads("ThreadPoolExecutor.map", "executor_map"),
    "executor_submit": in_threads("ThreadPoolExecutor.submit, result", "executor_submit"),
}


@dataclass(frozen=True)
class Point:
    """One thing to measure."""

    case: str
    call: str | None
    size: int | None
    items: int

    def __str__(self):
        return ", ".join([CASES[self.case].label, *self.settings()])

    def unusual(self):
        """Those settings that are not what the case has by default."""
        return differing([self, point(self.case)])

    def settings(self, names=SETTINGS):
        """What there is to say besides the case, or some of it."""
        items = "interpreters" if self.case == "import" else "items"
        said = {
            "call": self.call and CALLS[self.call],
            "size": self.size and f"{'threads' if self.in_threads else 'size'} {self.size:,}",
            "items": f"{self.items:,} {items}",
        }
        return [text for name, text in said.items() if text and name in names]

    @property
    def in_threads(self):
        return "checkpoint" not in CASES[self.case].calls and self.size is not None


def point(name, call=None, size=None, items=None):
    """A point whose settings are those of the case, unless they are given."""
    case = CASES[name]
    return Point(
        name,
        (call or case.calls[0]) if case.calls else None,
        size or case.size if case.size else None,
        items or case.items,
    )


def shared(points):
    """Those settings in which all of them agree."""
    return [name for name in SETTINGS if len({getattr(point, name) for point in points}) == 1]


def differing(points):
    """The other settings."""
    return [name for name in SETTINGS if name not in shared(points)]


def shrink(point):
    """What a quick run measures instead. Few parked tasks would tell nothing of their memory."""
    if CASES[point.case].fresh:
        return point
    return replace(point, items=max(point.items // 5, 1))


@dataclass(frozen=True)
class Section:
    """A table of the report: points that are measured so many times, for all peers or some."""

    title: str
    points: list[Point]
    rounds: int
    peers: tuple[str, ...] | None = None  # all


POOLS = [name for name, case in CASES.items() if "checkpoint" in case.calls and not case.fresh]
THREADS = ["thread_map", "thread_apply", "executor_map", "executor_submit"]
FEW = ("triopool", "trio", "gevent", "asyncio")

ITERATORS = ("imap", "imap_unordered", "green_imap")

# What a run measures by default: all that an aim asks for, and each other setting where it tells.
PLAN = [
    Section("Pools", [*map(point, POOLS), point("spawn", size=1)], rounds=5),
    Section("Threads", [*map(point, THREADS)], rounds=5),
    Section("Import", [point("import")], rounds=3),
    Section(
        "Parked tasks",
        [point("memory"), point("kill")],
        rounds=3,
        peers=("triopool", "trio", "gevent", "eventlet", "anyio-asyncio", "asyncio"),
    ),
    Section(
        "Calls that do nothing",
        [point(name, "none", items=10_000) for name in ("map", *ITERATORS, "spawn")],
        rounds=2,
    ),
    Section(
        "Calls to a server",
        [point(name, "socket", items=1_000) for name in ("map", *ITERATORS, "spawn", "thread_map")],
        rounds=2,
    ),
    Section(
        "Sizes",
        [
            point(name, size=size, items=10_000)
            for name in ("map", "imap_unordered", "spawn")
            for size in (1, 10, 10_000)
        ],
        rounds=2,
        peers=("triopool", "trio", "gevent", "asyncio"),
    ),
    Section(
        "Numbers of items",
        [
            point(name, items=items)
            for name in ("imap", "imap_unordered", "map")
            for items in (1_000, 10_000, 300_000)
        ],
        rounds=2,
        peers=("triopool",),
    ),
    Section(
        "A million items",
        [point("imap", items=1_000_000)],
        rounds=1,
        peers=("triopool",),
    ),
    Section(
        "Many calls in threads",
        [point(name, items=50_000) for name in THREADS],
        rounds=1,
        peers=("triopool", "trio", "concurrent"),
    ),
    Section(
        "Memory of the iterators",
        [point(f"{name}_peak", items=items) for name in ITERATORS for items in (10_000, 100_000)],
        rounds=1,
        peers=("triopool", "gevent", "eventlet"),
    ),
]


def quick(section):
    """What a quick run takes of a section; of processes of their own, only what the aims need."""
    fresh = any(CASES[point.case].fresh for point in section.points)
    peers = ("triopool", "trio") if fresh else section.peers
    return Section(section.title, [*map(shrink, section.points)], min(section.rounds, 3), peers)


LONG = ("Sizes", "A million items", "Many calls in threads", "Memory of the iterators")
QUICK = [quick(section) for section in PLAN if section.title not in LONG]
