"""Runs programs on gevent or eventlet, whichever is named as the argument.

It reads a program a line from its standard input, and writes what has happened, as a line.
"""

import json
import os
import sys
import warnings

from oracle.plain import NOW, Boom, plain, shown

warnings.simplefilter("ignore")  # eventlet says that nobody should begin to use it

PEER = sys.argv[1]
if PEER == "gevent":
    import gevent
    from gevent.event import Event
    from gevent.pool import Group, Pool

    from oracle.threads_there import OnThreads

    gevent.get_hub().exception_stream = None  # where it prints every error of a call
    Exit = gevent.GreenletExit
    pause = gevent.sleep
else:
    import eventlet.debug
    from eventlet.event import Event as Once
    from eventlet.greenpool import GreenPile, GreenPool
    from greenlet import GreenletExit as Exit

    eventlet.debug.hub_exceptions(False)
    eventlet.greenpool.DEBUG = False
    pause = eventlet.sleep

    class Event:
        """An event as the others have one."""

        def __init__(self):
            self._once = Once()

        def set(self):
            if not self._once.ready():
                self._once.send()

        def wait(self):
            self._once.wait()


class Run:
    """One program."""

    def __init__(self, program):
        self.calls = program["calls"]
        self.gates = [Event() for _ in self.calls]
        self.handles = {}
        self.iterators = {}
        self.actors = {}
        self.stopped = set()  # of these
        self.events = []
        self.moves = 0
        self.hurried = 0  # how many do what ends by itself
        self.pool = self.make(program["kind"], program["size"])
        self.pile = None
        self.is_over = False
        self.letters = []  # what whoever has the pile is to do

    def log(self, *event):
        self.events.append(list(event))
        self.moves += 1

    def settle(self):
        """Let it all run until nothing has happened for many passes of the loop."""
        quiet = 0
        while quiet < 12 or self.hurried:
            before = self.moves
            pause(0)
            quiet = quiet + 1 if before == self.moves else 0

    def run(self, steps):
        trace = []
        for number, (name, *args) in enumerate(steps):
            if name == "cancel":
                if args[0] in self.actors:
                    self.stopped.add(args[0])
                    self.stop_actor(self.actors[args[0]])
            elif name != "nothing":
                self.actors[number] = self.spawn_actor(self.act, number, name, args)
            self.settle()
            trace.append([sorted(self.events, key=str), self.look()])
            self.events = []
        self.is_over = True
        self.stopped.update(self.actors)
        for actor in self.actors.values():
            self.stop_actor(actor)
        self.clean_up()
        self.settle()
        return trace

    def act(self, number, name, args):
        self.hurried += name in NOW
        try:
            word, kwargs = NOW.get(name, (name.replace(".", "_"), {}))
            outcome = "value", getattr(self, word)(*args, **kwargs)
        except BaseException as error:
            if number in self.stopped:
                return
            outcome = "error", error
        self.hurried -= name in NOW
        self.log("done", number, shown(outcome))

    def call(self, number):
        """What the pool is to run."""
        fate = self.calls[number]
        self.log("begin", number)
        how = "returned"
        try:
            for word, *args in fate["inside"]:
                try:
                    outcome = "value", self.inside(word, args)
                except Exit:
                    raise
                except BaseException as error:
                    outcome = "error", error
                self.log("inside", number, word, shown(outcome))
            if fate["waits"]:
                self.gates[number].wait()
            if fate["fails"]:
                how = "failed"
                raise Boom(number)
            return number
        except Exit:
            how = "killed"
            raise
        finally:
            self.log("end", number, how)

    def star(self, number, _):
        return self.call(number)

    def release(self, number):
        self.gates[number].set()

    def next(self, iterator):
        if iterator in self.iterators:
            return next(self.iterators[iterator])
        return None

    def note_link(self, *args):
        self.log("linked", args[-1])


