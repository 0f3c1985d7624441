"""The process in which one peer is measured: `python worker.py gevent`.

It prints the cases that the peer can do, then reads points to measure, and prints a figure for
each, in seconds or bytes: a line of JSON every time.
"""

import gc
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from statistics import median
from time import perf_counter, process_time

import meters
from peers import PEERS
from points import CASES

# What is over sooner is measured again, some times at most, and the median counts.
LONG_ENOUGH = 0.1  # seconds
MOST_TIMES = 5

IMPORT = """
from time import process_time
start = process_time()
import {}
print(process_time() - start)
"""


def import_time(imports, interpreters):
    """The median of so many fresh interpreters, once the modules are compiled and cached."""
    program = [sys.executable, "-W", "ignore", "-c", IMPORT.format(imports)]
    once = partial(subprocess.run, program, stdout=subprocess.PIPE, text=True, check=True)
    return median(float(once().stdout) for _ in range(interpreters))


class Clock:
    """The seconds that a case takes, unless it says so itself."""

    def __init__(self, clock):
        self.clock = clock

    def start(self):
        gc.collect()
        self.started = self.clock()

    def stop(self, figure):
        return self.clock() - self.started if figure is None else figure

    def enough(self, figures):
        return len(figures) == MOST_TIMES or sum(figures) >= LONG_ENOUGH


class Gauge:
    """The bytes by which the most memory in use has grown."""

    def start(self):
        gc.collect()
        self.before = meters.peak_memory()

    def stop(self, figure):
        return meters.peak_memory() - self.before

    def enough(self, figures):
        return True


def can(module, case):
    if case.unit in {"KB", "MB"} and not meters.resource:
        return False
    return not case.function or hasattr(module, case.function)


def measure(peer, module, case, call, size, items, port):
    case = CASES[case]
    if case.meter == "import":
        return import_time(peer.imports, items)
    function = getattr(module, case.function)
    loop = import_module(f"loops.{peer.loop}")
    calls = loop if "checkpoint" in case.calls else import_module("loops.threads")
    waits = call == "socket" or "checkpoint" not in case.calls
    meter = Gauge() if case.meter == "peak" else Clock(perf_counter if waits else process_time)
    warmup = min(items // 10, 2_000) if case.function != "memory" else 0
    if call == "socket":
        connected = calls.socket(port, size)
    else:
        connected = nullcontext(call and getattr(calls, call))

    def here():
        with connected as call:
            if warmup:
                function(call, size, warmup)
            figures = []
            while not figures or not meter.enough(figures):
                meter.start()
                figures.append(meter.stop(function(call, size, items)))
            return median(figures)

    async def in_loop():
        async with AsyncExitStack() as stack:
            if hasattr(connected, "__aenter__"):
                call = await stack.enter_async_context(connected)
            else:  # it is for threads
                call = stack.enter_context(connected)
            if warmup:
                await function(call, size, warmup)
            figures = []
            while not figures or not meter.enough(figures):
                meter.start()
                figures.append(meter.stop(await function(call, size, items)))
            return median(figures)

    return loop.run(in_loop if iscoroutinefunction(function) else here)


def main():
    # What a peer prints must not get between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(value):
        print(json.dumps(value), file=replies, flush=True)

    peer = PEERS[sys.argv[1]]
    module = import_module(f"peers.{peer.module}")
    reply([name for name, case in CASES.items() if can(module, case)])
    for line in sys.stdin:
        reply(measure(peer, module, **json.loads(line)))


if __name__ == "__main__":
    main()
