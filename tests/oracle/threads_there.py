"""Runs the programs of `thread_programs` on gevent's threads."""

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from oracle.books import Books
from oracle.plain import shown


class OnThreads:
    """One program. It has a method for each word that a program may use."""

    def __init__(self, program):
        self.steps = program["steps"]
        self.books = Books(program, ours=False)
        self.pool = ThreadPool(program["size"])
        self.handles = {}
        self.known = [Event() for _ in program["calls"]]  # handles
        self.iterators = {}
        self.news = Event()  # for the readers

    def run(self, steps):
        trace = []
        readers = []
        for number, (name, *args) in enumerate(steps):
            self.books.note(number)
            if name in ("imap", "imap_unordered"):
                self.act(number, name, args)
                readers.append(gevent.spawn(self.keep_reading, args[1]))
            elif name == "next" and args[0] in self.iterators:
                self.news.set()
            else:
                gevent.spawn(self.act, number, name, args)
            self.settle()
            trace.append(self.books.look())
        self.books.open()
        self.settle()
        gevent.killall(readers)
        self.pool.kill()
        return self.books.sum_up(trace)

    def settle(self):
        gevent.idle()
        while not self.books.is_calm(len(self.pool), self.pool.size):
            gevent.idle()

    def act(self, number, name, args):
        try:
            outcome = "value", getattr(self, name)(*args)
        except BaseException as error:
            outcome = "error", error
        self.books.done[number] = shown(outcome)

    def keep_reading(self, iterator):
        """One greenlet reads an iterator, for two at once are another matter."""
        done = 0
        reads = self.books.reads[iterator]
        while True:
            self.news.clear()
            for number in reads[done:]:
                self.act(number, "read", [iterator])
                done += 1
            if done == len(reads):
                self.news.wait()

    def read(self, iterator):
        return next(self.iterators[iterator])

    def nothing(self, *_):
        pass

    release = open = next = nothing

    def spawn(self, number):
        self.handles[number] = self.pool.spawn(self.books.call, number)
        self.known[number].set()

    def apply(self, number):
        return self.pool.apply(self.books.call, (number,))

    def apply_async(self, number):
        back = self.books.called_back.append
        self.handles[number] = self.pool.apply_async(self.books.call, (number,), None, back)
        self.known[number].set()

    def map(self, rows):
        return self.pool.map(self.books.call, rows)

    def imap(self, rows, iterator, maxsize):
        self.iterators[iterator] = self.pool.imap(self.books.call, rows, maxsize=maxsize)

    def imap_unordered(self, rows, iterator, maxsize):
        results = self.pool.imap_unordered(self.books.call, rows, maxsize=maxsize)
        self.iterators[iterator] = results

    def get(self, number):
        self.known[number].wait()
        return self.handles[number].get()

    def get_now(self, number):
        return self.handles[number].get(timeout=0) if number in self.handles else None

    def join(self):
        return self.pool.join()

    def maxsize(self, maxsize):
        self.pool.maxsize = maxsize

    def size(self, size):
        self.pool.size = size
