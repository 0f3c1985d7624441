"""What a history may do with many calls of one function: maps and iterators."""

import math
import warnings

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from model.actors import CLOSED, DONE, END, Actor, Boom, became, became_killed
from model.history import PICKS, SHAPES, History, is_open, when
from model.parts import FAILED, RUNNING, Call, Series
from triopool import GreenPool

# The kind of input, and whether it raises an error after its rows.
FORMS = st.sampled_from(
    [
        *[("list", False), ("generator", False), ("async", False)] * 2,
        *[("generator", True), ("async", True)],
    ]
)


class Maps(History):
    """Maps and iterators."""

    def new_series(self, shapes, form, **more):
        series = Series([], **more)
        if form[1]:
            series.flaw = Call(2000 + len(self.model.series), state=FAILED)
        fails_fast = series.is_map and not series.return_exceptions
        if series.is_map and series.flaw:
            # Whether the input or a row that fails at once is first is open.
            shapes = [("return", *shape[1:]) if shape[1] else shape for shape in shapes]
        if fails_fast and ("fail", True) in [shape[:2] for shape in shapes]:
            # Which of its rows have begun when one fails at once is open: none may matter then.
            first = [shape[:2] for shape in shapes].index(("fail", True))
            shapes = [
                ("fail" if at == first else "return", shape[1], False)
                for at, shape in enumerate(shapes)
            ]
        series.rows = [self.new_call(shape, series=series) for shape in shapes]
        self.model.series.append(series)
        return series

    def in_some_form(self, series, form):
        """The rows as a list, a generator, or an async generator, which may raise at its end."""

        def pull():
            yield from series.rows
            if series.flaw:
                self.broken.append(series)
                raise Boom(series.flaw.number)

        async def pull_async():
            for row in pull():
                await trio.lowlevel.checkpoint()
                yield row

        kind, _ = form
        return {"list": lambda: series.rows, "generator": pull, "async": pull_async}[kind]()

    @rule(shapes=st.lists(SHAPES, max_size=5), return_exceptions=st.booleans(), form=FORMS)
    @when(is_open)
    def map(self, shapes, return_exceptions, form):
        series = self.new_series(shapes, form, is_map=True, return_exceptions=return_exceptions)

        def expect():
            if not series.over:
                return None
            failure = series.failure()
            if failure and failure.state == FAILED:
                return became(failure)
            if actor.gave_up:
                return actor.gave_up
            if failure:
                return became(failure)
            if series.killed and self.left != "cancelled":
                return "raised", series.verdict
            values = "value", [became(row, return_exceptions)[1] for row in series.rows]
            if series.killed:  # or its calls, before it was
                return [("raised", series.verdict), values]
            return [values, None] if self.lingers(series) else values

        actor = Actor("map", expect, series.stop)
        series.noticed = lambda: actor.outcome is not None
        rows = self.in_some_form(series, form)
        self.act(actor, self.pool.map, self.run_call, rows, return_exceptions=return_exceptions)

    @rule(shapes=st.lists(SHAPES, max_size=4), form=FORMS)
    @when(is_open)
    def map_async(self, shapes, form):
        series = self.new_series(shapes, form, is_map=True)
        job = Call(None, state=RUNNING, whole=series)
        self.model.jobs.append(job)
        series.noticed = lambda: job.handle.ready()
        rows = self.in_some_form(series, form)

        def order():
            job.handle = self.pool.map_async(self.run_call, rows)

        self.do(order)

    @rule(
        shapes=st.lists(SHAPES, max_size=6),
        ordered=st.booleans(),
        maxsize=st.sampled_from([None, 1, 2, 3]),
        return_exceptions=st.booleans(),
        form=FORMS,
    )
    @when(is_open)
    def imap(self, shapes, ordered, maxsize, return_exceptions, form):
        limit = math.inf if maxsize is None else maxsize
        if maxsize is None and isinstance(self.pool, GreenPool):
            limit = max(1, self.model.size)
        series = self.new_series(
            shapes, form, ordered=ordered, maxsize=limit, return_exceptions=return_exceptions
        )
        rows = self.in_some_form(series, form)
        imap = self.pool.imap if ordered else self.pool.imap_unordered

        def order():
            self.streams[series] = imap(
                self.run_call, rows, maxsize=maxsize, return_exceptions=return_exceptions
            )

        self.do(order)

    def readable(self):
        """Those of them that have not come to their end."""
        return [series for series in self.unwatched() if series not in self.read_out]

    def read_all(self):
        super().read_all()
        for series in self.readable():
            self.read(self.unwatched().index(series))

    def unwatched(self):
        """The iterators that nobody reads or closes now."""
        return [s for s in self.streams if not any(actor.of is s for actor in self.actors)]

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.unwatched())
    def read(self, pick):
        series = self.pick(pick, self.unwatched())
        series.touched = series.read = True

        def expect():
            if actor.gave_up:
                return actor.gave_up
            if series.closed:
                return CLOSED
            if rows := series.results():
                return [became_result(series, row) for row in rows]
            if not series.over:
                return None
            if series.closed is None:
                return [END, CLOSED]
            if series.killed is False:
                return [END, None] if self.lingers(series) else END
            killed = "raised", series.verdict
            if series.killed is None:
                return [END, killed, CLOSED, became_killed(series)]
            if self.over:  # the calls may hear of it before the iterator does, and so may its end
                return [killed, CLOSED, became_killed(series)]
            return killed

        def cancel():
            series.read = False

        def accept(got):
            series.read = False
            if got in (END, CLOSED) or not series.results():
                self.read_out.add(series)
            if not series.closed and not actor.gave_up:
                for row in series.results():
                    if became_result(series, row) == got:
                        series.take(row)
                        break

        actor = Actor("read", expect, cancel, of=series, accept=accept)
        self.act(actor, self.streams[series].__anext__)

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.unwatched())
    def aclose(self, pick):
        series = self.pick(pick, self.unwatched())
        series.touched = True
        self.model.close_series(series)
        actor = Actor("aclose", lambda: DONE if series.over else None, of=series)
        self.act(actor, self.streams[series].aclose)

    @rule(pick=PICKS)
    @when(lambda self: is_open(self) and self.unwatched())
    def drop(self, pick):
        series = self.pick(pick, self.unwatched())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.streams.pop(series)
        wasted = len(caught) if series.touched is None else not series.touched
        assert [warning.category for warning in caught] == [ResourceWarning] * wasted
        self.model.close_series(series)
        self.do()


def became_result(series, row):
    """What the reader of an iterator gets for a row, or for the error of the input."""
    return became(row, series.return_exceptions and row is not series.flaw)
