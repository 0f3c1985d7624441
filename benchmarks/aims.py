"""What triopool aims at, as ratios to its peers within one run."""

from dataclasses import dataclass, replace

from peers import OURS
from points import CASES, POOLS, THREADS, Point, differing, point, shrink


@dataclass(frozen=True)
class Ratio:
    """Our figure by another: a peer's for the same point, or one for another point."""

    point: Point
    peer: str
    beside: Point

    def __str__(self):
        other = self.peer
        if self.point != self.beside:
            other = ", ".join(self.beside.settings(differing([self.point, self.beside])))
        label = CASES[self.point.case].label
        return f"{', '.join([label, *self.point.settings(self.point.unusual())])} / {other}"

    def of(self, figures):
        """The ratio in each round, or nothing if one of the two was not measured."""
        ours = figures.get((OURS, self.point), [])
        theirs = figures.get((self.peer, self.beside), [])
        return [a / b for a, b in zip(ours, theirs, strict=False) if b]


@dataclass(frozen=True)
class Aim:
    ratio: Ratio
    at_most: float


def beside(peer, point):
    return Ratio(point, peer, point)


AIMS = [
    Aim(ratio, at_most)
    for ratio, at_most in [
        (beside("gevent", point("map")), 0.25),
        (beside("asyncio", point("map")), 0.32),
        (beside("trio", point("map")), 1.6),
        (beside("gevent", point("imap")), 0.65),
        (beside("gevent", point("imap_unordered")), 0.60),
        (beside("aiometer", point("imap_unordered")), 0.20),
        (beside("trio", point("imap_unordered")), 0.72),
        (beside("eventlet", point("green_imap")), 0.45),
        (beside("gevent", point("spawn")), 0.85),
        (beside("eventlet", point("spawn")), 0.65),
        (beside("trio", point("spawn")), 1.0),
        # Always full: with one slot for one spawner, or with more spawners than slots.
        (beside("trio", point("spawn", size=1)), 1.1),
        (beside("trio", point("spawn_full")), 1.1),
        (beside("gevent", point("spawn_nowait")), 0.55),
        (beside("trio", point("kill")), 1.4),
        (beside("trio", point("memory")), 1.40),
        (Ratio(point("imap", items=300_000), OURS, point("imap", items=10_000)), 1.12),
        (beside("trio", point("import")), 1.10),
        (beside("concurrent", point("thread_map")), 0.25),
        (beside("gevent", point("thread_map")), 0.10),
        (beside("trio", point("thread_map")), 0.04),
        (beside("concurrent", point("executor_map")), 0.6),
        (beside("concurrent", point("executor_submit")), 1.15),
        (beside("trio", point("thread_apply")), 1.0),
    ]
]


def shrunk(aim):
    """The same aim for a quick run."""
    ratio = aim.ratio
    return replace(aim, ratio=Ratio(shrink(ratio.point), ratio.peer, shrink(ratio.beside)))


def guards():
    """The ratios that `check` watches: each to a peer that does not change much."""
    steady = {
        **dict.fromkeys(("imap", "apply_async"), "gevent"),
        **dict.fromkeys(("green_imap", "pile"), "eventlet"),
        **dict.fromkeys(("thread_map", "executor_map", "executor_submit"), "concurrent"),
    }
    watched = [*POOLS, *THREADS, "kill", "memory", "import"]
    # These are over in milliseconds; with more items they are steadier.
    items = dict.fromkeys(("thread_map", "executor_map"), 50_000)
    ratios = [
        beside(steady.get(name, "trio"), point(name, items=items.get(name))) for name in watched
    ]
    ratios += [beside("gevent", point("map", "none")), beside("trio", point("spawn", size=1))]
    return [*ratios, *(aim.ratio for aim in AIMS if aim.ratio.peer == OURS)]
