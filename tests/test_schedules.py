"""The harness finds what it is there for: each toy pool below has one bug, and it is found."""

import gc
import random
import sys
from collections import Counter
from functools import partial

import pytest
import schedules
import test_every_order
import trio
from schedules import Explorer, Run, Setting, Strike, explorer, order, run, scenarios
from schedules.actor import Actor
from trio.lowlevel import checkpoint

import triopool
from triopool._slots import Slots


class Toy:
    """A pool with nothing but `apply`, and without a bug."""

    def __init__(self, size=1):
        self.limiter = trio.CapacityLimiter(size)
        self.scopes = []

    async def __aenter__(self):
        self.manager = trio.open_nursery()
        self.nursery = await self.manager.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self.manager.__aexit__(*error)

    @property
    def cancel_scope(self):
        return self.nursery.cancel_scope

    def __iter__(self):
        return iter(())

    def kill_nowait(self, reason):
        for scope in self.scopes:
            scope.cancel(reason=reason)

    async def apply(self, func, x):
        async with self.limiter:
            with trio.CancelScope() as scope:
                self.scopes.append(scope)
                return await self.call(func, x)
            raise triopool.TaskKilled

    async def call(self, func, x):
        return await func(x)


class LeaksASlot(Toy):
    async def apply(self, func, x):
        await self.limiter.acquire()
        result = await func(x)
        self.limiter.release()
        return result


class LeaksASlotIfKilled(Toy):
    async def apply(self, func, x):
        seat = object()
        await self.limiter.acquire_on_behalf_of(seat)
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            result = await func(x)
        if scope.cancelled_caught:
            raise triopool.TaskKilled
        self.limiter.release_on_behalf_of(seat)
        return result


