"""gevent's pools.

Its `spawn` does not block while there are free slots, so it is `spawn_nowait` too.
"""

from time import process_time

import gevent
from gevent.pool import Pool
from gevent.threadpool import ThreadPool
from meters import LONG, batches, memory_in_use, without_gc


def map(call, size, n):
    Pool(size).map(call, range(n))


def map_generator(call, size, n):
    Pool(size).map(call, (item for item in range(n)))


def imap(call, size, n):
    for _ in Pool(size).imap(call, range(n), maxsize=size):
        pass


def imap_unordered(call, size, n):
    for _ in Pool(size).imap_unordered(call, range(n), maxsize=size):
        pass


def spawn(call, size, n):
    pool = Pool(size)
    for item in range(n):
        pool.spawn(call, item)
    pool.join()


def spawn_full(call, size, n):
    pool = Pool(size)

    def spawn_some(first):
        for item in range(first, n, 2 * size):
            pool.spawn(call, item)

    gevent.joinall([gevent.spawn(spawn_some, first) for first in range(2 * size)])
    pool.join()


def spawn_nowait(call, size, n):
    pool = Pool(size)
    for batch in batches(n, size):
        for item in batch:
            pool.spawn(call, item)
        pool.join()


def apply(call, size, n):
    pool = Pool(size)
    for item in range(n):
        pool.apply(call, (item,))


def apply_async(call, size, n):
    pool = Pool(size)
    for batch in batches(n, size):
        for greenlet in [pool.apply_async(call, (item,)) for item in batch]:
            greenlet.get()


def kill(call, size, n):
    with without_gc():
        pool = Pool(n)
        for _ in range(n):
            pool.spawn(gevent.sleep, LONG)
        gevent.sleep(0)
        start = process_time()
        pool.kill()
        return process_time() - start


def memory(call, size, n):
    before = memory_in_use()
    pool = Pool(n)
    for _ in range(n):
        pool.spawn(gevent.sleep, LONG)
    gevent.sleep(0)
    used = memory_in_use() - before
    pool.kill()
    return used


def thread_map(call, size, n):
    pool = ThreadPool(size)
    pool.map(call, range(n))
    pool.kill()


def thread_apply(call, size, n):
    pool = ThreadPool(size)
    for item in range(n):
        pool.apply(call, (item,))
    pool.kill()
