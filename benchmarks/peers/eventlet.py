"""eventlet's pools.

Its `spawn` does not block while there are free slots, so it is `spawn_nowait` too. Of threads it
has `tpool`: one pool for the whole process, and no map.
"""

from time import process_time

import eventlet
from eventlet import GreenPile, GreenPool, tpool
from meters import LONG, batches, memory_in_use, without_gc


def green_imap(call, size, n):
    for _ in GreenPool(size).imap(call, range(n)):
        pass


def pile(call, size, n):
    pile = GreenPile(GreenPool(size))
    for item in range(n):
        pile.spawn(call, item)
    for _ in pile:
        pass


def spawn(call, size, n):
    pool = GreenPool(size)
    for item in range(n):
        pool.spawn(call, item)
    pool.waitall()


def spawn_full(call, size, n):
    pool = GreenPool(size)

    def spawn_some(first):
        for item in range(first, n, 2 * size):
            pool.spawn(call, item)

    spawners = [eventlet.spawn(spawn_some, first) for first in range(2 * size)]
    for spawner in spawners:
        spawner.wait()
    pool.waitall()


def spawn_nowait(call, size, n):
    pool = GreenPool(size)
    for batch in batches(n, size):
        for item in batch:
            pool.spawn(call, item)
        pool.waitall()


def apply_async(call, size, n):
    pool = GreenPool(size)
    for batch in batches(n, size):
        for thread in [pool.spawn(call, item) for item in batch]:
            thread.wait()


def kill(call, size, n):
    with without_gc():
        pool = GreenPool(n)
        threads = [pool.spawn(eventlet.sleep, LONG) for _ in range(n)]
        eventlet.sleep(0)
        start = process_time()
        for thread in threads:
            thread.kill()
        pool.waitall()
        return process_time() - start


def memory(call, size, n):
    before = memory_in_use()
    pool = GreenPool(n)
    for _ in range(n):
        pool.spawn(eventlet.sleep, LONG)
    eventlet.sleep(0)
    return memory_in_use() - before


def thread_apply(call, size, n):
    tpool.set_num_threads(size)
    for item in range(n):
        tpool.execute(call, item)
    tpool.killall()