class LosesAnError(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except Exception:
            await trio.sleep_forever()


class TellsAnErrorTwice(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except Exception as error:
            self.nursery.start_soon(fail, error)
            raise


async def fail(error):
    raise error


class Hangs(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()


class IsBusy(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                while True:
                    await checkpoint()


class RunsACallTwice(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except Exception:
            return await func(x)


class MixesUpResults(Toy):
    last = None

    async def call(self, func, x):
        result = await func(x)
        last, self.last = self.last, result
        return last or result


class LetsACallLiveOn(Toy):
    async def call(self, func, x):
        trio.lowlevel.spawn_system_task(func, x)
        await checkpoint()
        raise trio.ClosedResourceError


class BreaksDown(Toy):
    """After a cancellation it is of no use any more."""

    broken = False

    async def call(self, func, x):
        if self.broken:
            raise trio.BrokenResourceError
        self.broken = True
        result = await func(x)
        self.broken = False
        return result


class SwallowsCtrlC(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except KeyboardInterrupt:
            return self, x


class SwallowsSystemExit(Toy):
    async def call(self, func, x):
        try:
            return await func(x)
        except SystemExit:
            return self, x


class Keeps(Toy):
    kept: list = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.kept.append(triopool.Task(checkpoint))


class Complains(Toy):
    async def call(self, func, x):
        func(x)
        return await func(x)


class HasARace(Toy):
    """Two that start in the same pass of the loop use one token, in one order of the two."""

    first = True

    async def apply(self, func, x):
        await checkpoint()
        if x == 0:
            self.first = False
        elif self.first:
            self.limiter.acquire_on_behalf_of_nowait(object())
        return await func(x)


async def one(actor):
    actor.books.nurseries = True  # a toy is no more than one
    [x] = actor.new(1)
    actor.saw(await actor.pool.apply(actor.work, x))


async def two(actor):
    xs = actor.new(2)
    await actor.at_once(*(partial(actor.pool.apply, actor.work, x) for x in xs))


def new_explorer(nodeid="harness"):
    return Explorer(nodeid, Counter(), set())


def explore(kind, scenario, *strikes, seeds=1):
    setting = Setting("toy", kind, use=one)
    new_explorer()(scenario, settings=[setting], strikes=strikes, runs=60, seeds=seeds)


EVERYTHING = [
    ("caller", "step"),
    ("pool", "step"),
    ("killall", "step"),
    ("interrupt", "step"),
    ("caller", "probe"),
    ("raise", "probe"),
    ("interrupt", "probe"),
    ("exit", "probe"),
]
FOUND = {
    LeaksASlot: (("caller", "step"), "slots are lost"),
    LeaksASlotIfKilled: (("killall", "step"), "slots are lost|it hangs"),
    LosesAnError: (("raise", "probe"), "lost: Broken|it hangs"),
    TellsAnErrorTwice: (("raise", "probe"), "more than once: Broken"),
    Hangs: (("caller", "step"), "it hangs"),
    IsBusy: (("pool", "step"), "it is busy for ever"),
    RunsACallTwice: (("raise", "probe"), "call a0 ran twice"),
    MixesUpResults: (("caller", "step"), "came twice"),
    LetsACallLiveOn: (("caller", "step"), "ClosedResourceError|runs for ever"),
    BreaksDown: (("caller", "step"), "BrokenResourceError"),
    SwallowsSystemExit: (("exit", "probe"), "0 SystemExits came out"),
    SwallowsCtrlC: (("interrupt", "probe"), "0 KeyboardInterrupts came out"),
    Keeps: (("caller", "step"), "left behind: .*Task"),
    Complains: (("caller", "step"), "was never awaited"),
}


@pytest.fixture(autouse=True)
def frozen(monkeypatch):
    """As `totals` does it: what lives before is not looked at."""
    monkeypatch.setattr(run, "MANY", 1_000)
    monkeypatch.setattr(explorer, "SCALE", 1)  # whatever is set
    monkeypatch.setattr(explorer, "REPLAY", None)
    gc.collect()
    gc.freeze()
    yield
    Keeps.kept.clear()
    gc.unfreeze()


def test_where_there_is_no_bug_none_is_found():
    explore(Toy, one, *EVERYTHING, seeds=3)
    explore(Toy, two, *EVERYTHING, seeds=3)


@pytest.mark.parametrize("kind", FOUND, ids=lambda kind: kind.__name__)
def test_a_planted_bug_is_found(kind):
    strike, told = FOUND[kind]
    with pytest.raises(pytest.fail.Exception, match=told):
        explore(kind, one, strike)


def test_a_slot_lost_to_ctrl_c_between_two_lines_is_found(monkeypatch):
    monkeypatch.setattr(run, "HERE", __file__)

    class LeaksBetweenLines(Toy):
        async def apply(self, func, x):
            seat = object()
            await self.limiter.acquire_on_behalf_of(seat)
            x += 0
            try:
                return await func(x)
            finally:
                self.limiter.release_on_behalf_of(seat)

    with pytest.raises(pytest.fail.Exception, match="slots are lost"):
        explore(LeaksBetweenLines, one, ("interrupt", "line"))


def test_a_bug_that_needs_one_order_of_two_tasks_is_found_and_can_be_seen_again(monkeypatch):
    with pytest.raises(pytest.fail.Exception, match="slots are lost") as failed:
        explore(HasARace, two, seeds=20)
    first = str(failed.value).partition("\n")[0].rstrip(":")
    version = f"3.{sys.version_info.minor}"
    assert f"TRIOPOOL_REPLAY='{first}' nox -s tests-{version} -- 'harness'" in str(failed.value)
    monkeypatch.setattr(explorer, "REPLAY", first)
    for _ in range(5):
        with pytest.raises(pytest.fail.Exception, match="slots are lost"):
            explore(HasARace, two)


def test_a_strike_can_be_seen_again(monkeypatch):
    monkeypatch.setattr(explorer, "REPLAY", "toy seed=5 caller@step3")
    with pytest.raises(pytest.fail.Exception, match="slots are lost"):
        explore(LeaksASlot, one)
    explore(Toy, one)  # which does not


@pytest.mark.parametrize(
    ("text", "outcome", "told"),
    [
        ("Pool-2 seed=5", pytest.skip, "about another pool: nothing was played"),
        ("Pol-2 seed=5", pytest.fail, "there is no pool 'Pol-2'"),
        ("toy seed=5 caller@step1700", pytest.fail, r"nothing struck; toy had \d+ steps"),
        ("toy seed=5 caler@step3", pytest.fail, "'caler@step3' is no strike"),
        ("toy seed=5 caller@stop3", pytest.fail, "'caller@stop3' is no strike"),
        ("toy 5", pytest.fail, "is to be like 'Pool-2 seed=3 pool@step17': '5' is no seed"),
        ("toy", pytest.fail, "is to be like 'Pool-2 seed=3 pool@step17'"),
    ],
)
def test_a_replay_of_nothing_does_not_pass(text, outcome, told, monkeypatch):
    monkeypatch.setattr(explorer, "REPLAY", text)
    with pytest.raises(outcome.Exception, match=told):
        explore(Toy, one)


def test_a_replay_finds_every_pair_that_some_scale_tries(monkeypatch):
    monkeypatch.setattr(schedules, "SCALE", 5)
    tried = {name: test_every_order.partners(name) for name in test_every_order.PAIRED}
    assert {len(names) for names in tried.values()} == {5}
    monkeypatch.setattr(schedules, "SCALE", 1)
    monkeypatch.setattr(schedules, "REPLAY", "Pool-1 seed=0")
    for name, names in tried.items():
        assert set(names) <= set(test_every_order.partners(name))


def test_every_line_of_a_function_is_struck_once_and_can_be_seen_again(monkeypatch):
    monkeypatch.setattr(run, "HERE", __file__)
    tries = new_explorer()
    tries.every_line(one, Setting("toy", Toy, use=one), ["call"])
    assert tries.totals == {"schedules": 1, "interrupt at a line": 2}  # of one line, twice
    with pytest.raises(pytest.fail.Exception, match=r"no line of renamed\(\) is run"):
        tries.every_line(one, Setting("toy", Toy, use=one), ["call", "renamed"])
    monkeypatch.setattr(explorer, "REPLAY", "toy seed=0 interrupt@line9999")
    with pytest.raises(pytest.fail.Exception, match=r"nothing struck; .* [1-9]\d* lines"):
        tries.every_line(one, Setting("toy", Toy, use=one), ["call"])


def test_a_wait_that_was_cancelled_and_is_counted_for_ever_is_found(monkeypatch):
    end_wait = Slots.end_wait

    def forget(slots):
        if not isinstance(sys.exception(), trio.Cancelled):
            end_wait(slots)

    monkeypatch.setattr(Slots, "end_wait", forget)
    scenario, _ = scenarios.BY_NAME["spawn_at_once"]
    strikes = [("caller", "step")]
    with pytest.raises(pytest.fail.Exception, match=r"still counts .*'waits for a slot': 1"):
        new_explorer()(scenario, settings=[scenarios.SETTINGS["Pool-1"]], strikes=strikes)


def test_a_strike_hits_at_its_moment_and_only_once():
    seen = []

    async def scenario(actor):
        for _ in range(3):
            actor.probe()
            seen.append(actor.scope.cancel_called)
            await checkpoint()

    one_run = Run((scenario,), Setting("toy", Toy, use=one), 0, [Strike("caller", "probe", 2)])
    assert one_run.play() == []
    assert seen == [False, True]


def test_a_run_is_the_same_each_time_in_one_order_and_differs_between_orders():
    told = []

    async def tell(x):
        for _ in range(3):
            await checkpoint()
            told.append(x)

    async def scenario(_):
        async with trio.open_nursery() as nursery:
            for x in range(5):
                nursery.start_soon(tell, x)

    orders = []
    for seed in (1, 1, 2, 3):
        told.clear()
        one_run = Run((scenario,), Setting("toy", Toy, use=one), seed)
        assert one_run.play() == []
        orders.append((*told, one_run.steps))
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3


def test_the_seed_is_trios_alone_and_for_a_while(monkeypatch):
    state = random.getstate()
    before = order.shuffler().getstate()
    with order.seeded(3):
        assert order.shuffler().getstate() == random.Random(3).getstate()
    assert order.shuffler().getstate() == before
    assert random.getstate() == state


KINDS = [
    *(triopool.Group, triopool.Pool, triopool.GreenPool, triopool.ThreadPool, triopool.GreenPile),
    *(triopool.Task, triopool.GreenThread, triopool.ResultIterator, triopool.as_completed),
]


def public_code(kind):
    """{code: name} of all that one can call or read on a class."""
    found = {}
    for name in dir(kind):
        member = getattr(kind, name)
        for func in (member, getattr(member, "fget", None), getattr(member, "fset", None)):
            code = getattr(func, "__code__", None)
            if code is not None and (name[0] != "_" or name in {"__anext__", "__aexit__"}):
                found[code] = f"{kind.__name__}.{name}"
    return found


def test_every_public_method_is_in_some_scenario():
    wanted = {code: name for kind in KINDS for code, name in public_code(kind).items()}
    called = set()
    for scenario, settings in scenarios.BY_NAME.values():
        one_run = Run((scenario,), settings[-1])
        sys.setprofile(lambda frame, *_: called.add(frame.f_code))
        try:
            one_run.play()
        finally:
            sys.setprofile(None)
    assert sorted(name for code, name in wanted.items() if code not in called) == []


def test_it_says_so_if_trio_has_another_way_of_shuffling(monkeypatch):
    monkeypatch.setattr(order.importlib.metadata, "entry_points", lambda **_: ())
    with pytest.raises(pytest.fail.Exception, match="no longer its one source of randomness"):
        order.shuffler.__wrapped__()


def test_the_state_of_all_tasks_is_told_when_one_hangs():
    async def scenario(actor):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="the one that hangs")

    [told] = Run((scenario,), Setting("toy", Toy, use=one)).play()
    assert "it hangs" in told
    assert "the one that hangs: " in told
    assert "test_schedules.py" in told


def test_what_a_scenario_wants_counts_only_while_nothing_struck_it():
    actor = Actor("a", Run((), Setting("toy", Toy)))
    actor.want(1, 2)
    assert actor.books.complaints == ["a wanted 2, not 1"]
    actor.hit = True
    actor.want(1, 3)
    assert len(actor.books.complaints) == 1
