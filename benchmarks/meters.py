"""What the modules of `peers` measure with."""

import gc
import os
import sys
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # on Windows nothing here tells it
    resource = None

LONG = 1e6  # seconds: what sleeps so long is parked


def batches(n, size):
    return (range(start, min(start + size, n)) for start in range(0, n, size))


@contextmanager
def without_gc():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def memory_in_use():
    """The bytes of memory that the process has in use."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_memory()  # the same while it only grows
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_memory():
    """The most bytes of memory that the process ever had in use."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