class OnGevent(Run):
    def make(self, kind, size):
        self.strangers = []
        self.linked = {}
        return Group() if kind == "Group" else Pool(size)

    def spawn_actor(self, *args):
        return gevent.spawn(*args)

    def stop_actor(self, actor):
        actor.kill(block=False)

    def clean_up(self):
        everyone = [*self.pool, *self.handles.values(), *self.iterators.values()]
        gevent.killall(everyone, block=False)

    def look(self):
        tasks = {}
        for number, task in self.handles.items():
            good = bool(task.successful())
            tasks[number] = [bool(task.ready()), good, plain(task.value), task in self.pool]
        free = getattr(self.pool, "free_count", lambda: 1)()
        return {"tasks": tasks, "len": len(self.pool), "free": free, "full": self.pool.full()}

    def inside(self, word, args):
        if word == "apply":
            return self.pool.apply(self.call, (args[0],))
        if word == "spawn":
            self.handles[args[0]] = self.pool.spawn(self.call, args[0])
            return None
        if word == "map":
            return self.pool.map(self.call, args)
        return self.join()

    def spawn(self, number):
        self.handles[number] = self.pool.spawn(self.call, number)

    def apply(self, number):
        return self.pool.apply(self.call, (number,))

    def apply_async(self, number):
        self.handles[number] = self.pool.apply_async(self.call, (number,))

    def start(self, number, **kwargs):
        task = gevent.Greenlet(self.call, number)
        self.pool.start(task, **self.of_add(kwargs))
        self.handles[number] = task

    def map(self, numbers):
        return self.pool.map(self.call, numbers)

    def map_async(self, numbers):
        return self.pool.map_async(self.call, numbers).get()

    def imap(self, numbers, iterator, maxsize):
        self.iterators[iterator] = self.pool.imap(self.call, numbers, maxsize=maxsize)

    def imap_unordered(self, numbers, iterator, maxsize):
        self.iterators[iterator] = self.pool.imap_unordered(self.call, numbers, maxsize=maxsize)

    def get(self, number, **kwargs):
        return self.handles[number].get(**kwargs) if number in self.handles else None

    def join_task(self, number, **kwargs):
        return self.handles[number].join(**kwargs) if number in self.handles else None

    def kill_task(self, number, **kwargs):
        return self.handles[number].kill(**kwargs) if number in self.handles else None

    def killone(self, number, **kwargs):
        if number in self.handles:
            return self.pool.killone(self.handles[number], **kwargs)
        return None

    def kill(self, **kwargs):
        return self.pool.kill(**kwargs)

    def join(self, **kwargs):
        return self.pool.join(**kwargs)

    def join_raising(self):
        self.pool.join(raise_error=True)

    def wait_available(self, **kwargs):
        return self.pool.wait_available(**kwargs)

    def elsewhere(self, number):
        self.handles[number] = gevent.spawn(self.call, number)

    def add(self, number, **kwargs):
        if number in self.handles:
            self.pool.add(self.handles[number], **self.of_add(kwargs))

    def of_add(self, kwargs):
        """Nothing for a Group, which never waits."""
        return kwargs if isinstance(self.pool, Pool) else {}

    def discard(self, number):
        if number in self.handles:
            self.pool.discard(self.handles[number])

    def _link(self, number, how):
        if number in self.handles:
            callback = self.linked[number] = lambda _: self.note_link(number)
            getattr(self.handles[number], how)(callback)

    def link(self, number):
        self._link(number, "link")

    def link_value(self, number):
        self._link(number, "link_value")

    def link_exception(self, number):
        self._link(number, "link_exception")

    def unlink(self, number):
        if number in self.linked:
            self.handles[number].unlink(self.linked[number])


class OnEventlet(Run):
    def make(self, kind, size):
        return GreenPool(size)

    def spawn_actor(self, *args):
        return eventlet.spawn(*args)

    def stop_actor(self, actor):
        if not actor.dead:
            actor.kill()

    def clean_up(self):
        for gate in self.gates:
            gate.set()
        for task in self.pool.coroutines_running.copy():
            eventlet.kill(task)

    def look(self):
        pool = self.pool
        return {"running": pool.running(), "free": pool.free(), "waiting": pool.waiting()}

    def inside(self, word, args):
        if word == "join":
            return self.join()
        return getattr(self, word)(args[0])

    def spawn(self, number):
        self.handles[number] = self.pool.spawn(self.call, number)

    def spawn_n(self, number):
        self.pool.spawn_n(self.call, number)

    def imap(self, numbers, iterator, _):
        self.iterators[iterator] = self.pool.imap(self.call, numbers)

    def starmap(self, numbers, iterator, _):
        self.iterators[iterator] = self.pool.starmap(self.star, [(n, n) for n in numbers])

    def get(self, number):
        return self.handles[number].wait() if number in self.handles else None

    def kill_task(self, number):
        if number in self.handles:
            self.handles[number].kill()

    def cancel_task(self, number):
        if number in self.handles:
            self.handles[number].cancel()

    def join(self):
        self.pool.waitall()

    def resize(self, size):
        self.pool.resize(size)

    def link(self, number):
        if number in self.handles:
            self.handles[number].link(self.note_link, number)

    def unlink(self, number):
        if number in self.handles:
            self.handles[number].unlink(self.note_link, number)

    def pile_spawn(self, number):
        self.letters.append(("spawn", number))
        self.read_letters()

    def pile_next(self):
        self.letters.append(("next", None))
        self.read_letters()

    def read_letters(self):
        """One green thread does what is to be done with the pile."""
        if self.pile is None:
            self.pile = GreenPile(self.pool)
            self.spawn_actor(self.keep_pile)

    def keep_pile(self):
        done = 0
        while not self.is_over:
            if done == len(self.letters):
                pause(0)
                continue
            word, number = self.letters[done]
            try:
                if word == "spawn":
                    outcome = "value", self.pile.spawn(self.call, number)
                else:
                    outcome = "value", self.pile.next()
            except BaseException as error:
                outcome = "error", error
            self.log("pile", done, word, shown(outcome))
            done += 1


def main():
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        program = json.loads(line)
        if program["kind"] == "ThreadPool":
            kind = OnThreads
        else:
            kind = OnGevent if PEER == "gevent" else OnEventlet
        answers.write(json.dumps(kind(program).run(program["steps"])) + "\n")
        answers.flush()


main()
