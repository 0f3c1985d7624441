"""The tests: which of them run a line, and whether one of them notices a mutant.

They run in a child of a process that has loaded all but triopool, in a copy of the project that
may be changed. The programs that some of them start run in that copy, too.
"""

import contextlib
import hashlib
import json
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import coverage
import hypothesis
import pytest
import trio  # noqa: F401  # so that no child needs to load it
from mutants import Mutant

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src", "triopool")
# They are about programs and pages, and not about the package's modules.
LEFT_OUT = {"test_benchmarks.py", "test_docs.py", "test_linkcheck.py", "test_mutation.py"}
MEMORY = 8 << 30  # bytes of addresses: what never ends may want more and more
ENDLESS = 15.0  # seconds, and ten times as long as usual: so long may one test take
IDLE = 4.0  # seconds, and four times as long as usual: so long may it leave the processor alone
PATIENT = 300.0  # seconds, while nobody knows how long it takes

# Whether a test fails is all that counts, and not with which example it does so most simply.
hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@attrs.frozen
class Test:
    """One test, as it went without a mutant."""

    name: str  # what pytest calls it
    seconds: float
    starts: bool  # programs, of which we do not know which lines they run

    @property
    def file(self) -> str:
        return self.name.partition("::")[0]

    @property
    def limit(self) -> float:
        return ENDLESS + 10 * self.seconds

    @property
    def rest(self) -> float:
        """How long it may do nothing, unless it waits for programs."""
        return math.inf if self.starts else IDLE + 4 * self.seconds


@attrs.frozen
class Outcome:
    """What became of a mutant."""

    result: str  # "killed", "hangs" or "survived"
    by: str = ""  # the test that noticed
    seconds: float = 0.0


# The copy


def test_files() -> list[str]:
    files = (ROOT / "tests").glob("test_*.py")
    return sorted(f"tests/{path.name}" for path in files if path.name not in LEFT_OUT)


def hash_of(*paths: Path) -> str:
    files = (f for path in paths for f in ([path] if path.is_file() else path.rglob("*.py")))
    found = hashlib.sha256(sys.version.encode())
    for file in sorted(files):
        found.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


def copy_to(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "_build")
    for name in ("docs", "src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", folder)


def compile_all(copy: Path) -> None:
    """Spare the children of compiling what is the same in all of them."""

    def work(reporter: Reporter) -> None:
        sys.dont_write_bytecode = False
        run_pytest(reporter, test_files(), "--collect-only")

    failed = [name for what, name, *_ in in_child(copy, work) if what == "failed"]
    if failed:
        sys.exit(f"without a mutant, these cannot be loaded: {', '.join(failed)}")


