"""What a run leaves behind or says aside, and where its Trio tasks are."""

import contextlib
import functools
import gc
import linecache
import logging
import re
import sys
import traceback
from collections import Counter
from pathlib import Path

from triopool import Group
from triopool._inside import WORKERS

# The end of a block shows as this line once more; no signal is handled between it and `__exit__`.
WITH = re.compile(r"\s*(async )?with\b").match


@functools.cache
def is_interruptible(code, line):
    """Whether Python handles signals before it."""
    return not WITH(linecache.getline(code.co_filename, line))


@contextlib.contextmanager
def listening():
    """Hear what is logged, and what Python cannot raise. No garbage is collected meanwhile."""
    records = []
    unraisable = []

    class Ear(logging.Handler):
        def emit(self, record):
            records.append(record)

    def hear(args):
        told = "".join(traceback.format_exception(args.exc_value))
        unraisable.append(f"{args.err_msg} {args.object!r}: {told}")

    ear = Ear()
    loggers = [logging.getLogger("triopool"), logging.getLogger("trio")]
    hook, sys.unraisablehook = sys.unraisablehook, hear
    for logger in loggers:
        logger.addHandler(ear)
        logger.propagate = False  # others would keep what they hear
    gc.disable()
    try:
        yield records, unraisable
    finally:
        gc.enable()
        for logger in loggers:
            logger.removeHandler(ear)
            logger.propagate = True
        sys.unraisablehook = hook


def leftovers():
    """Objects of the package that live on in the garbage collector, and workers in its registry."""
    gc.collect()
    ours = classes(sum(name.startswith("triopool") for name in sys.modules))
    kinds = Counter(type(each).__name__ for each in gc.get_objects() if type(each) in ours)
    gc.freeze()  # what is there now is not looked at again
    workers = len(WORKERS)
    WORKERS.clear()
    wrong = [f"left behind: {dict(kinds)}"] if kinds else []
    return wrong + [f"{workers} workers in the registry"] * bool(workers)


@functools.cache
def classes(_):
    """The classes of the package, as far as its modules are loaded."""
    modules = [module for name, module in sys.modules.items() if name.startswith("triopool")]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    return {each for each in found if each.__module__.startswith("triopool")}


def counted(pool):
    """What a pool counts as not over: nothing, while it is idle. A toy counts nothing."""
    if not isinstance(pool, Group):
        return {}
    slots, line = pool._slots, pool._line
    counts = {
        "calls": len(pool),
        "members": len(pool._members),
        "calls in the background": len(pool._background),
        "added calls": len(pool._added),
        "iterators": len(pool._series),
        "waits for a slot": slots.waiting,
        "waits for the limiter's slots": slots.queue.waiting,
        "waits that may be in vain": len(slots.tickets),
        "waits that end with the pool": len(slots._scopes),
        "calls in the line": len(line.calls),
        "who has asked": len(line.asked),
        "wanted slots": len(line),
        "who joins": len(pool._joiners),
        "busy workers": pool._busy,
        "engaged workers": pool._engaged,
        "errors that take it down": len(pool._fatal),
    }
    return {name: count for name, count in counts.items() if count}


def tree(task):
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from tree(child)


def end(task):
    """End a Trio task that ends in no other way, or so Trio finds when it resumes it."""
    with contextlib.suppress(BaseException):
        task.coro.throw(KeyboardInterrupt())


def described(root):
    """All Trio tasks, and where each of them is."""
    told = []
    for task in tree(root):
        at = [f"{Path(f.f_code.co_filename).name}:{n}" for f, n in task.iter_await_frames()]
        told.append(f"  {task.name}: {' > '.join(at[-6:])}")
    return "\n".join(told)