@contextlib.contextmanager
def mutated(copy: Path, mutant: Mutant) -> Iterator[None]:
    """The copy with a mutant in it."""
    path = copy / PACKAGE / mutant.module
    source = path.read_text(encoding="utf-8")
    changed = mutant.apply(source)
    compile(changed, path, "exec", dont_inherit=True)  # what is no Python kills no mutant
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    path.write_text(changed, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")


# In the child


class Reporter:
    """A plugin that chooses the tests, and tells how each goes."""

    def __init__(self, write: Callable[..., None]) -> None:
        self.write = write
        self.chosen: list[str] | None = None  # their names, in the order in which they are to run
        self.cover: coverage.Coverage | None = None
        self.starts = False

    def notice_programs(self) -> None:
        """Not with an audit hook, in which threads take turns where they must not."""
        begin = subprocess.Popen.__init__

        def notice(*args: Any, **kwargs: Any) -> None:
            self.starts = True
            begin(*args, **kwargs)

        subprocess.Popen.__init__ = notice  # type: ignore[method-assign]
        os.register_at_fork(before=lambda: setattr(self, "starts", True))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.chosen is not None:
            places = {name: place for place, name in enumerate(self.chosen)}
            items[:] = [item for item in items if item.nodeid in places]
            items.sort(key=lambda item: places[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write("failed", report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.write("failed", report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.write("begins", item.nodeid)
        self.starts = False
        if self.cover is not None:
            self.cover.switch_context(item.nodeid)
        started = time.perf_counter()
        try:
            return (yield)
        finally:
            seconds = time.perf_counter() - started
            if self.cover is not None:
                self.cover.switch_context("")
            self.write("ends", item.nodeid, round(seconds, 4), self.starts)


children = set[int]()  # the one that is running now


def end_children() -> None:
    """And all programs that they have started."""
    while children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(children.pop(), signal.SIGKILL)


@attrs.define
class Watch:
    """Whether the test that a child runs takes too long, or has gone to sleep for good."""

    child: int
    deadline: float = math.inf
    rest: float = math.inf  # seconds that it may do nothing
    spent: float = 0.0  # of the processor's time, when it was last seen to do something
    seen: float = 0.0  # when that was

    def begin(self, limit: float, rest: float) -> None:
        """A test begins."""
        self.seen = time.monotonic()
        self.deadline = self.seen + limit
        self.rest = rest

    def end(self) -> None:
        """It has ended."""
        self.deadline = self.rest = math.inf

    def hangs(self) -> bool:
        now = time.monotonic()
        spent = self.processor_time() if self.rest < math.inf else 0.0
        if spent != self.spent:
            self.spent, self.seen = spent, now
        return now >= self.deadline or now - self.seen >= self.rest

    def processor_time(self) -> float:
        """What the child has had so far, with all its threads; or the time, if nobody can say."""
        try:
            fields = Path(f"/proc/{self.child}/stat").read_text(encoding="utf-8")
        except OSError:
            return time.monotonic()
        user, system = fields.rpartition(")")[2].split()[11:13]
        return float(user) + float(system)


def in_child(
    copy: Path,
    work: Callable[[Reporter], None],
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Iterator[list[Any]]:
    """Fork a process that does some work; what it reports, until a test takes too long."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            os.setsid()
            # Whatever is said, a program that outlives its test has no terminal to say it on.
            quiet = os.open(copy / "output.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            for descriptor in (0, 1, 2):
                os.dup2(quiet, descriptor)
            sys.dont_write_bytecode = True
            os.environ |= {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
            os.environ.pop("PYTHONHASHSEED", None)
            sys.path[:0] = [str(copy / "src")]
            os.chdir(copy)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

            def write(*report: object) -> None:
                os.write(theirs, json.dumps(report).encode() + b"\n")

            reporter = Reporter(write)
            work(reporter)
            write("over")
        except BaseException as error:  # it must never get back into the parent's code
            os.write(2, repr(error).encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    os.close(theirs)
    children.add(child)
    try:
        yield from reports_of(ours, child, limits or {})
    finally:
        os.close(ours)
        end_children()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def reports_of(
    pipe: int, child: int, limits: Mapping[str, tuple[float, float]]
) -> Iterator[list[Any]]:
    rest, watch = b"", Watch(child)
    while not watch.hangs():
        ready, _, _ = select.select([pipe], [], [], 0.2)
        if ready:
            data = os.read(pipe, 1 << 16)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                report = json.loads(line)
                if report == ["over"]:
                    return
                if report[0] == "begins":
                    watch.begin(*limits.get(report[1], (PATIENT, math.inf)))
                elif report[0] == "ends":
                    watch.end()
                yield report
            if not data:
                return
        elif os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return  # a program of its own keeps the pipe open


def run_pytest(reporter: Reporter, files: Iterable[str], *options: str) -> None:
    # What is loaded already cannot be rewritten, and need not be.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-o", "faulthandler_timeout=0"]
    quiet += [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:pytest_cov",
        "--hypothesis-seed=0",
        "--hypothesis-profile=mutation",
    ]
    pytest.main(["-q", *quiet, *options, *files], plugins=[reporter])


# What the tests run


@attrs.frozen
class Record:
    """What the tests of one file do without a mutant."""

    tests: list[Test]
    lines: dict[str, dict[int, list[str]]]  # {module: {line: names of tests}}
    failed: list[str]

    def write(self, path: Path) -> None:
        """With the names of tests as numbers, for there are thousands."""
        numbers = {test.name: number for number, test in enumerate(self.tests)}
        lines = {
            module: {line: [numbers[name] for name in names] for line, names in found.items()}
            for module, found in self.lines.items()
        }
        tests = [attrs.astuple(test) for test in self.tests]
        path.write_text(json.dumps([tests, lines, self.failed]), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Record":
        rows, found, failed = json.loads(path.read_text(encoding="utf-8"))
        tests = [Test(*row) for row in rows]
        lines = {
            module: {int(line): [tests[n].name for n in ns] for line, ns in numbers.items()}
            for module, numbers in found.items()
        }
        return cls(tests, lines, failed)


def record(copy: Path, file: str) -> Record:
    """Run the tests of a file, and note which lines of the package each runs."""
    data = copy / "coverage.json"
    data.unlink(missing_ok=True)

    def work(reporter: Reporter) -> None:
        reporter.notice_programs()
        # Branches are no matter here. No file, and no settings of the project's.
        cover = coverage.Coverage(
            data_file=None, config_file=False, source=[str(copy / PACKAGE)], branch=False
        )
        cover.start()
        reporter.cover = cover
        run_pytest(reporter, [file])
        cover.stop()
        found = cover.get_data()
        lines = {
            Path(name).relative_to(copy / PACKAGE).as_posix(): found.contexts_by_lineno(name)
            for name in found.measured_files()
        }
        data.write_text(json.dumps(lines), encoding="utf-8")

    tests, failed = [], []
    for what, *report in in_child(copy, work):
        if what == "ends":
            tests.append(Test(*report))
        elif what == "failed":
            failed.append(report[0])
    if not data.exists():
        failed.append(file)
        return Record(tests, {}, failed)
    lines = {
        module: {int(line): [name for name in names if name] for line, names in found.items()}
        for module, found in json.loads(data.read_text(encoding="utf-8")).items()
    }
    return Record(tests, lines, failed)


@attrs.define
class Suite:
    """All tests, and who runs what."""

    tests: dict[str, Test] = attrs.Factory(dict)
    lines: dict[str, dict[int, set[str]]] = attrs.Factory(lambda: defaultdict(dict))

    def add(self, one: Record) -> None:
        broken = set(one.failed)
        self.tests |= {test.name: test for test in one.tests if test.name not in broken}
        for module, lines in one.lines.items():
            mine = self.lines[module]
            for line, names in lines.items():
                mine.setdefault(line, set()).update(set(names) - broken)

    def of(self, mutant: Mutant) -> list[Test]:
        """The tests that may notice a mutant in-process, the quickest first.

        What runs when a module is loaded, which some test happened to do, may be noticed by all
        that run something of the function, or of the module.
        """
        lines = self.lines.get(mutant.module, {})
        loaded = mutant.lines.isdisjoint(mutant.body)
        numbers = (mutant.body or lines) if loaded else mutant.lines
        names = set[str]().union(*(lines.get(number, ()) for number in numbers))
        found = (self.tests[name] for name in names if name in self.tests)
        return sorted((t for t in found if not t.starts), key=lambda test: test.seconds)

    def around(self, mutant: Mutant) -> list[Test]:
        """Those that run something of its module.

        In a thread that changes its trace function, some lines go unseen.
        """
        found = (self.tests[name] for name in self.depths(mutant.module) if name in self.tests)
        return sorted((t for t in found if not t.starts), key=lambda test: test.seconds)

    def depths(self, module: str) -> Counter[str]:
        """How many lines of a module each test runs."""
        return Counter(name for names in self.lines.get(module, {}).values() for name in names)

    def programs(self) -> list[Test]:
        """Those that start programs, which may run anything."""
        found = (test for test in self.tests.values() if test.starts)
        return sorted(found, key=lambda test: test.seconds)


# Mutants


def first_notice(copy: Path, tests: list[Test], patience: float = 1.0) -> Outcome:
    """Run tests until one fails or does not end."""
    limits = {test.name: (test.limit * patience, test.rest * patience) for test in tests}

    def work(reporter: Reporter) -> None:
        reporter.chosen = list(limits)
        run_pytest(reporter, sorted({test.file for test in tests}), "-x")

    running, ended = "", 0
    for what, name, *_ in in_child(copy, work, limits):
        if what == "failed":
            return Outcome("killed", name)
        if what == "begins":
            running = name
        if what == "ends":
            running = ""
            ended += 1
    if running:
        return Outcome("hangs", running)
    # No test is there when pytest itself, or the conftest, cannot even begin.
    return Outcome("survived") if ended == len(tests) else Outcome("killed", "nothing runs")


def stages(
    tests: list[Test], others: list[Test], likely: Counter[str], most: float
) -> list[list[Test]]:
    """The likeliest to notice, all that run it, and others; ``most`` seconds of all."""
    first: list[Test] = []
    seconds = 0.0
    for test in sorted(tests, key=lambda test: (-likely[test.name], test.seconds)):
        if seconds < 3:
            first.append(test)
            seconds += test.seconds
    found, known = [], set[Test]()
    for stage in (first, varied(tests), others):
        part = []
        for test in stage:
            if test not in known and most > 0:
                part.append(test)
                most -= test.seconds
        found.append(part)
        known |= set(part)
    return [stage for stage in found if stage]


def varied(tests: Iterable[Test]) -> list[Test]:
    """One of each function first, then a second: they differ in nothing but their arguments."""
    seen: Counter[str] = Counter()
    order = {}
    for test in tests:
        function = test.name.partition("[")[0]
        seen[function] += 1
        order[test] = seen[function], test.seconds
    return sorted(order, key=lambda test: order[test])


def try_mutant(
    copy: Path,
    mutant: Mutant,
    tests: list[Test],
    others: list[Test],
    likely: Counter[str],
    most: float,
) -> Outcome:
    """Whether a test notices it."""
    started = time.perf_counter()
    outcome = Outcome("survived")
    for stage in stages(tests, others, likely, most):
        with mutated(copy, mutant):
            outcome = first_notice(copy, stage)
        if outcome.result == "hangs":
            outcome = confirmed(copy, mutant, stage, outcome)
        if outcome.result != "survived":
            break
    return attrs.evolve(outcome, seconds=round(time.perf_counter() - started, 2))


def confirmed(copy: Path, mutant: Mutant, stage: list[Test], outcome: Outcome) -> Outcome:
    """Whether it was the mutant that took so long, and not a machine that is busy."""
    tests = [test for test in stage if test.name == outcome.by]
    started = time.perf_counter()
    usual = first_notice(copy, tests, patience=10)
    if usual.result == "survived" and time.perf_counter() - started < tests[0].limit / 3:
        return outcome
    with mutated(copy, mutant):
        return first_notice(copy, stage, patience=10)
